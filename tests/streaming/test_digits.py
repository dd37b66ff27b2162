"""Live recognition with real models on real ONNX, from the first sample to the last word."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from stt.events import Committed, Draft
from stt.streaming.stream import live
from stt.transcriber import ModelTranscriber
from stt.types import Samples
from support.live_fakes import assert_nothing_committed_changes, blocks, finals, text_of
from support.loading import load_model
from support.paths import ROOT

DIGITS = ROOT / "tests" / "data" / "parakeet-digits"
STARTER = ROOT / "models" / "starter"


@pytest.fixture(scope="module")
def transcriber() -> ModelTranscriber:
    return load_model(DIGITS, provider="cpu", threads=1)


def clip(name: str) -> Samples:
    samples, rate = soundfile.read(DIGITS / "clips" / f"{name}.flac", dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


def room(seconds: float) -> Samples:
    noise = np.random.default_rng(1).normal(0, 1e-4, round(seconds * 16_000))
    return noise.astype(np.float32)


def test_what_is_said_is_heard_as_in_a_file_and_while_it_is_said(
    transcriber: ModelTranscriber,
) -> None:
    said = [clip("eight-digits"), clip("five-digits-rp"), clip("four-digits")]
    stream = np.concatenate([part for one in said for part in (one, room(1.5))])
    events = list(live(blocks(stream), transcriber, 16_000))
    assert text_of(events) == " ".join(
        transcriber.transcribe(one, sample_rate=16_000).text for one in said
    )
    assert_nothing_committed_changes(events)
    assert len(finals(events)) == len(said)  # each pause of 1.5 s ends an utterance
    assert all(segment.words for final in finals(events) for segment in final.segments)


def test_words_are_committed_while_one_speaks(transcriber: ModelTranscriber) -> None:
    """In simulated time, so that it does not matter how fast the machine is."""
    from stt.audio.vad import SpeechProbability
    from stt.engine.fallback import GuardedRecognizer
    from stt.streaming.replay import Replay
    from stt.streaming.session import LiveSession

    guarded = GuardedRecognizer(transcriber.recognizer, "fp32")
    replay = Replay(LiveSession(SpeechProbability()), guarded, lambda *_: 0.05)
    stream = np.concatenate([clip("eight-digits"), room(1.5)])
    events = list(replay.events(blocks(stream)))
    (final,) = finals(events)
    drafts = [event for event in events if isinstance(event, Draft)]
    assert drafts[0].latency_s < 1.0
    assert final.latency_s < 0.5
    assert [event for event in events if isinstance(event, Committed)]
    assert final.text == transcriber.transcribe(clip("eight-digits"), sample_rate=16_000).text


@pytest.mark.parametrize("gain", [1.0, 0.02])
def test_speech_is_heard_however_quiet(transcriber: ModelTranscriber, gain: float) -> None:
    """Down to -57 dB full scale, which Silero alone hears too: the gain must not spoil it."""
    stream = np.concatenate([room(0.5), clip("eight-digits") * np.float32(gain), room(1.0)])
    expected = transcriber.transcribe(clip("eight-digits"), sample_rate=16_000).text
    assert text_of(live(blocks(stream), transcriber, 16_000)) == expected


@pytest.mark.skipif(not (STARTER / "manifest.json").exists(), reason="the starter is not built")
def test_the_starter_hears_a_sentence(speech: Samples) -> None:
    starter = load_model(STARTER, provider="cpu", threads=1)
    events = list(live(blocks(np.concatenate([speech[: 16_000 * 3], room(1.0)])), starter, 16_000))
    live_words = text_of(events).lower().split()
    assert len(live_words) > 3
    assert_nothing_committed_changes(events)
