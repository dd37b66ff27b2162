"""Speed on an NVIDIA GPU: build the full-size stand-in, set it up in FP16, measure, print a table.

usage: python scripts/bench_gpu.py MAKE_FACSIMILE [--work DIR] [--batch N,N,...]

MAKE_FACSIMILE is the script that writes the stand-in (`make_facsimile.py OUT_DIR`). Needs the extra
`gpu`, 10 GB of disk, 24 GB of memory and a CUDA card. It measures what ONNX Runtime finds of CUDA
and TensorRT, each beside onnx-asr, `stt bench` doing the work. It was written without a GPU at hand
and has never run on one. The stand-in's weights are random: its speed is Parakeet's, its text is
noise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from stt.bench import Plan, bench, contenders
from stt.cli.bench import table
from stt.errors import SttError
from stt.models.folder import inspect
from stt.models.installation import Events
from stt.models.measure import providers_here
from stt.models.places import Places
from stt.models.setup import Order, set_up
from stt.models.source import find_source


def report(stage: str, done: int, total: int) -> None:
    """Say on stderr what is being done."""
    print(f"bench_gpu: {stage}, {done} of {total}", file=sys.stderr)


def main() -> None:
    """Build what is missing, then measure every GPU provider there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("make_facsimile", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/gpu"))
    parser.add_argument("--batch", default="1,8,32,64,128")
    args = parser.parse_args()
    batches = tuple(sorted(int(part) for part in args.batch.split(",")))
    providers = [name for name in providers_here() if name in ("cuda", "tensorrt")]
    if not providers:
        sys.exit("bench_gpu: this ONNX Runtime has neither CUDA nor TensorRT; install extra `gpu`")
    made = args.work / "stand-in"
    if not (made / "config.json").exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(args.make_facsimile), str(made)], check=True)
    events = Events(report, lambda line: print(f"bench_gpu: {line}", file=sys.stderr))
    source = find_source(str(made), None, Places.only(args.work))
    model = set_up(source, args.work / "models", Order(), events)
    for provider in providers:
        try:
            found = contenders(inspect(model), ["onnx-asr"], provider, Places.only(model.parent))
            print(table(bench(Plan(found, batches, (0,), provider), report)), end="\n\n")
        except SttError as error:
            print(f"bench_gpu: {provider}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
