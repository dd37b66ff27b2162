"""Float16 that is only storage: weights kept in half to save disk, cast to float before any use.

Such a graph computes in float32. `widened` writes the weights out in float32, so that conversions
see an FP32 model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stt.convert.counting import MOVES
from stt.convert.element_types import FLOAT, FLOAT16, Types, attribute, captures, infer, subgraphs
from stt.convert.model_file import Array, GraphFile, Weight, value_of

if TYPE_CHECKING:
    import onnx


def widened(file: GraphFile) -> GraphFile:
    """Return the graph with stored float16 in float32; one that computes in it as it is.

    Args:
        file: its nodes in order; not changed.
    """
    types = infer(file)
    stored = _stored(file.model.graph, types)
    if not stored or stored != {name for name, kind in types.of.items() if kind == FLOAT16}:
        return file
    model = type(file.model).FromString(file.model.SerializeToString())
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT16:
            _widen(tensor)
    for node in model.graph.node:
        for a in node.attribute:
            if node.op_type == "Constant" and a.t.data_type == FLOAT16:
                _widen(a.t)
    for value in model.graph.value_info:
        if value.name in stored:
            value.type.tensor_type.elem_type = FLOAT
    weights = {
        name: _wide(weight) if weight.elem_type == FLOAT16 else weight
        for name, weight in file.weights.items()
    }
    return GraphFile(model, weights)


def _stored(graph: onnx.GraphProto, types: Types) -> set[str]:
    """Constants in float16 and what is only moved of them; empty where anything else reads one."""
    made = {name for node in graph.node for name in node.output}
    fed = {value.name for value in graph.input}
    stored = {n for n, kind in types.of.items() if kind == FLOAT16 and n not in made | fed}
    for node in graph.node:
        if node.op_type == "Constant":
            stored.update(name for name in node.output if types.get(name) == FLOAT16)
        if not stored.isdisjoint(captures(node)) or (
            subgraphs(node) and not stored.isdisjoint(node.input)
        ):
            return set()
        if stored.isdisjoint(node.input):
            continue
        to = attribute(node, "to") if node.op_type == "Cast" else None
        if node.op_type in MOVES:
            stored.update(name for name in node.output if types.get(name) == FLOAT16)
        elif to is None or to.i != FLOAT:
            return set()
    return stored if stored.isdisjoint(value.name for value in graph.output) else set()


def _widen(tensor: onnx.TensorProto) -> None:
    from onnx import numpy_helper

    array = value_of(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _wide(weight: Weight) -> Weight:
    def load() -> Array:
        return weight.load().astype(np.float32)

    return Weight(weight.name, FLOAT, weight.shape, 2 * weight.nbytes, load)
