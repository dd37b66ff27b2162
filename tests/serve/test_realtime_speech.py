"""The samples through a socket, by the starter: as `stt live --input` hears them, and as a file."""

from __future__ import annotations

import asyncio

import jiwer
import numpy as np
import pytest
import soundfile
import soxr

from stt.audio.microphone import Block
from stt.events import Final
from stt.streaming.replay import replayed
from stt.types import Samples
from support.loading import load_model
from support.paths import ROOT, SAMPLES
from support.realtime import COMMITTED, COMPLETED, pcm, room, talking
from support.serving import running

STARTER = ROOT / "models" / "starter"
RATE = 16_000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (STARTER / "manifest.json").exists(), reason="no starter is built"),
]
WORDS = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def sample(name: str) -> Samples:
    """As the socket's client sends it: 16-bit, silence behind."""
    values, rate = soundfile.read(SAMPLES / name, dtype="float32", always_2d=True)
    whole = np.concatenate([soxr.resample(values.mean(1), rate, RATE), room(1.5)])
    return np.frombuffer(pcm(whole, RATE), "<i2").astype(np.float32) / np.float32(2**15)


def by_live(model, samples: Samples) -> str:
    blocks = (Block(samples[at : at + 800], at) for at in range(0, len(samples), 800))
    found = [event for event in replayed(blocks, model, RATE) if isinstance(event, Final)]
    return " ".join(final.text for final in found if final.text)


async def by_socket(server, samples: Samples, turn_detection) -> str:
    async with talking(server) as talker:
        form = {"type": "audio/pcm", "rate": RATE}
        await talker.configure(format=form, turn_detection=turn_detection)
        await talker.append(samples, RATE)
        await talker.commit()
        own = None  # the item of that commit; those of the server come before it
        while own is None or own["item_id"] != talker.heard[-1].get("item_id"):
            await talker.until(COMPLETED)
            stopped = {one["item_id"] for one in talker.of("input_audio_buffer.speech_stopped")}
            others = [one for one in talker.of(COMMITTED) if one["item_id"] not in stopped]
            own = others[0] if others else None
        return " ".join(text for text in talker.texts if text)


def test_samples_are_heard_as_live_and_as_files() -> None:
    lines = (SAMPLES / "references.tsv").read_text("utf-8").strip().splitlines()
    references = dict(line.split("\t") for line in lines)
    heard: dict[str, list[str]] = {"file": [], "live": [], "server": [], "client": []}
    model = load_model(STARTER, provider="cpu")
    with running(lambda: model) as server:
        for name in references:
            samples = sample(name)
            heard["file"].append(model.transcribe(samples, sample_rate=RATE).text)
            heard["live"].append(by_live(model, samples))
            for who, turns in (("server", {"type": "server_vad"}), ("client", None)):
                talk = by_socket(server, samples, turns)
                heard[who].append(asyncio.run(asyncio.wait_for(talk, 120)))
    wer = {
        who: 100 * jiwer.wer(list(references.values()), texts, WORDS, WORDS)
        for who, texts in heard.items()
    }
    assert wer["server"] <= wer["live"] + 0.5, wer
    assert wer["client"] <= wer["file"] + 0.5, wer
