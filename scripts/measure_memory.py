"""Peak memory of `stt transcribe` against the length of the recording.

usage: python scripts/measure_memory.py [--model NAME|DIR] [--minutes 10 60] [--suffix flac]

The recordings repeat samples/story.flac. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

STORY = Path(__file__).parents[1] / "samples" / "story.flac"


def write_recording(path: Path, minutes: float) -> None:
    """Repeat the story until the recording is `minutes` long."""
    samples, rate = soundfile.read(STORY, dtype="float32")
    left = int(minutes * 60 * rate)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)


def run(path: Path, model: str) -> tuple[float, float]:
    """Transcribe; returns (peak memory in MiB, seconds of wall time)."""
    command = [sys.executable, "-m", "stt", "transcribe", "-q", "-m", model, str(path)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{path.name}: exit code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    """Print one row per length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    parser.add_argument("--suffix", default="flac")
    args = parser.parse_args()
    print("| minutes | peak MiB | seconds | RTFx, loading included |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            path = Path(folder, f"{minutes:g}min.{args.suffix}")
            write_recording(path, minutes)
            peak, wall = run(path, args.model)
            print(f"| {minutes:g} | {peak:.0f} | {wall:.1f} | {minutes * 60 / wall:.1f} |")


if __name__ == "__main__":
    main()
