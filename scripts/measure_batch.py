"""What a recording costs beside its recognition, and whether memory grows with their number.

usage: python scripts/measure_batch.py [MODEL_DIR] [-n 200] [--seconds 0.2] [--ray [ADDRESS]]

Writes N recordings of silence, of which no model hears anything, transcribes them with
`stt.batch.folder.transcribe_all` into a folder, and then once more, when all are done. Prints
milliseconds per recording, and the memory of this process along the way; with `--ray` on a cluster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import psutil
import soundfile

from recordings import DIGITS_MODEL, MODEL_HELP
from stt.batch.folder import Delivery, Job, named, transcribe_all
from stt.batch.journal import Journal
from stt.batch.pool import Pool, local_pool
from stt.settings.loading import load_settings
from stt.transcriber import load_with


def run(pool: Pool, jobs: list[Job], output: Path) -> None:
    """Transcribe all, and print what it took."""
    process = psutil.Process()
    memory = []
    began = time.perf_counter()
    with Journal(output) as journal:
        jobs = named(jobs, journal)
        delivery = Delivery(output, ("txt",))
        states = set()
        for number, outcome in enumerate(transcribe_all(pool, jobs, delivery, journal)):
            states.add(outcome.state)
            if number in {len(jobs) // 10, len(jobs) // 2, len(jobs) - 1}:
                memory.append(f"{process.memory_info().rss / (1 << 20):,.0f}")
    taken = time.perf_counter() - began
    print(
        f"{len(jobs)} recordings {'/'.join(sorted(states))}: {1000 * taken / len(jobs):.2f} ms "
        f"each; memory after a tenth, half and all of them: {', '.join(memory)} MiB"
    )


def pool_on(model: Path, ray: str | None) -> AbstractContextManager[Pool]:
    """Open a pool here, or on a cluster."""
    loaded = load_settings(None, {"model": str(model.resolve()), "provider": "cpu"})
    if ray is not None:
        from stt.batch.ray_pool import ray_pool

        return ray_pool(ray, loaded, None, print)
    return local_pool(load_with(loaded), None)


def main() -> None:
    """Make the recordings and run twice."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--ray", nargs="?", const="", metavar="ADDRESS")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        silence = np.zeros(round(args.seconds * 16_000), np.int16)  # but for its number
        jobs = []
        for number in range(args.n):
            path = place / f"{number:05}.wav"
            silence[:2] = number % 100, number // 100  # copies would be done once
            soundfile.write(path, silence, 16_000)
            jobs.append(Job(str(path), path.stem))
        with pool_on(args.model, args.ray) as pool:
            for _ in range(2):
                run(pool, jobs, place / "out")


if __name__ == "__main__":
    main()
