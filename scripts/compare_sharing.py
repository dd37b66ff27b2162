"""How to share a CPU's cores out among utterances: all on one, on a batch, or one on each.

usage: python scripts/compare_sharing.py [MODEL_DIR] [--precision fp32] [--threads 2] [--rounds 5]
                                         [--utterances 8] [--seconds 28]

The same utterances of one length, features to text, one way after the other in every round:
one at a time with all threads; in batches of 4 with all threads; several at a time with the threads
shared out among them, 1 to each and, where there are enough, 2. Prints seconds of audio per second
(median, slowest, fastest) and processor time per second of audio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from recordings import DIGITS_MODEL, MODEL_HELP
from stt.engine.folder import inspect
from stt.engine.sessions import usable_cores
from stt.install.clips import bundled_clips, of_length
from stt.models.onnx_asr_edge import TdtModel, batch_features, load_tdt, usable

Samples = np.ndarray
BATCH = 4


def one_by_one(model: TdtModel, utterances: list[Samples]) -> None:
    """All threads on each in turn."""
    for samples in utterances:
        model.decode([model.encode(samples)])


def in_batches(model: TdtModel, utterances: list[Samples]) -> None:
    """All threads on four at a time."""
    for begin in range(0, len(utterances), BATCH):
        features = batch_features(model.asr, utterances[begin : begin + BATCH])
        frames, lengths = model.asr._encode(*features)
        model.decode([usable(f, int(n)) for f, n in zip(frames, lengths, strict=True)])


def side_by_side(model: TdtModel, utterances: list[Samples], streams: int) -> None:
    """Some at a time, each with the threads of the model's sessions."""
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(lambda samples: model.decode([model.encode(samples)]), utterances))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=28.0)
    args = parser.parse_args()
    speech = of_length(bundled_clips(), args.seconds)
    utterances = [np.roll(speech, 12_345 * n) for n in range(args.utterances)]
    folder = inspect(args.model)
    models = {
        each: load_tdt(folder, args.precision, "cpu", each)
        for each in {args.threads, 1, *([2] if args.threads >= 4 else [])}
    }
    whole = models[args.threads]
    ways: dict[str, Callable[[], None]] = {
        f"one at a time, {args.threads} threads": lambda: one_by_one(whole, utterances),
        f"batches of {BATCH}, {args.threads} threads": lambda: in_batches(whole, utterances),
    }
    for each, model in models.items():
        if (streams := args.threads // each) > 1:
            ways[f"{streams} at a time, {each} thread{'s' * (each > 1)} each"] = (
                lambda model=model, streams=streams: side_by_side(model, utterances, streams)
            )
    audio = args.seconds * len(utterances)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.rounds + 1):
        for name, run in ways.items():
            began, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                speeds[name].append(audio / (time.perf_counter() - began))
                costs[name].append(1000 * (time.process_time() - cpu) / audio)
    print(f"| {args.precision} | RTFx | slowest - fastest | CPU, ms per s |\n|---|---|---|---|")
    for name in ways:
        found = speeds[name]
        print(
            f"| {name} | {median(found):.1f} | {min(found):.1f} - {max(found):.1f} | "
            f"{median(costs[name]):.1f} |"
        )


if __name__ == "__main__":
    main()
