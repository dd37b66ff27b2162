"""Small graphs and what they are run on; models made, loaded and run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, parser

from stt.convert.model_file import GraphFile
from support import graph_texts as texts


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


@dataclass(frozen=True)
class Case:
    """A graph and what to run it on."""

    text: str
    inputs: dict[str, np.ndarray]
    tolerance: float = 0.02
    rows: int | None = None
    """How many of the first axis have a meaning; what is padding only must be finite."""


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(2)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    n = np.array([0, 1, 2047, 2049, 4095, 5999, 32767, 40000])
    x = normal(len(n))
    mask = np.array([[1] * 7, [1] * 3 + [0] * 4, [0] * 7])
    yes, no = {"yes": np.array(True)}, {"yes": np.array(False)}
    return {
        "lengths": Case(texts.LENGTHS, {"audio_signal": normal(8, 4, 6), "length": n}),
        "lengths made of more": Case(texts.LENGTHS_MADE_OF_MORE, {"x": x, "length": n}),
        "lengths in a branch": Case(
            texts.LENGTHS_IN_A_BRANCH, {"x": x, "length": n, "padded": np.array(True)}
        ),
        "padding": Case(texts.PADDING, {"x": normal(2, 3000, 4), "length": np.array([3000, 2051])}),
        "attention": Case(
            texts.ATTENTION, {"ids": rng.integers(0, 50, (3, 7)), "mask": mask}, rows=2
        ),
        "attention by Where": Case(texts.ATTENTION_WHERE, {"x": normal(3, 7, 4), "mask": mask}),
        "positions": Case(texts.POSITIONS, {"x": normal(1, 5000, 4)}, tolerance=0.15),
        "branches, yes": Case(texts.BRANCHES, {"x": normal(3, 4), **yes}),
        "branches, no": Case(texts.BRANCHES, {"x": normal(3, 4), **no}),
        "nested branches, yes": Case(texts.NESTED_BRANCHES, {"x": normal(3, 4), **yes}),
        "nested branches, no": Case(texts.NESTED_BRANCHES, {"x": normal(3, 4), **no}),
        "loop": Case(texts.LOOP, {"x": normal(3, 4)}),
        "scan": Case(texts.SCAN, {"x": normal(5, 4)}),
        "resize": Case(texts.RESIZE, {"x": normal(1, 2, 4, 4)}),
        "microsoft": Case(texts.MICROSOFT, {"x": normal(2, 3, 8)}),
        "two readers": Case(texts.TWO_READERS, {"x": x, "n": n}, tolerance=20),
        "constants": Case(texts.CONSTANTS, {"x": x, "n": n}),
        "doubles": Case(texts.DOUBLES, {"x": x}),
        "function": Case(texts.FUNCTION, {"x": x, "n": n}),
    }


HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def parsed(text: str) -> onnx.ModelProto:
    """Parse a graph, whose head may be missing, and name its nodes."""
    text = text.strip()
    model = parser.parse_model(text if text.startswith("<ir") else f"{HEAD} {text}")
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    return model


def build(text: str) -> onnx.ModelProto:
    """Parse a graph and draw the weights it gives no values for."""
    model = parsed(text)
    rng = np.random.default_rng(1)
    made = {name for node in model.graph.node for name in node.output}
    for value in model.graph.value_info:
        if value.name not in made:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            drawn = rng.standard_normal(shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(drawn, value.name))
    del model.graph.value_info[:]
    return model


def made(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
) -> onnx.ModelProto:
    """A checked model of float32 inputs and outputs."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


CASES = _cases()


def in_memory(model: onnx.ModelProto) -> GraphFile:
    """A GraphFile whose weights are all in the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return GraphFile(copy, {})


def session(model: Path | bytes, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """On one thread: more of them wait for each other in a loop, which costs processor time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if not optimised:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def outputs(model: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a file in ONNX Runtime."""
    return session(model).run(None, inputs)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Load in ONNX Runtime, which checks the types, and run as the graph is written.

    Optimised, a CPU without float16 arithmetic hides it by running whole chains in float32.
    """
    loaded = session(model.SerializeToString(), optimised=False)
    names = [value.name for value in loaded.get_outputs()]
    return dict(zip(names, loaded.run(None, inputs), strict=True))


def evaluate(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in the reference implementation, whose float16 is real."""
    from onnx.reference import ReferenceEvaluator

    names = [value.name for value in model.graph.output]
    with np.errstate(all="ignore"):
        return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))
