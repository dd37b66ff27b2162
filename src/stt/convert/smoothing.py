"""Evens out the channels of what is quantised, without changing what is computed.

One scale serves a whole activation, so a channel of large values costs all others their precision.
Where products alone use the output of a LayerNormalization, dividing its gain and offset by some
factor per channel and multiplying the matrices' rows by it is exact. SmoothQuant (arXiv 2211.10438)
takes the factors from measured activations. A normalised channel has about unit variance, so here
they come from gain and offset themselves: no recordings are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stt.convert.model_file import Array, GraphFile, Weight, value_of

if TYPE_CHECKING:
    from onnx import NodeProto

Floats = npt.NDArray[np.float32]

_SPREAD = 3.0
"""Standard deviations that a channel reaches: its largest value is about 3 |gain| + |offset|."""
_LEAST = 0.01
"""Smallest factor against the geometric mean: a channel that is almost off stays so."""


@dataclass(frozen=True, slots=True)
class _Group:
    gain: str
    offset: str
    matrices: tuple[str, ...]


def even_out(file: GraphFile) -> int:
    """Smooth every LayerNormalization whose output only products with constant matrices use.

    `file` is edited in place; matrices are scaled when they are read.

    Returns:
        How many normalisations were smoothed.
    """
    groups = _groups(file)
    for group in groups:
        gain, offset = _value(file, group.gain), _value(file, group.offset)
        reach = _SPREAD * np.abs(gain) + np.abs(offset)
        mean = np.exp(np.log(np.maximum(reach, np.finfo(np.float32).tiny)).mean())
        factors = np.maximum(reach / mean, _LEAST).astype(np.float32)
        _set(file, group.gain, gain / factors)
        _set(file, group.offset, offset / factors)
        for name in group.matrices:
            file.weights[name] = _with_rows_scaled(file.weights[name], factors)
    return len(groups)


def _groups(file: GraphFile) -> list[_Group]:
    users: dict[str, list[NodeProto]] = {}
    for node in file.model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = []
    taken = {output.name for output in file.model.graph.output} | _inner_names(file)
    for node in file.model.graph.node:
        if node.op_type != "LayerNormalization" or len(node.input) != 3 or node.output[0] in taken:
            continue
        products = [user for user in users.get(node.output[0], []) if user.op_type != "Shape"]
        names = tuple(product.input[1] for product in products if product.op_type == "MatMul")
        constants = (*node.input[1:], *names)
        if (
            names
            and len(names) == len(products)
            and all(len(users[name]) == 1 and name not in taken for name in constants)
            and all(_is_float(file, name) for name in constants)
            and all(len(file.weights[n].shape) == 2 for n in names if n in file.weights)
            and all(n in file.weights for n in names)
        ):
            found.append(_Group(node.input[1], node.input[2], names))
    return found


def _inner_names(file: GraphFile) -> set[str]:
    """Names used inside subgraphs: what they take from outside must stay as it is."""
    return {
        name
        for node in file.model.graph.node
        for attribute in node.attribute
        for child in attribute.g.node
        for name in child.input
    }


def _is_float(file: GraphFile, name: str) -> bool:
    from onnx import TensorProto

    if name in file.weights:
        return file.weights[name].elem_type == int(TensorProto.FLOAT)
    small = {t.name: t.data_type for t in file.model.graph.initializer}
    return small.get(name) == TensorProto.FLOAT


def _value(file: GraphFile, name: str) -> Floats:
    if name in file.weights:
        return file.weights[name].load().astype(np.float32, copy=False)
    tensor = next(t for t in file.model.graph.initializer if t.name == name)
    return value_of(tensor).astype(np.float32, copy=False)


def _set(file: GraphFile, name: str, value: Floats) -> None:
    from onnx import numpy_helper

    if name in file.weights:
        old = file.weights[name]
        file.weights[name] = Weight(name, old.elem_type, old.shape, old.nbytes, value.copy)
        return
    tensor = next(t for t in file.model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _with_rows_scaled(weight: Weight, factors: Floats) -> Weight:
    def load() -> Array:
        scaled = weight.load().astype(np.float32, copy=False)
        return scaled * factors[:, None]

    return Weight(weight.name, weight.elem_type, weight.shape, weight.nbytes, load)
