"""Write Silero VAD's network with matrix products in place of its convolutions.

usage: python tools/vad/rewrite.py [SOURCE] [TARGET]

SOURCE, by default tests/data/silero_vad.onnx, is the network in its sequence form as the package
silero-vad 6.2.3 has it (SHA-256 9ccdacc4...8a85). TARGET, by default what the package `stt` uses,
is the same function up to rounding: over speech of a minute, probabilities differ by less than
1e-5 (tests/audio/test_vad.py). ONNX Runtime runs it in a fourth of the time: its convolutions of
four steps cost more to set up than to compute, and a product takes all frames at once.

A frame of 576 samples is reflected to 640, which are five hops of 128; a window of the spectrum is
two neighbouring hops. Both meet the same waves, in odd bins with the other sign, so that they are
added, or subtracted, before they are multiplied: half the work. A convolution of three steps is a
product with three neighbouring steps side by side. The third and fourth see one step alone, so that
what padding meets is left out.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "data" / "silero_vad.onnx"
TARGET = ROOT / "src" / "stt" / "audio" / "silero_vad.onnx"
SHA256 = "9ccdacc4"
BINS, HALF = 129, 128
EVEN, ODD = np.arange(0, BINS, 2), np.arange(1, BINS, 2)
Array = npt.NDArray[Any]


class Graph:
    """Nodes and constants as they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def node(self, kind: str, inputs: list[str | Array], name: str, **attributes: Any) -> str:
        """Add a node; arrays among its inputs become constants. Returns its output."""
        arrays = {f"{name}/{n}": v for n, v in enumerate(inputs) if not isinstance(v, str)}
        self.constants |= {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        names = [v if isinstance(v, str) else f"{name}/{n}" for n, v in enumerate(inputs)]
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def cut(self, value: str, start: int, end: int, axis: int, name: str, step: int = 1) -> str:
        """Take indices start, start + step, ... before `end` of an axis."""
        return self.node("Slice", [value, *map(whole, (start, end, axis, step))], name)

    def layer(self, value: str, matrix: Array, bias: Array, name: str) -> str:
        """A product with a bias, and what is below zero cut off."""
        product = self.node("MatMul", [value, matrix], f"{name}/product")
        return self.node("Relu", [self.node("Add", [product, bias], f"{name}/biased")], name)

    def convolved(self, value: str, weight: Array, bias: Array, outputs: int, name: str) -> str:
        """Convolve [n, 4, C] over its steps: `outputs` is 4 (stride 1) or 2 (stride 2)."""
        padded = self.node("Pad", [value, whole(0, 1, 0, 0, 1, 0)], f"{name}/padded")
        stride = 4 // outputs
        steps = [
            self.cut(padded, tap, tap + (outputs - 1) * stride + 1, 1, f"{name}/{tap}", stride)
            for tap in range(3)
        ]
        beside = self.node("Concat", steps, f"{name}/steps", axis=2)
        return self.layer(beside, np.vstack([weight[:, :, tap].T for tap in range(3)]), bias, name)


def whole(*values: int) -> Array:
    """Integers as a constant."""
    return np.array(values, np.int64)


def single(values: Array) -> Array:
    """Numbers as the network has them."""
    return values.astype(np.float32)


def magnitudes(graph: Graph, hops: str, basis: Array) -> str:
    """Return the magnitudes of four windows' spectra, [n, 4, 129], even bins first.

    Args:
        graph: what they are added to.
        hops: [n, 5, 128]; a window is two neighbours.
        basis: [258, 256], cosines and sines under a Hann window.
    """
    at = 2 * np.pi * np.outer(np.arange(BINS), np.arange(2 * HALF)) / (2 * HALF)
    window = 0.5 - 0.5 * np.cos(at[1])
    waves = np.stack([np.cos(at), -np.sin(at)])
    np.testing.assert_allclose((window * waves).reshape(basis.shape), basis, atol=2e-6)
    halves = [
        graph.node(
            "Mul",
            [graph.cut(hops, number, 4 + number, 1, f"hops.{number}"), single(part)],
            f"half.{number}",
        )
        for number, part in enumerate(np.split(window, 2))
    ]
    powers = []
    for bins, operation, name in ((EVEN, "Add", "even"), (ODD, "Sub", "odd")):
        folded = graph.node(operation, halves, name)
        products = [
            graph.node("MatMul", [folded, single(part[bins, :HALF].T)], f"{name}.{number}")
            for number, part in enumerate(waves)
        ]
        squares = [graph.node("Mul", [part, part], f"{part}/square") for part in products]
        powers.append(graph.node("Add", squares, f"{name}/power"))
    return graph.node("Sqrt", [graph.node("Concat", powers, "power", axis=2)], "magnitude")


def rewritten(source: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with products."""
    given = {t.name: numpy_helper.to_array(t) for t in source.graph.initializer}
    lstm = next(node for node in source.graph.node if node.op_type == "LSTM")
    graph = Graph()
    node = graph.node
    padded = node("Pad", ["input", whole(0, 0, 0, 64)], "padded", mode="reflect")
    hops = node("Reshape", [padded, whole(-1, 5, 128)], "hops")
    value = magnitudes(graph, hops, given["stft.forward_basis_buffer"][:, 0])
    for number, outputs in ((0, 4), (1, 2)):
        weight, bias = given[f"encoder.{number}.weight"], given[f"encoder.{number}.bias"]
        weight = weight if number else weight[:, [*EVEN, *ODD]]
        value = graph.convolved(value, weight, bias, outputs, f"encoder.{number}")
    weight = given["encoder.2.weight"]
    value = node("Reshape", [value, whole(-1, 2 * weight.shape[1])], "two_steps")
    taps = np.vstack([weight[:, :, 1].T, weight[:, :, 2].T])
    value = graph.layer(value, taps, given["encoder.2.bias"], "encoder.2")
    taps = given["encoder.3.weight"][:, :, 1].T
    value = graph.layer(value, taps, given["encoder.3.bias"], "encoder.3")
    node("Unsqueeze", [value, whole(1)], "sequence")
    names = ["lstm/w", "lstm/r", "lstm/b"]
    graph.constants |= dict(zip(names, (given[name] for name in lstm.input[1:4]), strict=True))
    inputs, outputs = ["sequence", *names, "", "h", "c"], ["lstm", "hn", "cn"]
    graph.nodes.append(helper.make_node("LSTM", inputs, outputs, "lstm", hidden_size=128))
    heard = node("Relu", [node("Reshape", ["lstm", whole(-1, 128)], "state")], "heard")
    product = node("MatMul", [heard, given["output.weight"][0]], "output/product")
    logit = node("Add", [product, given["output.bias"]], "output")
    node("Reshape", [node("Sigmoid", [logit], "probability"), whole(-1)], "speech_probs")
    return model(graph)


def model(graph: Graph) -> onnx.ModelProto:
    """Put the nodes into a model with the source's inputs and outputs."""

    def values(shapes: dict[str, list[Any]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    state = [1, 1, 128]
    constants = [numpy_helper.from_array(v, name) for name, v in graph.constants.items()]
    made = helper.make_graph(
        graph.nodes,
        "silero_vad",
        values({"input": ["frames", 576], "h": state, "c": state}),
        values({"speech_probs": ["frames"], "hn": state, "cn": state}),
        constants,
    )
    found = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(found)
    return found


def main() -> None:
    """Read, rewrite, write."""
    if set(sys.argv[1:]) & {"-h", "--help"} or len(sys.argv) > 3:
        print(__doc__)
        sys.exit(0 if len(sys.argv) == 2 else 2)
    source, target = (*map(Path, sys.argv[1:]), *(SOURCE, TARGET)[len(sys.argv) - 1 :])
    content = source.read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith(SHA256):
        sys.exit(f"{source}: is another network than the one this knows")
    target.write_bytes(rewritten(onnx.load_from_string(content)).SerializeToString())
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
