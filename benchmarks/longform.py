"""Long recordings: stt in one pass, stt utterance by utterance, onnx-asr with its own VAD, in turn.

usage: python benchmarks/longform.py [AUDIO_DIR] [--model NAME|DIR] [--vad VAD_DIR] [--noise DIR]
                                     [--only NAME ...] [--snr DB ...]

AUDIO_DIR, by default samples/, is a folder as `scripts/recordings.py` reads it; its set is
`longform`. An utterance is what lies between two pauses of 0.6 s in the recording without noise, so
that it is the same with every noise; each is transcribed as a recording of its own. VAD_DIR,
without which onnx-asr is left out, holds `silero_vad.onnx` in the form onnx-asr takes (the package
silero-vad has it); MODEL must then be a folder in onnx-asr's layout. With `--noise` the recordings
are mixed with the noises of that folder, one after the other, at each `--snr` (speech level over
noise level of the whole, in dB).

Each row is a process of its own: WER, insertions and deletions, words that stand twice where two
pieces meet, the share of the recording that the model heard, speed, and most memory. Needs the
dependency group `evaluate`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from stt.audio.vad import FRAME, SpeechProbability
from stt.install.measure import peak_mib
from stt.transcriber import load
from stt.types import SAMPLE_RATE, Samples

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from recordings import AUDIO_HELP, SAMPLES, group, in_set, read, rows

PAUSE = round(0.6 * SAMPLE_RATE / FRAME)
AROUND = round(0.25 * SAMPLE_RATE)


@dataclass(frozen=True)
class Job:
    """What an engine is to transcribe."""

    audio: Path
    """A WAV file, mono, 16 kHz."""
    cuts: tuple[tuple[int, int], ...]
    """Samples of each utterance."""
    model: str
    vad: Path | None


@dataclass(frozen=True)
class Heard:
    """What one engine made of one recording."""

    texts: tuple[str, ...]
    """Of each piece."""
    decoded_s: float
    elapsed_s: float
    peak_mib: float | None


def one_pass(job: Job) -> Heard:
    """Transcribe with stt, which cuts the recording itself."""
    transcriber = load(job.model, provider="cpu")
    began = time.perf_counter()
    found = transcriber.transcribe(job.audio)
    elapsed = time.perf_counter() - began
    assert found.coverage is not None
    texts = tuple(segment.text for segment in found.segments)
    return Heard(texts, found.coverage.decoded, elapsed, peak_mib())


def one_by_one(job: Job) -> Heard:
    """Transcribe each utterance with stt as a recording of its own."""
    transcriber, samples = load(job.model, provider="cpu"), read(job.audio)
    began = time.perf_counter()
    texts = tuple(
        transcriber.transcribe(samples[a:b], sample_rate=SAMPLE_RATE).text for a, b in job.cuts
    )
    elapsed = time.perf_counter() - began
    return Heard(texts, sum(b - a for a, b in job.cuts) / SAMPLE_RATE, elapsed, peak_mib())


def onnx_asr(job: Job) -> Heard:
    """Transcribe as onnx-asr's documentation does with long recordings."""
    import onnx_asr

    model = Path(job.model)
    kind = json.loads((model / "config.json").read_text("utf-8"))["model_type"]
    asr = onnx_asr.load_model(kind, model, providers=["CPUExecutionProvider"])
    hearing = asr.with_vad(onnx_asr.load_vad("silero", job.vad))
    began = time.perf_counter()
    pieces = list(hearing.recognize(str(job.audio)))
    elapsed = time.perf_counter() - began
    decoded = sum(piece.end - piece.start for piece in pieces)
    return Heard(tuple(piece.text for piece in pieces), decoded, elapsed, peak_mib())


ENGINES: dict[str, Callable[[Job], Heard]] = {
    "stt": one_pass,
    "stt, one by one": one_by_one,
    "onnx-asr with its VAD": onnx_asr,
}


def utterances(samples: Samples) -> Iterator[tuple[int, int]]:
    """Yield the samples between pauses, real audio around them included."""
    whole = len(samples) // FRAME
    frames = samples[: whole * FRAME].reshape(whole, FRAME)
    speech = np.flatnonzero(SpeechProbability()(frames) >= 0.5)
    if not len(speech):
        return
    breaks = np.flatnonzero(np.diff(speech) > PAUSE)
    starts, ends = [speech[0], *speech[breaks + 1]], [*speech[breaks], speech[-1]]
    for start, end in zip(starts, ends, strict=True):
        yield max(0, start * FRAME - AROUND), min(len(samples), (end + 1) * FRAME + AROUND)


def noise_of(folder: Path, length: int) -> Samples:
    """Join the noises of a folder to this length."""
    parts = [read(path) for path in sorted(folder.glob("*.flac")) if "rir" not in path.name]
    leveled = [part / (np.sqrt(np.mean(part**2)) + 1e-9) for part in parts]
    return np.resize(np.concatenate(leveled), length).astype(np.float32)


def mixed(speech: Samples, noise: Samples, snr: float) -> Samples:
    """Add noise at so many dB below the level of the speech's louder half."""
    blocks = speech[: len(speech) // 1600 * 1600].reshape(-1, 1600)
    power = np.sort((blocks**2).mean(axis=1))
    level = np.sqrt(power[len(power) // 2 :].mean())
    return (speech + noise * level * 10 ** (-snr / 20)).clip(-1, 1).astype(np.float32)


def doubled(texts: Iterable[str]) -> int:
    """Count words that stand twice where two pieces meet, two or more in a row."""
    count = 0
    for before, after in pairwise(text.casefold().split() for text in texts):
        longest = min(len(before), len(after), 8)
        count += max((n for n in range(2, longest + 1) if before[-n:] == after[:n]), default=0)
    return count


def scores(reference: str, hypothesis: str) -> tuple[float, int, int]:
    """WER in percent, insertions and deletions, after Whisper's English normaliser."""
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalise = EnglishTextNormalizer()
    found = jiwer.process_words(normalise(reference), normalise(hypothesis))
    return 100 * found.wer, found.insertions, found.deletions


def row(engine: str, heard: Heard, reference: str, seconds: float) -> str:
    """Return the rest of one row of the table."""
    wer, insertions, deletions = scores(reference, " ".join(heard.texts))
    return (
        f"{engine} | {wer:.2f} | {insertions} / {deletions} | {doubled(heard.texts)} | "
        f"{100 * heard.decoded_s / seconds:.1f} % | {seconds / heard.elapsed_s:.1f} | "
        f"{heard.peak_mib or 0:,.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--vad", type=Path, metavar="VAD_DIR", help="without it onnx-asr is out")
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0, 0.0])
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()
    if args.vad and not Path(args.model).is_dir():
        parser.error("--vad: onnx-asr needs --model DIR")
    with group("evaluate"):
        import jiwer  # noqa: F401 - before anything is measured
        import whisper_normalizer  # noqa: F401
    context = multiprocessing.get_context("spawn")
    print(
        "| recording | minutes | engine | WER | ins / del | doubled | decoded | RTFx | MiB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for listed in rows(args.audio):
        name = Path(listed["path"]).stem
        if not in_set(listed, "longform") or (args.only and name not in args.only):
            continue
        samples = read(args.audio / listed["path"])
        cuts, made = tuple(utterances(samples)), {name: samples}
        if args.noise:
            noise = noise_of(args.noise, len(samples))
            made |= {f"{name}, {snr:g} dB": mixed(samples, noise, snr) for snr in args.snr}
        for title, audio in made.items():
            seconds = len(audio) / SAMPLE_RATE
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "recording.wav"
                soundfile.write(path, audio, SAMPLE_RATE, "PCM_16")
                job = Job(path, cuts, args.model, args.vad)
                for engine in list(ENGINES)[: 3 if args.vad else 2]:
                    with context.Pool(1) as pool:
                        heard = pool.apply(ENGINES[engine], (job,))
                    rest = row(engine, heard, listed["text"], seconds)
                    print(f"| {title} | {seconds / 60:.1f} | {rest}", flush=True)


if __name__ == "__main__":
    main()
