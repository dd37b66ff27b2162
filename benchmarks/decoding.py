"""How fast a transducer is decoded on the CPU, by batch, beside onnx-asr with the same files.

usage: python benchmarks/decoding.py [MODEL_DIR] [--precision P] [--threads N[,N...]]
                                     [--batch N[,N...]] [--rounds R]

The encoder runs once, over speech of 2 to 20 s; then its frames are decoded, by label looping over
the decoder_joint in parts and by onnx-asr's own loop, in turns. Both find the same tokens, or it
says so. Milliseconds of wall time for a second of audio, the fastest of the rounds; `steps` are
calls of the joint for a token: what a second of speech costs where each reads all weights anew.

MODEL_DIR: a folder in onnx-asr's layout; by default the tests' small model. The parts are written
into a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_asr
import onnxruntime

from stt.convert.split import split_file
from stt.engine.sessions import Runtime, session_options, session_providers
from stt.models import inspect
from stt.models.label_looping import label_looping
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.split_transducer import SplitTransducer, load_graph
from stt.types import Floats

sys.path += [str(Path(__file__).parents[1] / "scripts"), str(Path(__file__).parent)]
from gpu_path import Size, clips
from recordings import DIGITS_MODEL, MODEL_HELP

SPEECH = Size((), 20.0, 0, 0.0, 0)
DIFFERENT = 14
"""Utterances that there are; a larger batch has them again."""


def numbers(text: str) -> list[int]:
    """Read numbers with commas between them."""
    return [int(one) for one in text.split(",")]


def in_parts(model: Path, precision: str, threads: int, folder: Path) -> SplitTransducer:
    """Take the decoder_joint apart, and load it."""
    family = inspect(model).family
    names = [folder / Path(name).name for name in family.parts(precision)]
    if not names[0].exists():
        split_file(model / family.graphs(precision)[1], names)
    options = session_options(threads, spinning=False)
    return SplitTransducer(*(load_graph(name, options, session_providers("cpu")) for name in names))


def theirs(model: Path, precision: str, threads: int) -> Any:
    """Load onnx-asr's model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    loaded = onnx_asr.load_model(
        inspect(model).family.name,
        model,
        quantization=None if precision == "fp32" else precision,
        providers=session_providers("cpu"),
        sess_options=options,
    )
    return loaded.asr


def padded(frames: Sequence[Floats]) -> tuple[Floats, Any]:
    """Frames of a batch as onnx-asr's loop takes them."""
    lengths = np.array([len(one) for one in frames])
    whole = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), np.float32)
    for row, one in zip(whole, frames, strict=True):
        row[: len(one)] = one
    return whole, lengths


def measure(model: TdtModel, parts: SplitTransducer, other: Any, batch: int, rounds: int) -> None:
    """Decode a batch both ways, in turns, and print."""
    frames = [model.encode(clip) for clip in clips(SPEECH, DIFFERENT)]
    groups = [[one] for one in frames] if batch == 1 else [list(islice(cycle(frames), batch))]
    seconds = sum(len(one) for group in groups for one in group) * model.frame_s
    vocabulary, steps = model.vocabulary, [0]
    step = other._decode

    def counted(*given: Any) -> Any:
        steps[0] += 1
        return step(*given)

    other._decode = counted

    def ours() -> list[list[int]]:
        found = []
        for group in groups:
            networks = parts.batch(group, vocabulary)
            decoded = label_looping(networks, [len(one) for one in group], vocabulary)
            found += [[emission.id for emission in one.emissions] for one in decoded]
        return found

    def onnx_asrs() -> list[list[int]]:
        return [list(one[0]) for group in groups for one in other._decoding(*padded(group))]

    ways: dict[str, Callable[[], list[list[int]]]] = {"stt": ours, "onnx-asr": onnx_asrs}
    cost, said = dict.fromkeys(ways, float("inf")), dict[str, list[list[int]]]()
    for _ in range(rounds):
        for name, decode in ways.items():
            began = time.perf_counter()
            said[name] = decode()
            cost[name] = min(cost[name], 1e3 * (time.perf_counter() - began) / seconds)
    other._decode = step
    tokens = sum(map(len, said["stt"]))
    print(
        f"  batch {batch:2}: stt {cost['stt']:6.2f} ms/s, onnx-asr {cost['onnx-asr']:6.2f}: "
        f"{cost['onnx-asr'] / cost['stt']:.2f} times as fast; {tokens / seconds:.1f} tokens a "
        f"second, {steps[0] / rounds / tokens:.2f} steps of onnx-asr's a token"
        + ("" if said["stt"] == said["onnx-asr"] else "; the tokens differ"),
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=numbers, default=[1], metavar="N[,N...]")
    parser.add_argument("--batch", type=numbers, default=[1, 4, 16, 64], metavar="N[,N...]")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    model = load_tdt(inspect(asked.model).as_published, asked.precision, Runtime("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        for threads in asked.threads:
            print(f"{asked.precision}, {threads} thread{'s' * (threads > 1)}:")
            parts = in_parts(asked.model, asked.precision, threads, Path(folder))
            other = theirs(asked.model, asked.precision, threads)
            for batch in asked.batch:
                measure(model, parts, other, batch, asked.rounds)


if __name__ == "__main__":
    main()
