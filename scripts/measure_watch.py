"""Whether `stt transcribe --watch` grows as recordings come in.

usage: python scripts/measure_watch.py [MODEL_DIR] [RECORDING] [-n 100] [--at-once 20]

Copies RECORDING into a watched folder again and again, under new names, as fast as the results
come out, and prints the memory of the watching process along the way. Linux alone.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from recordings import DIGITS_MODEL, MODEL_HELP

CLIP = DIGITS_MODEL / "clips" / "two-digits.flac"


def drop(recording: Path, folder: Path, count: int, at_once: int, watching: psutil.Process) -> None:
    """Keep `at_once` recordings waiting until `count` are done; print a line for each tenth."""
    begun = told = 0
    while True:
        done = len(list((folder / "out").glob("*.txt")))
        while begun < min(count, done + at_once):
            shutil.copy(recording, folder / "in" / f"{begun:05}{recording.suffix}")
            begun += 1
        if done >= told + count // 10:
            told = done
            memory = watching.memory_info().rss / (1 << 20)
            print(
                f"{done} done: {memory:,.0f} MiB, {watching.num_threads()} threads, "
                f"{watching.num_fds()} open files",
                flush=True,
            )
        if done >= count:
            return
        time.sleep(0.5)


def main() -> None:
    """Watch, drop, stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("recording", type=Path, nargs="?", default=CLIP)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        command = [sys.executable, "-m", "stt", "transcribe", str(folder / "in"), "--watch", "-q"]
        watching = psutil.Popen(
            [*command, "-o", str(folder / "out"), "-m", str(args.model.resolve())]
        )
        began = time.monotonic()
        drop(args.recording, folder, args.n, args.at_once, watching)
        print(f"{args.n} recordings in {time.monotonic() - began:.0f} s")
        watching.send_signal(signal.SIGINT)
        code = watching.wait(30)
        if code:
            raise subprocess.CalledProcessError(code, command)


if __name__ == "__main__":
    main()
