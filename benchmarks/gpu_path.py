"""The parts of `gpu.py` that go beyond the encoder: decoding, stages, the whole path, onnx-asr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile

from stt.batch.pool import transcribe_many
from stt.engine.dynamic_batcher import batches_in_stages
from stt.engine.sessions import Runtime, session_options, session_providers
from stt.engine.stages import finished
from stt.errors import SttError
from stt.models import inspect
from stt.models.card_decoder import load_card_decoder
from stt.models.card_features import CardFeatures
from stt.models.nemo import encoding
from stt.models.nemo_features import nemo_features
from stt.models.nemo_graphs import Group
from stt.models.onnx_asr_edge import TdtModel, bands, load_tdt, mel_filters
from stt.models.split_transducer import load_parts
from stt.models.transducer import TdtRecognizer
from stt.settings.loading import load_settings
from stt.text.transcript import Transcript
from stt.transcriber import ModelTranscriber, load_with
from stt.types import SAMPLE_RATE, Floats, Samples

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from recordings import SAMPLES, read, rows

PRECISION = "fp16"


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    batches: tuple[int, ...]
    clip_s: float
    files: int
    long_s: float
    rounds: int


FULL = Size((1, 8, 32, 64), 28.0, 128, 3600.0, 3)
SMALL = Size((1, 4), 4.0, 6, 30.0, 1)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def session(path: Path, provider: str) -> Any:
    """A session of a graph on a provider."""
    return onnxruntime.InferenceSession(path, session_options(0), session_providers(provider))


def timed(run: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several runs."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


@cache
def on_card(folder: Path, provider: str) -> TdtModel:
    """The FP16 form for CUDA on a provider, whatever that is."""
    model = load_tdt(inspect(folder), PRECISION, Runtime(provider))
    if model.card is None:
        card = load_card_decoder(inspect(folder), PRECISION, Runtime(provider))
        computed = CardFeatures(mel_filters(model.asr._features_size), Runtime(provider))
        model = replace(model, card=card, card_features=computed, provider="cuda")
    return model


def features(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Hold features on the card against those in memory, of one core, and time both."""
    found = dict[str, Any]()
    mels = int(inspect(folder).config["features_size"])
    card = CardFeatures(mel_filters(mels), Runtime(provider))
    for batch in size.batches:
        speech = list(clips(size, batch))
        seconds = sum(map(len, speech)) / SAMPLE_RATE
        (given, _), (expected, _) = card(speech), nemo_features(speech, bands(mels))
        apart = float(np.sqrt(np.mean((given.numpy() - expected) ** 2)))
        there = 1e3 * timed(lambda s=speech: card(s), size.rounds) / seconds
        here = 1e3 * timed(lambda s=speech: nemo_features(s, bands(mels)), size.rounds) / seconds
        found[f"batch {batch}"] = {"ms_per_s": there, "in_memory_ms_per_s": here, "apart": apart}
        say(
            f"features: batch {batch}: {there:.3f} ms per second of audio, in memory {here:.3f}; "
            f"apart by {apart:.1e}, root mean square"
        )
    return found


def decoder(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Time decoding of what the encoder gave for speech: parts, rounds on the card, CUDA graphs."""
    found = dict[str, Any]()
    card = on_card(folder, provider)
    split = load_parts(inspect(folder), PRECISION, Runtime(provider))
    parts = replace(card, card=None, split=split)
    graphs = load_card_decoder(inspect(folder), PRECISION, Runtime(provider), graphs=True)
    kept = replace(card, card=graphs)
    for batch in size.batches:
        speech = list(clips(size, batch))
        seconds = sum(map(len, speech)) / SAMPLE_RATE
        groups = finished(encoding(card, speech))
        frames = in_memory(groups)
        ways: dict[str, Callable[[], Sequence[Any]]] = {
            "parts": lambda f=frames: parts.decode(f),
            "rounds": lambda g=groups: card.working(lambda: card.decode(card.frames(g))),
            "CUDA graphs": lambda g=groups: kept.working(lambda: kept.decode(kept.frames(g))),
        }
        for way, run in ways.items():
            tokens = sum(len(one.emissions) for one in run()) / seconds
            cost = 1e3 * timed(run, size.rounds) / seconds
            found[f"{way} batch {batch}"] = {"ms_per_s": cost, "tokens_per_s": tokens}
            say(
                f"decoder: in {way}, batch {batch}: {cost:.3f} ms per second of audio, "
                f"{tokens:.1f} tokens in it"
            )
    return found


def in_memory(groups: Sequence[Group]) -> list[Floats]:
    """Frames that lie on the card, float32 [T, D] of each utterance."""
    found = {}
    for places, (values, valid) in groups:
        for place, row, length in zip(places, values.numpy(), valid, strict=True):
            found[place] = np.ascontiguousarray(row.T[:length])
    return [found[place] for place in range(len(found))]


def stages(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Time batches one after the other, and beside one another, each in another stage."""
    found = dict[str, Any]()
    recognizer = TdtRecognizer(on_card(folder, provider))
    for batch in size.batches:
        batches = [list(clips(size, batch)) for _ in range(3 + size.rounds)]
        seconds = sum(len(clip) for one in batches for clip in one) / SAMPLE_RATE
        line = batches_in_stages(recognizer, batch)
        recognizer.recognize(batches[0])
        with ThreadPoolExecutor(line.streams) as pool:
            ways: dict[str, Callable[[], object]] = {
                "one after the other": lambda b=batches: [*map(recognizer.recognize, b)],
                "beside one another": lambda b=batches, p=pool, li=line: [*p.map(li.recognize, b)],
            }
            for way, run in ways.items():
                rate = seconds / timed(run, size.rounds)
                found[f"{way}, batch {batch}"] = rate
                say(f"stages: {way}, batch {batch}: {rate:.0f} RTFx")
    return found


def clips(size: Size, count: int) -> Iterator[Samples]:
    """Speech of 2 to 28 s, or what is short."""
    speech = np.concatenate([read(SAMPLES / row["path"]) for row in rows(SAMPLES)])
    for number in range(count):
        seconds = size.clip_s * (1 + number % 14) / 14
        begin = round((number + 0.3) * SAMPLE_RATE)  # before that nothing is said
        yield np.resize(np.roll(speech, -begin), round(seconds * SAMPLE_RATE))


def whole(folder: Path, provider: str, size: Size, work: Path) -> dict[str, Any]:
    """Time `stt` from file to text: many files by batch, and a long recording."""
    found = dict[str, Any]()
    files = [written(clip, work / f"{n}.wav") for n, clip in enumerate(clips(size, size.files))]
    long = written(np.resize(read(files[-1]), round(size.long_s * SAMPLE_RATE)), work / "long.wav")
    given = {"model": str(folder), "precision": PRECISION, "provider": provider, "strict": True}
    loaded = load_with(load_settings(None, given))
    for batch in size.batches:
        transcriber = replace(loaded, cutting=replace(loaded.cutting, batch_size=batch))
        results(transcriber, files[:1])
        for name, group in (("files", files), ("long", [long])):
            began = time.perf_counter()
            seconds = sum(one.duration for one in results(transcriber, group))
            rate = seconds / (time.perf_counter() - began)
            found[f"{name} batch {batch}"] = rate
            say(f"whole: {name}, batch {batch}: {rate:.0f} RTFx ({seconds:.0f} s)")
    return found


def results(transcriber: ModelTranscriber, files: Sequence[Path]) -> list[Transcript]:
    """Transcribe recordings together, as `stt transcribe` does."""
    found = []
    for one in transcribe_many(transcriber, files):
        if isinstance(one, SttError):
            raise one
        found.append(one)
    return found


def written(samples: Samples, path: Path) -> Path:
    """Write a recording."""
    soundfile.write(path, samples, SAMPLE_RATE)
    return path


def beside(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Time onnx-asr with the same FP16 files on a few recordings."""
    import onnx_asr

    model = onnx_asr.load_model(
        inspect(folder).family.name,
        folder,
        quantization=PRECISION,
        providers=session_providers(provider),
    )
    speech = list(clips(size, max(1, size.files // 16)))
    model.recognize(speech[0])
    taken = timed(lambda: [model.recognize(one) for one in speech], size.rounds)
    rate = sum(map(len, speech)) / SAMPLE_RATE / taken
    say(f"onnx-asr: {rate:.0f} RTFx")
    return {"rtfx": rate}
