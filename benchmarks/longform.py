"""Long recordings in one pass beside their utterances one by one: words, seams, coverage, memory.

usage: python scripts/measure_longform.py [AUDIO_DIR] [--model NAME|DIR] [--noise DIR]
                                          [--only NAME ...] [--snr DB ...] [--vad-threshold P]

AUDIO_DIR, by default samples/, is a folder as `recordings.py` reads it; its set is `longform`. An
utterance is what lies between two pauses of 0.6 s in the recording without noise, so that it is the
same with every noise; each is transcribed as a recording of its own. With `--noise` the recordings
are mixed with the noises of that folder, one after the other, at each `--snr` (speech level over
noise level of the whole, in dB).

For each recording: WER in one pass and one by one, insertions and deletions of the pass, words that
stand twice at a seam (the last words of an utterance again at the beginning of the next), and how
much of it was decoded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recordings import AUDIO_HELP, SAMPLES, group, in_set, rows
from stt.audio.files import open_audio
from stt.audio.samples import resampled
from stt.audio.vad import FRAME, SpeechProbability
from stt.settings.loading import load_settings
from stt.transcriber import ModelTranscriber, load_with
from stt.types import SAMPLE_RATE

Samples = npt.NDArray[np.float32]
PAUSE = round(0.6 * SAMPLE_RATE / FRAME)
AROUND = round(0.25 * SAMPLE_RATE)


def read(path: Path) -> Samples:
    """Read a recording as float32 [n] at 16 kHz."""
    with open_audio(path) as stream:
        return np.concatenate(list(resampled(stream.blocks, stream.sample_rate)))


def utterances(samples: Samples) -> list[tuple[int, int]]:
    """Return the samples between pauses, real audio around them included."""
    whole = len(samples) // FRAME
    frames = samples[: whole * FRAME].reshape(whole, FRAME)
    speech = np.flatnonzero(SpeechProbability()(frames) >= 0.5)
    if not len(speech):
        return []
    breaks = np.flatnonzero(np.diff(speech) > PAUSE)
    starts = [speech[0], *speech[breaks + 1]]
    ends = [*speech[breaks], speech[-1]]
    return [
        (max(0, start * FRAME - AROUND), min(len(samples), (end + 1) * FRAME + AROUND))
        for start, end in zip(starts, ends, strict=True)
    ]


def noise_of(folder: Path, length: int) -> Samples:
    """Join the noises of a folder to this length."""
    parts = [read(path) for path in sorted(folder.glob("*.flac")) if "rir" not in path.name]
    leveled = [part / (np.sqrt(np.mean(part**2)) + 1e-9) for part in parts]
    joined = np.concatenate(leveled)
    return np.resize(joined, length).astype(np.float32)


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


def measure(
    transcriber: ModelTranscriber, name: str, text: str, audio: Samples, cuts: list
) -> None:
    """Print one row."""
    began = time.perf_counter()
    whole = transcriber.transcribe(audio, sample_rate=SAMPLE_RATE)
    taken = time.perf_counter() - began
    alone = " ".join(
        transcriber.transcribe(audio[a:b], sample_rate=SAMPLE_RATE).text for a, b in cuts
    )
    wer, insertions, deletions = scores(text, whole.text)
    by_one, inserted, deleted = scores(text, alone)
    twice = doubled(segment.text for segment in whole.segments)
    coverage = whole.coverage
    assert coverage is not None
    skipped = ", ".join(f"{k} {v:.0f}" for k, v in coverage.skipped.items())
    print(
        f"| {name} | {len(audio) / SAMPLE_RATE / 60:.1f} | {wer:.2f} | {by_one:.2f} | "
        f"{insertions} / {deletions} | {inserted} / {deleted} | {twice} | "
        f"{100 * coverage.decoded / whole.duration:.1f} % | {skipped} | "
        f"{whole.duration / taken:.1f} |",
        flush=True,
    )


def recordings(audio: Path, only: list[str] | None) -> Iterator[tuple[str, str, Samples]]:
    """Yield name, text and samples of the long recordings."""
    for row in rows(audio):
        path = Path(row["path"])
        if in_set(row, "longform") and (not only or path.stem in only):
            yield path.stem, row["text"], read(audio / path)


def main() -> None:
    """Measure every recording, as it is and with noise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0, 0.0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--vad-threshold", type=float)
    args = parser.parse_args()
    with group("evaluate"):
        import jiwer  # noqa: F401 - before anything is measured
        import whisper_normalizer  # noqa: F401
    transcriber = load_with(load_settings(None, {"model": args.model, "provider": "cpu"}))
    if args.vad_threshold is not None:
        cutting = replace(transcriber.cutting, vad_threshold=args.vad_threshold)
        transcriber = replace(transcriber, cutting=cutting)
    print(
        "| recording | minutes | WER one pass | WER one by one | ins / del | one by one | doubled "
        "| decoded | skipped, s | RTFx |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for name, text, samples in recordings(args.audio, args.only):
        cuts = utterances(samples)
        measure(transcriber, name, text, samples, cuts)
        if args.noise:
            noise = noise_of(args.noise, len(samples))
            for snr in args.snr:
                audio = mixed(samples, noise, snr)
                measure(transcriber, f"{name}, {snr:g} dB", text, audio, cuts)


if __name__ == "__main__":
    main()
