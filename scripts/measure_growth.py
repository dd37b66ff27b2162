"""Whether memory grows with the number of utterances: many lengths through one loaded model.

usage: python scripts/measure_growth.py [MODEL_DIR] [--precision fp32] [-n 200] [--longest 28]

Utterances of random length are recognised as `stt transcribe` does it, several at a time where the
CPU is shared out so. The first tenth, with the longest among it, is the warm-up. Prints the memory
in use (resident set) after it and then after every fifth of the rest.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from recordings import DIGITS_MODEL, MODEL_HELP
from stt.engine.folder import inspect
from stt.engine.recognizer import load_recognizer
from stt.install.clips import bundled_clips, of_length


def lengths(number: int, longest: float) -> Iterator[float]:
    """Yield lengths in seconds, the longest first."""
    chance = random.Random(1)
    yield longest
    for _ in range(number - 1):
        yield chance.uniform(0.3, longest)


def main() -> None:
    """Recognise and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--longest", type=float, default=28.0)
    args = parser.parse_args()
    recognizer, _ = load_recognizer(
        inspect(args.model), precision=args.precision, provider="cpu", strict=True, jobs=0
    )
    speech = of_length(bundled_clips(), args.longest)

    def recognize(seconds: float) -> None:
        recognizer.recognize([np.roll(speech, round(seconds * 999))[: round(seconds * 16_000)]])

    process = psutil.Process()
    marks = {args.n // 10} | {args.n // 10 + (args.n - args.n // 10) * k // 5 for k in range(1, 6)}
    with ThreadPoolExecutor(recognizer.streams) as pool:
        done = pool.map(recognize, lengths(args.n, args.longest))
        for number, _ in enumerate(done, start=1):
            if number in marks:
                print(f"{number:6} utterances: {process.memory_info().rss / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
