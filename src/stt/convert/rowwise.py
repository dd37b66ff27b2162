"""INT8 products whose rows are quantised apart, so that a frame's result is its own.

`DynamicQuantizeMatMul` takes one scale for all it is given: a frame would come out otherwise with
the neighbours it is computed with. Here every row of the activations has its scale and zero point,
the very ones that the operator would choose if it were given that row alone; the product itself
stays integer. With s, z a row's scale and zero point and c the sums of the weights' columns (less
their zero point, where they are unsigned):

    row @ W = s * (q @ Wq - z * c) * scale_W
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stt.convert.model_file import GraphFile, value_of
from stt.errors import ModelError

if TYPE_CHECKING:
    from onnx import NodeProto

_FLOAT, _UINT8, _INT32 = 1, 2, 6


def quantise_rows_apart(file: GraphFile) -> int:
    """Rewrite every `DynamicQuantizeMatMul` of a graph in place; returns how many there were.

    Raises:
        ModelError: activations are quantised in a form that is not rewritten.
    """
    nodes: list[NodeProto] = []
    found = 0
    positive = {n.output[0] for n in file.model.graph.node if n.op_type in ("Relu", "Sigmoid")}
    for node in file.model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            raise ModelError(f"cannot be taken apart: {node.name} quantises all frames together")
        if node.op_type == "DynamicQuantizeMatMul":
            nodes += _Product(file, node, node.input[0] in positive).nodes
            found += 1
        else:
            nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del file.model.graph.node[:]
    file.model.graph.node.extend(copies)
    return found


class _Product:
    """One product, written out."""

    def __init__(self, file: GraphFile, node: NodeProto, positive: bool) -> None:
        """`positive`: no activation is below 0, so that every zero point is 0."""
        self._file, self._name = file, node.output[0]
        self.nodes: list[NodeProto] = []
        values, weight, scale, zero, bias = [*node.input, "", "", ""][:5]
        stored = file.weights.get(weight)
        zeros = {tensor.name: tensor for tensor in file.model.graph.initializer}
        known = not zero or (zero in zeros and not zeros[zero].dims)
        if not known or stored is None or len(stored.shape) != 2:
            raise ModelError(f"cannot be taken apart: {node.name} has weights of another form")
        self._zero = int(value_of(zeros[zero])) if zero else 0
        weights = [weight, "", zero] if zero else [weight]
        top = self._node("ReduceMax", values, axes=[-1], keepdims=1)
        if positive:
            row_scale = self._scale(top)
            integers = self._cast(self._node("Round", self._node("Div", values, row_scale)), _UINT8)
            product = self._node("MatMulInteger", integers, *weights)
        else:
            low = self._node("Min", self._node("ReduceMin", values, axes=[-1]), self._number(0.0))
            top = self._node("Max", top, self._number(0.0))
            row_scale = self._scale(self._node("Sub", top, low))
            down = self._node("Round", self._node("Div", self._node("Neg", low), row_scale))
            rounded = self._node("Round", self._node("Div", values, row_scale))
            integers = self._cast(self._bytes(self._node("Add", rounded, down)), _UINT8)
            whole = self._node("MatMulInteger", integers, *weights)
            shift = self._node("Mul", self._cast(down, _INT32), self._columns(weight))
            product = self._node("Sub", whole, shift)
        scaled = self._node("Mul", self._cast(product, _FLOAT), scale)
        self._last("Mul", scaled, row_scale, bias)

    def _last(self, op: str, one: str, two: str, bias: str) -> None:
        from onnx.helper import make_node

        if bias:
            one, two, op = self._node(op, one, two), bias, "Add"
        self.nodes.append(make_node(op, [one, two], [self._name], f"{self._name}/rows"))

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx.helper import make_node

        output = f"{self._name}/rows/{len(self.nodes)}"
        self.nodes.append(make_node(op, inputs, [output], output, **attributes))
        return output

    def _scale(self, extent: str) -> str:
        """A row's scale; a row of zeros takes a tiny one, and its integers are 0 with any."""
        step = self._node("Div", extent, self._number(255.0))
        return self._node("Max", step, self._number(float(np.finfo(np.float32).tiny)))

    def _bytes(self, values: str) -> str:
        return self._node("Clip", values, self._number(0.0), self._number(255.0))

    def _cast(self, values: str, to: int) -> str:
        return self._node("Cast", values, to=to)

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _columns(self, weight: str) -> str:
        values = self._file.weights[weight].load().astype(np.int32) - self._zero
        sums = values.sum(0, dtype=np.int32)
        return self._constant(sums)

    def _constant(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        from onnx import numpy_helper

        name = f"{self._name}/rows/{len(self.nodes)}/{values.size}"
        name = f"{name}/{len(self._file.model.graph.initializer)}"
        self._file.model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name
