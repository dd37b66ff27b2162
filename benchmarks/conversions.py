"""FP16 and INT8 conversions of a model side by side: ours and other people's.

usage: python benchmarks/conversions.py [MODEL_DIR] [AUDIO] [--precision fp16|int8] [--rounds N]
                                        [--work DIR]

FP16: `onnxconverter_common` as guides use it, the same with all Casts rewritten, ONNX Runtime's
converter, each also repaired by our `fix`, and ours. INT8: the published style (ONNX Runtime's
`quantize_dynamic` on everything, unsigned weights), `quantize_dynamic` on MatMul alone, and ours.
MODEL_DIR is a TDT model in onnx-asr's layout.

Each conversion is a process of its own, so that its peak memory is its own; so is each result, all
of them loaded at once, and rounds go through them in turn: best and median speed against FP32's.
The usual ways take 2.5 times the model's size of memory, the folder `--work` has room for all
results. Error: relative L2 against FP32, over the valid frames of 30 s of AUDIO (of a decoder over
the logits of one step). Wrong lengths: for how many of 1 to 40,000 feature frames the part of the
graph that computes `encoded_lengths` gives another number than FP32's, in ONNX's reference
implementation, whose float16 is real. Needs the dependency group `test`; Linux alone.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx

from stt.convert.casts import fix
from stt.convert.counting import ENCODED, counted, cut_lengths, miscounted
from stt.convert.fp16 import convert, size_of
from stt.convert.graph import prepared
from stt.convert.int8 import quantize
from stt.convert.model_file import read, write
from stt.errors import ModelError
from stt.types import SAMPLE_RATE

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))
sys.path.append(str(ROOT / "tests"))
from recordings import DIGITS_MODEL, MODEL_HELP, SAMPLES
from recordings import read as read_audio

Feeds = dict[str, np.ndarray]
Way = Callable[[Path, Path], object]
SECONDS, STEPS = 30, 200


def by_others(make: str, source: Path, target: Path) -> None:
    """Convert to float16 as the guides have it: the whole model in memory."""
    from support import others

    model = onnx.load(source)
    if make == "runtime":
        model = others.runtime_converter(model, in_place=True)
    else:
        model = others.usual_recipe(model, in_place=True)
    if make == "blanket":
        model = others.rewrite_casts(model)
    onnx.save(model, target)


def repaired(make: str, source: Path, target: Path) -> None:
    """Convert as others do, and repair that."""
    by_others(make, source, target)
    settled = fix(read(target))
    write(target, settled.file.model, settled.file.weights.values())


def dynamic(products: bool, source: Path, target: Path) -> None:
    """Quantise with ONNX Runtime: matrix products alone, or everything."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    kind = QuantType.QInt8 if products else QuantType.QUInt8
    only = ["MatMul"] if products else None
    quantize_dynamic(source, target, weight_type=kind, op_types_to_quantize=only)


WAYS: dict[str, dict[str, Way]] = {
    "fp16": {
        "usual recipe": partial(by_others, "usual"),
        "usual recipe, then our `fix`": partial(repaired, "usual"),
        "usual recipe, all Casts rewritten": partial(by_others, "blanket"),
        "usual recipe, all Casts rewritten, then our `fix`": partial(repaired, "blanket"),
        "ONNX Runtime's converter": partial(by_others, "runtime"),
        "ONNX Runtime's converter, then our `fix`": partial(repaired, "runtime"),
        "**ours**": convert,
    },
    "int8": {
        "published style": partial(dynamic, False),
        "MatMul only": partial(dynamic, True),
        "**ours**": quantize,
    },
}


def peak_mib() -> float:
    """Peak memory of this process; not getrusage's, which a child takes over from its parent."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def make(way: Way, source: Path, target: Path) -> tuple[float, float, str]:
    """Convert in this process: (seconds, peak MiB, why it was refused)."""
    began = time.perf_counter()
    try:
        way(source, target)
    except ModelError as error:
        return 0.0, 0.0, str(error)
    return time.perf_counter() - began, peak_mib(), ""


def serve(path: Path, feeds: Feeds, runs: int, pipe: Connection) -> None:
    """Load a model and tell what hindered; on every message run it: (seconds, first output)."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph) as error:
        pipe.send(str(error).splitlines()[0])
        return
    pipe.send("")
    while pipe.recv() is not None:
        began = time.perf_counter()
        for _ in range(runs):
            outputs = session.run(None, feeds)
        seconds = (time.perf_counter() - began) / runs
        # frames of padding are nobody's output
        pipe.send((seconds, outputs[0][..., : outputs[1][0]] if "length" in feeds else outputs[0]))
    pipe.send(peak_mib())


@dataclass
class Result:
    """A converted file, and the process that runs it."""

    path: Path
    made: tuple[float, float, str]
    pipe: Connection
    refused: str
    output: np.ndarray
    times: list[float]


def started(path: Path, made: tuple[float, float, str], feeds: Feeds, runs: int) -> Result:
    """Start a process that runs a file."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    refused = made[2]
    if not refused:
        context.Process(target=serve, args=(path, feeds, runs, theirs), daemon=True).start()
        refused = ours.recv()
    return Result(path, made, ours, refused, np.zeros(0), [])


def lengths(path: Path) -> dict[str, np.ndarray]:
    """`encoded_lengths` for 1 to 40,000 feature frames; empty where they need more than that."""
    part = cut_lengths(prepared(read(path)))
    if part is None:
        return {}
    return {ENCODED: counted(part, np.arange(1, 40_001, dtype=np.int64))[ENCODED]}


def compare(source: Path, ways: dict[str, Way], feeds: Feeds, runs: int, args, work: Path) -> None:
    """Print the table of one model file."""
    context = multiprocessing.get_context("spawn")
    found = {"FP32": started(source, (0.0, 0.0, ""), feeds, runs)}
    for number, (name, way) in enumerate(ways.items()):
        target = work / f"{number}-{source.name}"
        with context.Pool(1) as pool:
            made = pool.apply(make, (way, source, target))
        found[name] = started(target, made, feeds, runs)
    for turn in range(args.rounds + 1):
        for result in found.values():
            if not result.refused:
                result.pipe.send("run")
                seconds, result.output = result.pipe.recv()
                result.times += [seconds] if turn else []  # the first round warms up
    first, counting = found["FP32"], "length" in feeds
    right = lengths(source) if counting else {}
    print(f"\n{source.name}, {runs} runs a round")
    print("| way | bytes | made in s | MiB | wrong lengths | error | speed best, median | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, result in found.items():
        if result.refused:
            print(f"| {name} | {result.refused} |")
            continue
        result.pipe.send(None)
        error = np.linalg.norm(result.output - first.output) / np.linalg.norm(first.output)
        speeds = [pick(first.times) / pick(result.times) for pick in (min, np.median)]
        wrong = "-"
        if right:
            frames = np.arange(1, 40_001, dtype=np.int64)
            wrong = f"{len(miscounted(right, lengths(result.path), frames)):,}"
        print(
            f"| {name} | {size_of(result.path):,} | {result.made[0]:.1f} | {result.made[1]:,.0f} | "
            f"{wrong} | {error:.2%} | {speeds[0]:.2f}, {speeds[1]:.2f} | "
            f"{result.pipe.recv():,.0f} |",
            flush=True,
        )


def features(audio: Path) -> Feeds:
    """The encoder's input from the beginning of a recording."""
    from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

    samples = read_audio(audio)[None, : SECONDS * SAMPLE_RATE]
    mels, frames = NemoPreprocessorNumpy("nemo128")(samples, np.array([samples.shape[1]], np.int64))
    signal = np.ascontiguousarray(mels, np.float32)
    return {"audio_signal": signal, "length": frames.astype(np.int64)}


def step(model: Path) -> Feeds:
    """One decoding step on a random encoder frame, with states of that size."""
    inputs = read(model).model.graph.input
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inputs
    }
    rng = np.random.default_rng(3)
    layers, _, width = shapes["input_states_1"]
    states = rng.uniform(-0.5, 0.5, (2, layers, 1, width)).astype(np.float32)
    frame = rng.standard_normal((1, shapes["encoder_outputs"][1], 1)).astype(np.float32)
    return {
        "encoder_outputs": frame,
        "targets": np.array([[3]], np.int32),
        "target_length": np.array([1], np.int32),
        "input_states_1": states[0],
        "input_states_2": states[1],
    }


def main() -> None:
    """Compare encoders on the recording, then decoders on one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES / "story.flac")
    parser.add_argument("--precision", choices=tuple(WAYS), default="int8")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    encoder, decoder = (args.model / f"{n}.onnx" for n in ("encoder-model", "decoder_joint-model"))
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        ways = WAYS[args.precision]
        compare(encoder, ways, features(args.audio), 1, args, Path(folder))
        compare(decoder, ways, step(decoder), STEPS, args, Path(folder))


if __name__ == "__main__":
    main()
