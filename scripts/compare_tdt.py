"""Our TDT decoding against onnx-asr's own loop on the same encoder frames: must be the same tokens.

usage: python scripts/compare_tdt.py [MODEL_DIR] [AUDIO_DIR] [--clips 50]

Takes every n-th recording of 0.3 to 20 s below AUDIO_DIR, by default samples/. Exit code 1 if a
token or frame differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from recordings import DIGITS_MODEL, MODEL_HELP, SAMPLES
from stt.audio.files import AUDIO_SUFFIXES, open_audio
from stt.audio.samples import resampled
from stt.engine.folder import inspect
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.tdt import greedy_tdt
from stt.types import SAMPLE_RATE

Samples = np.ndarray


def read_clips(audio: Path, wanted: int) -> list[Samples]:
    """Recordings of a usable length, spread evenly over the folder."""
    paths = sorted(p for p in audio.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    clips: list[Samples] = []
    for path in paths[:: max(1, len(paths) // (2 * wanted))]:
        with open_audio(path) as stream:
            if stream.duration is None or not 0.3 <= stream.duration <= 20:
                continue
            clips.append(np.concatenate(list(resampled(stream.blocks, stream.sample_rate))))
        if len(clips) == wanted:
            break
    return clips


def compare(model: TdtModel, samples: Samples) -> tuple[int, bool, float, float]:
    """Return (tokens, whether all agree, our seconds, their seconds)."""
    frames = model.encode(samples)
    began = time.perf_counter()
    ours = greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary)
    middle = time.perf_counter()
    tokens, at, _ = next(iter(model.asr._decoding(frames[None], np.array([len(frames)]))))
    theirs_s = time.perf_counter() - middle
    same = [e.id for e in ours] == list(tokens) and [e.frame for e in ours] == list(at)
    return len(ours), same, middle - began, theirs_s


def main() -> None:
    """Compare and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help="recordings")
    parser.add_argument("--clips", type=int, default=50)
    args = parser.parse_args()
    model = load_tdt(inspect(args.model), "fp32", "cpu", 0)
    clips = read_clips(args.audio, args.clips)
    results = [compare(model, samples) for samples in clips]
    same = sum(agree for _, agree, _, _ in results)
    tokens = sum(count for count, _, _, _ in results)
    ours, theirs = (sum(result[i] for result in results) for i in (2, 3))
    audio_s = sum(len(samples) for samples in clips) / SAMPLE_RATE
    print(
        f"{same} of {len(results)} clips the same; {tokens} tokens in {audio_s:.0f} s of audio; "
        f"decoding {ours:.2f} s, onnx-asr {theirs:.2f} s"
    )
    sys.exit(0 if results and same == len(results) else 1)


if __name__ == "__main__":
    main()
