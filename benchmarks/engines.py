"""Compare the starter model with CTranslate2 running the same weights.

    python scripts/compare_starter.py [--audio DIR] [--models DIR] [--timestamps]

Both decode greedily in float32, from the same features. DIR holds recordings with their texts in a
`manifest.jsonl` (path, text, lang, group) or in a `references.tsv` (file name, text). Recordings
over 30 s are cut at their quietest places. Printed: utterances, the share with identical text, and
the word error rate of both, after lower-casing and without punctuation (Whisper's own normaliser
where the package whisper-normalizer is installed). Exit code 1: under 95 % identical, or word error
rates more than 0.3 apart.

Needs: pip install ctranslate2 jiwer [whisper-normalizer]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recordings import SAMPLES
from stt.install.starter import ensure_starter, installed_weights
from stt.models.whisper import split_pieces, transcribe
from stt.models.whisper_decoding import Rules, Said
from stt.models.whisper_session import WINDOW_SECONDS, OrtWhisper, log_mel
from stt.models.whisper_vocabulary import load_vocabulary
from stt.types import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]

GROUPS = ("librispeech-test", "longform/wh_address_2018a.mp3")
"""Paths in a manifest that are compared unless --all is given."""

BATCH = 8
HOP = 160  # samples over which loudness is taken when looking for a place to cut


@dataclass(frozen=True)
class Recording:
    """A recording, cut to what Whisper takes at once, and what is said in it."""

    path: Path
    text: str
    utterances: list[Float32]


def main() -> int:
    """Run the comparison; 0 when it holds, 1 when it does not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--audio", type=Path, default=SAMPLES, help="folder of recordings")
    parser.add_argument("--models", type=Path, help="models folder; default: a temporary one")
    parser.add_argument("--timestamps", action="store_true", help="predict timestamps in both")
    parser.add_argument(
        "--all", action="store_true", help="everything in the manifest that is English"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    recordings = [
        Recording(path, text, list(cut(read(path))))
        for path, text in references(arguments.audio, everything=arguments.all)
    ]
    if not recordings:
        print(f"no recordings with references in {arguments.audio}", file=sys.stderr)
        return 1
    utterances = [one for recording in recordings for one in recording.utterances]
    with tempfile.TemporaryDirectory() as temporary:
        folder = ensure_starter(arguments.models or Path(temporary))
        ours, our_time = run_starter(folder, utterances, arguments.timestamps, arguments.threads)
        theirs, their_time = run_ctranslate2(
            folder, utterances, arguments.timestamps, arguments.threads
        )
    same = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
    our_rate, their_rate = (word_error_rate(recordings, texts) for texts in (ours, theirs))
    seconds = sum(map(len, utterances)) / SAMPLE_RATE
    print(f"utterances       {len(utterances)}, {seconds:.0f} s")
    print(f"identical text   {same:.1%}")
    print(f"starter          WER {our_rate:.2f} %, {seconds / our_time:.1f} x real time")
    print(f"CTranslate2      WER {their_rate:.2f} %, {seconds / their_time:.1f} x real time")
    return 0 if same >= 0.95 and abs(our_rate - their_rate) <= 0.3 else 1


def references(folder: Path, *, everything: bool) -> Iterator[tuple[Path, str]]:
    """Recordings and what is said in them, from whichever list the folder has."""
    manifest, table = folder / "manifest.jsonl", folder / "references.tsv"
    if manifest.exists():
        for line in manifest.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["lang"] == "en" and (everything or row["path"].startswith(GROUPS)):
                yield folder / row["path"], row["text"]
    elif table.exists():
        for line in table.read_text("utf-8").splitlines():
            name, _, rest = line.partition("\t")
            if (folder / name).is_file():
                yield folder / name, rest.rpartition("\t")[2]


def read(path: Path) -> Float32:
    """Mono float32 at 16 kHz."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Float32 = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE).astype(np.float32)
    return mono


def cut(samples: Float32) -> Iterator[Float32]:
    """Pieces of at most 30 s, cut at the quietest 0.3 s between 18 and 30 s."""
    energy = np.add.reduceat(samples**2, np.arange(0, len(samples), HOP))
    smooth = np.convolve(energy, np.ones(30), mode="same")
    start, longest = 0, WINDOW_SECONDS * SAMPLE_RATE
    while len(samples) - start > longest:
        first, last = (start + longest * 3 // 5) // HOP, (start + longest) // HOP
        end = (first + int(np.argmin(smooth[first:last]))) * HOP
        yield samples[start:end]
        start = end
    yield samples[start:]


def run_starter(
    folder: Path, utterances: Sequence[Float32], timestamps: bool, threads: int
) -> tuple[list[str], float]:
    """The texts by the starter, and the seconds it took."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("encoder_model.onnx", "decoder_model_merged.onnx")
    )
    rules = Rules(load_vocabulary(folder), timestamps)
    begin = time.perf_counter()
    results = transcribe(utterances, OrtWhisper(encoder, decoder).start, rules, batch=BATCH)
    return [result.text for result in results], time.perf_counter() - begin


def run_ctranslate2(
    folder: Path, utterances: Sequence[Float32], timestamps: bool, threads: int
) -> tuple[list[str], float]:
    """The texts by CTranslate2, and the seconds it took."""
    import ctranslate2

    model = ctranslate2.models.Whisper(
        str(installed_weights()), device="cpu", compute_type="float32", intra_threads=threads
    )
    rules = Rules(load_vocabulary(folder), timestamps)
    vocabulary = rules.vocabulary
    prompt = [vocabulary.start] if timestamps else [vocabulary.start, vocabulary.no_timestamps]
    texts = [""] * len(utterances)
    windows = list(enumerate(utterances))
    begin = time.perf_counter()
    while windows:
        now, windows = windows[:BATCH], windows[BATCH:]
        features = np.stack([log_mel(samples) for _, samples in now])
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
        results = model.generate(view, [prompt] * len(now), beam_size=1)
        for (i, samples), result in zip(now, results, strict=True):
            tokens = result.sequences_ids[0]
            said = Said("en", 0.0, tokens, [0.0] * len(tokens))
            pieces, used = split_pieces(said, rules, len(samples) / SAMPLE_RATE)
            texts[i] = " ".join([texts[i], *(piece.text for piece in pieces)]).strip()
            rest = samples[round(used * SAMPLE_RATE) :]
            if len(rest):  # with timestamps a window may end before its audio does
                windows.append((i, rest))
    return texts, time.perf_counter() - begin


def word_error_rate(recordings: Sequence[Recording], texts: Sequence[str]) -> float:
    """In percent, the utterances of a recording put together again."""
    import jiwer

    normalise = normaliser()
    remaining = iter(texts)
    said = [" ".join(next(remaining) for _ in one.utterances) for one in recordings]
    return 100 * float(
        jiwer.wer([normalise(one.text) for one in recordings], [normalise(one) for one in said])
    )


def normaliser() -> Callable[[str], str]:
    """Whisper's where it is installed."""
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        return lambda text: " ".join(re.findall(r"[\w']+", text.lower()))
    normalise: Callable[[str], str] = EnglishTextNormalizer()
    return normalise


if __name__ == "__main__":
    sys.exit(main())
