"""What the host costs: milliseconds of one core for a second of audio, stage by stage.

usage: python benchmarks/host.py [AUDIO_DIR] [--minutes M] [--batch N] [--rounds R] [--json]

Encoder, prediction network and joint are replaced by ones that answer at once: a token and a blank
in turns, 3.1 tokens a second. All else is the product's own: reading, conditioning, voice activity,
cutting, features, decoding, words, writing. Every stage runs by itself over what the stage before
gave, on one thread; its figure is processor time, the median of the rounds. `whole` is the same
path in one piece. What mp3 and m4a cost to decode instead of WAV stands below the table.

AUDIO_DIR, by default samples/, is a folder as `scripts/recordings.py` reads it; its recordings are
repeated until there are enough minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy is loaded: a stage has one core

import numpy as np
import numpy.typing as npt
import soundfile

from stt.audio.conditioning import AHEAD, Conditioner, conditioned
from stt.audio.files import open_audio
from stt.audio.samples import resampled
from stt.audio.segmenter import Segmenter
from stt.audio.utterances import Utterance, utterances
from stt.audio.vad import FRAME, SpeechProbability
from stt.engine.fallback import GuardedRecognizer
from stt.engine.stages import Stages
from stt.models.label_looping import Ints, label_looping
from stt.models.nemo import TokenRecognizer
from stt.models.nemo_features import mel_bands, nemo_features
from stt.models.onnx_asr_edge import NemoModel, mel_filters
from stt.models.split_transducer import window
from stt.models.tdt import Emission, TdtVocabulary
from stt.pipeline import Cutting, recognized
from stt.text.hallucination import without_invented
from stt.text.stitching import Stitcher
from stt.text.transcript import Transcript
from stt.transcript import Choice
from stt.types import SAMPLE_RATE, Samples

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from recordings import AUDIO_HELP, SAMPLES, read, rows

VOCABULARY = TdtVocabulary(size=8193, blank=8192)
TOKEN, STEP = 17, 2
"""What is said, and how many frames each token and blank takes."""
FRAME_S = 0.08
MELS = 128
MOST_S = 20.0


@dataclass(frozen=True, slots=True)
class InstantChoices:
    """See label_looping.Choices."""

    tokens: Ints
    steps: Ints
    near: Ints
    finite: npt.NDArray[np.bool_]

    def logprobs(self, places: Ints, frames: Ints) -> npt.NDArray[np.float64]:
        """See label_looping.Choices."""
        return np.full(len(places), -0.1)


class InstantNetworks:
    """Prediction network and joint of a batch that know the answer: a token, then a blank."""

    def __init__(self, window: int) -> None:
        self._window = np.arange(window)

    def predict(self, rows: Ints, tokens: Ints) -> None:
        """See label_looping.Networks."""

    def join(self, rows: Ints, frames: Ints) -> InstantChoices:
        """See label_looping.Networks."""
        spoken = (frames[:, None] + self._window) % 4 < 2
        tokens = np.where(spoken, TOKEN, VOCABULARY.blank)
        near = np.zeros_like(tokens)
        return InstantChoices(tokens, near + STEP, near, np.ones_like(spoken))


class InstantRecognizer(TokenRecognizer):
    """A transducer whose encoder takes no time."""

    def __init__(self, batch: int) -> None:
        pieces = {TOKEN: " word"}
        super().__init__(NemoModel(None, pieces, FRAME_S, "none"))
        self._bands = mel_bands(mel_filters(MELS))
        self.batch = batch

    def features(self, batch: Sequence[Samples]) -> list[int]:
        """Compute the features of a batch; returns the encoder frames of each."""
        for samples in batch:
            nemo_features([samples], self._bands)
        return [max(1, round(len(samples) / SAMPLE_RATE / FRAME_S)) for samples in batch]

    def looped(self, lengths: Sequence[int]) -> list[list[Emission]]:
        """Decode as many frames of each utterance."""
        networks = InstantNetworks(window(len(lengths)))
        return [one.emissions for one in label_looping(networks, lengths, VOCABULARY)]

    def decoding(self, batch: Sequence[Samples], speech: Any = ()) -> Stages[list[list[Emission]]]:
        """See TokenRecognizer."""
        lengths = self.features(batch)
        yield
        yield
        return self.looped(lengths)


class Said(InstantRecognizer):
    """The same, of which the tokens are known already: what is left is making words."""

    known: Sequence[list[Emission]] = ()

    def decoding(self, batch: Sequence[Samples], speech: Any = ()) -> Stages[list[list[Emission]]]:
        """See TokenRecognizer."""
        yield
        yield
        return list(self.known)


def stages(path: Path, batch: int) -> Iterator[tuple[str, float]]:
    """Run each stage over a recording; yields its name and the seconds of processor time."""
    clock = Stopwatch()
    with open_audio(path) as stream:
        blocks = list(stream.blocks)
        rate = stream.sample_rate
    yield "read", clock.lap()
    heard = list(conditioned(resampled(blocks, rate), Conditioner(AHEAD)))
    yield "condition", clock.lap()
    speech = SpeechProbability()
    frames = [one.vad[: len(one.vad) // FRAME * FRAME].reshape(-1, FRAME) for one in heard]
    probabilities = [speech(part) for part in frames]
    yield "voice activity", clock.lap()
    told = iter(np.concatenate(probabilities))
    cut = utterances(
        heard,
        lambda frames: np.fromiter((next(told, 0.0) for _ in frames), np.float32),
        Segmenter(int(MOST_S * SAMPLE_RATE) // FRAME, overlap=True),
    )
    found = [item for item in cut if isinstance(item, Utterance)]
    yield "cut", clock.lap()
    recognizer = InstantRecognizer(batch)
    groups = [found[i : i + batch] for i in range(0, len(found), batch)]
    clock.lap()
    lengths = [recognizer.features([one.samples for one in group]) for group in groups]
    yield "features", clock.lap()
    emissions = [recognizer.looped(group) for group in lengths]
    yield "decode", clock.lap()
    said, stitcher, segments = Said(batch), Stitcher(), []
    clock.lap()
    for group, known in zip(groups, emissions, strict=True):
        said.known = known
        for one, each in zip(group, said.recognize([u.samples for u in group]), strict=True):
            segments += stitcher.push(one, without_invented(each, one)[0])
    segments += stitcher.finish()
    yield "words", clock.lap()
    written(segments)
    yield "write", clock.lap()


def written(segments: Sequence[Any]) -> str:
    """Write a transcript as JSON and SRT."""
    choice = Choice("fp16", "cuda", "")
    end = segments[-1].end if segments else 0.0
    transcript = Transcript("host.wav", end, tuple(segments), "host", choice, 1.0)
    return transcript.to("json") + transcript.to("srt")


def whole(path: Path, batch: int) -> float:
    """Run the path in one piece; returns seconds of processor time."""
    clock = Stopwatch()
    with open_audio(path) as stream, ThreadPoolExecutor(1) as pool:
        recognizer = GuardedRecognizer(InstantRecognizer(batch), None)
        cutting = Cutting(MOST_S, 0.5, batch)
        steps = recognized(stream.blocks, stream.sample_rate, recognizer, cutting, pool)
        written([segment for step in steps for segment in step.segments])
    return clock.lap()


class Stopwatch:
    """Processor time of this process, all threads."""

    def __init__(self) -> None:
        self._last = time.process_time()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, time.process_time()
        return self._last - before


def decoding(path: Path) -> float:
    """Seconds of processor time to read a recording to its end."""
    clock = Stopwatch()
    with open_audio(path) as stream:
        for _ in stream.blocks:
            pass
    return clock.lap()


def recording(folder: Path, audio: Path, minutes: float) -> tuple[Path, float]:
    """Write a WAV at 16 kHz of so many minutes; returns it and its seconds."""
    clips = [read(audio / row["path"]) for row in rows(audio)]
    one = np.concatenate(clips)
    samples = np.resize(one, round(minutes * 60 * SAMPLE_RATE))
    path = folder / "host.wav"
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    return path, len(samples) / SAMPLE_RATE


def encoded(path: Path, suffix: str) -> Path:
    """The same recording in another format, by PyAV."""
    import av

    target = path.with_suffix(suffix)
    with av.open(str(path)) as source, av.open(str(target), "w") as sink:
        stream = sink.add_stream({".mp3": "mp3", ".m4a": "aac"}[suffix], rate=SAMPLE_RATE)
        for frame in source.decode(audio=0):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return target


def repeated(rounds: int, measure: Callable[[], float]) -> float:
    """The median of several rounds."""
    return median(measure() for _ in range(rounds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", nargs="?", type=Path, default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--minutes", type=float, default=5.0, help="of audio")
    parser.add_argument("--batch", type=int, default=64, help="utterances decoded together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path, seconds = recording(Path(name), asked.audio, asked.minutes)
        rounds = [dict(stages(path, asked.batch)) for _ in range(asked.rounds)]
        table = {stage: 1e3 * median(r[stage] for r in rounds) / seconds for stage in rounds[0]}
        table["sum"] = sum(table.values())
        beside = {"whole": repeated(asked.rounds, lambda: whole(path, asked.batch))}
        for suffix in (".mp3", ".m4a"):
            other = encoded(path, suffix)
            beside[f"read {suffix}"] = repeated(asked.rounds, lambda p=other: decoding(p))
    beside = {stage: 1e3 * value / seconds for stage, value in beside.items()}
    if asked.json:
        print(json.dumps({"ms_per_s": table, "beside": beside}))
        return
    print(
        f"{seconds / 60:.0f} min of audio, batch {asked.batch}; ms of one core per second of audio"
    )
    for stage, value in (*table.items(), *beside.items()):
        print(f"  {stage:<16}{value:8.3f}")


if __name__ == "__main__":
    main()
