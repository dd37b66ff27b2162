"""What this machine could do at best for a model: products per second, bytes per second.

usage: python scripts/measure_limits.py [MODEL_DIR] [--threads N] [--seconds S]

Prints the encoder's operations per second of audio (a multiplication and an addition are two), the
best rate of ONNX Runtime on one large product in FP32 and INT8, the rate at which weights can be
read from memory, and the bytes of weights a decoding step reads; and from these the least time that
encoder and step can take. MODEL_DIR is an onnx-asr folder of a transducer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from recordings import DIGITS_MODEL, MODEL_HELP
from stt.convert.model_file import read
from stt.engine.sessions import session_options, usable_cores

ROWS, INNER, COLUMNS = 384, 1024, 4096
"""A feed-forward product of Parakeet's encoder on about 30 s."""
FRAMES_PER_SECOND = 12.5
PRODUCTS = ("MatMul", "Gemm", "Conv")


def encoder_operations(model: Path, frames: float) -> float:
    """Operations per second of audio, from the weights and, for attention, the frames there are.

    Weights of the subsampling before the layers are counted once per encoder frame like all others,
    an underestimate of about 2 %; those of the relative positions twice, as there are 2 T - 1.
    """
    file = read(model)
    total = 0.0
    width = layers = 0
    for node in file.model.graph.node:
        weight = next((file.weights[n] for n in node.input if n in file.weights), None)
        if node.op_type in PRODUCTS and weight is not None:
            times = 2 if "linear_pos" in node.name else 1
            total += 2 * times * float(np.prod(weight.shape))
        if node.op_type == "Softmax":
            layers += 1
        if "linear_pos" in node.name and weight is not None:
            width = weight.shape[-1]
    attention = 2 * 4 * frames * width * layers  # scores, positions (twice as many) and mixing
    return (total + attention) * FRAMES_PER_SECOND


def product_model(integer: bool) -> bytes:
    """One product with a constant matrix, FP32 or as our INT8 has it."""
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 1, (INNER, COLUMNS)).astype(np.float32)
    initializers = {"w": weight}
    nodes = [make_node("MatMul", ["x", "w"], ["y"])]
    if integer:
        initializers = {
            "w": rng.integers(-127, 127, (INNER, COLUMNS)).astype(np.int8),
            "scale": np.full(COLUMNS, 0.01, np.float32),
            "zero": np.zeros(COLUMNS, np.int8),
        }
        names = ["x", "w", "scale", "zero"]
        nodes = [make_node("DynamicQuantizeMatMul", names, ["y"], domain="com.microsoft")]
    graph = make_graph(
        nodes,
        "product",
        [make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, INNER])],
        [make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, COLUMNS])],
        [onnx.numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    opsets = [make_opsetid("", 17), make_opsetid("com.microsoft", 1)]
    return make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def best_rate(integer: bool, threads: int, seconds: float) -> float:
    """Operations per second of the fastest run of that product."""
    session = onnxruntime.InferenceSession(
        product_model(integer), session_options(threads), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(2).normal(0, 1, (ROWS, INNER)).astype(np.float32)
    return 2.0 * ROWS * INNER * COLUMNS / fastest(lambda: session.run(None, {"x": x}), seconds)


def read_rate(threads: int, seconds: float) -> float:
    """Bytes per second of a matrix-vector product of 1 GiB of FP32 weights, the fastest run."""
    initializer = onnx.numpy_helper.from_array(np.zeros((1 << 14, 1 << 14), np.float32), "w")
    graph = make_graph(
        [make_node("ReduceSum", ["w"], ["y"], keepdims=0)],
        "sum",
        [make_tensor_value_info("w", TensorProto.FLOAT, [1 << 14, 1 << 14])],
        [make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    weights = onnx.numpy_helper.to_array(initializer)
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    return weights.nbytes / fastest(lambda: session.run(None, {"w": weights}), seconds)


def fastest(run: object, seconds: float) -> float:
    """Seconds of the fastest of many runs."""
    assert callable(run)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def step_bytes(model: Path) -> int:
    """Bytes of weights a decoding step reads: all but the embedding, of which it reads a row."""
    file = read(model)
    looked_up = {
        n for node in file.model.graph.node if "Gather" in node.op_type for n in node.input
    }
    return sum(weight.nbytes for name, weight in file.weights.items() if name not in looked_up)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--seconds", type=float, default=5, help="of every measurement")
    args = parser.parse_args()
    need = encoder_operations(args.model / "encoder-model.onnx", 28 * FRAMES_PER_SECOND)
    reading = read_rate(args.threads, args.seconds)
    print(f"encoder: {need / 1e9:.1f} G operations per second of audio (28 s at a time)")
    for name, integer in (("FP32", False), ("INT8", True)):
        rate = best_rate(integer, args.threads, args.seconds)
        print(
            f"{name}: {rate / 1e9:,.0f} G operations a second, {args.threads} threads: "
            f"encoder at least {1000 * need / rate:.1f} ms per second of audio"
        )
    print(f"memory: {reading / 1e9:.1f} GB/s")
    for suffix, name in (("", "FP32"), (".int8", "INT8")):
        path = args.model / f"decoder_joint-model{suffix}.onnx"
        if path.exists():
            size = step_bytes(path)
            print(
                f"{name} decoding step: {size / 1e6:.1f} MB of weights, "
                f"at least {1e6 * size / reading:.0f} us from memory"
            )


if __name__ == "__main__":
    main()
