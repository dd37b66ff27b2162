"""Random graphs of elementwise nodes, lengths among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Drawn:
    """A random graph: `x` and `n` in; `y` of floats and `k` counted from `n` alone out."""

    model: onnx.ModelProto
    smooth: bool
    """Whether no rounding or comparing of floats from `x` leads to `y`."""


_BINARY = ("Add", "Mul", "Sub", "Max", "Div")
_UNARY = ("Floor", "Tanh", "Relu", "Neg")
_CONSTANTS = {"zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "eight": 8.0}


@dataclass
class _Value:
    name: str
    pure: bool
    """Made of `n` and constants alone."""
    smooth: bool = True


def random_graph(choices: list[int]) -> Drawn:
    """Draw a graph of elementwise nodes by a list of numbers, three for a node."""
    floats = [_Value("x", False), _Value("c", True), *(_Value(c, True) for c in _CONSTANTS)]
    ints = [_Value("n", True)]
    nodes = [
        helper.make_node("Cast", ["n"], ["c"], "cast_n", to=1),
        helper.make_node("Constant", [], ["eight"], "eight", value_float=8.0),
    ]
    draws = iter(choices)
    for index, (op, first, second) in enumerate(zip(draws, draws, draws, strict=False)):
        left, right = floats[first % len(floats)], floats[second % len(floats)]
        nodes += _drawn(index, op % 16, left, right, ints[first % len(ints)], floats, ints)
    data = [value for value in floats if not value.pure]
    nodes.append(helper.make_node("Add", [data[-1].name, floats[-1].name], ["y"], "last"))
    pure = [value.name for value in ints if value.pure]
    nodes.append(helper.make_node("Identity", [pure[-1]], ["k"], "count"))
    info = helper.make_tensor_value_info
    stored = {name: np.array([v], np.float32) for name, v in _CONSTANTS.items() if name != "eight"}
    graph = helper.make_graph(
        nodes,
        "random",
        [info("x", 1, ["N"]), info("n", 7, ["N"])],
        [info("y", 1, ["N"]), info("k", 7, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Drawn(model, data[-1].smooth and floats[-1].smooth)


def _drawn(
    index: int,
    kind: int,
    left: _Value,
    right: _Value,
    whole: _Value,
    floats: list[_Value],
    ints: list[_Value],
) -> Iterator[onnx.NodeProto]:
    name, out = f"node{index}", f"v{index}"
    inner = f"{out}_inner"
    pure, smooth = left.pure and right.pure, left.smooth and right.smooth

    def node(op: str, *inputs: str, output: str = out, **attributes: int) -> onnx.NodeProto:
        label = name if output == out else f"{name}_inner"
        return helper.make_node(op, inputs, [output], label, **attributes)

    if kind < 5:
        yield node(_BINARY[kind], left.name, right.name)
    elif kind < 9:
        op = _UNARY[kind - 5]
        yield node(op, left.name)
        pure, smooth = left.pure, left.smooth and (left.pure or op != "Floor")
    elif kind < 11:
        yield node("Cast", left.name, to=7)
        ints.append(_Value(out, left.pure, left.smooth and left.pure))
        return
    elif kind == 11:
        yield node("Cast", whole.name, to=1)
        pure, smooth = whole.pure, whole.smooth
    elif kind == 12:  # a comparison that chooses: a minimum, without jumps
        yield node("Less", left.name, right.name, output=inner)
        yield node("Where", inner, left.name, right.name)
    elif kind == 13:  # a mask
        yield node("Less", left.name, right.name, output=inner)
        yield node("Cast", inner, to=1)
        smooth = smooth and pure
    elif kind == 14:
        yield node("Shape", left.name, output=inner)
        yield node("Expand", right.name, inner)
        pure, smooth = right.pure, right.smooth
    else:
        yield node("Cast", left.name, output=inner, to=11)
        yield node("Cast", inner, to=1)
        pure, smooth = left.pure, left.smooth
    floats.append(_Value(out, pure, smooth))
