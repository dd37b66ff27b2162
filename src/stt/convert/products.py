"""Matrix products made ready for INT8 without changing what is computed.

`cpu_saturates`: whether this processor sums the products of unsigned and signed bytes exactly.

`pointwise_as_matmul`: ONNX Runtime's `ConvInteger` is slower than its FP32 convolution on the CPU,
while a product with 8-bit weights is several times faster than either. A convolution over time with
a kernel of one is a product with every frame; the transpositions around it meet those of the graph,
and ORT's optimiser cancels them.

`even_out`: one scale serves a whole activation, so a channel of large values costs all others their
precision. Where products alone use the output of a LayerNormalization, dividing its gain and offset
by some factor per channel and multiplying the matrices' rows by it is exact. SmoothQuant (arXiv
2211.10438) takes the factors from measured activations. A normalised channel has about unit
variance, so here they come from gain and offset themselves: no recordings are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import (
    get_attribute_value,
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)

from stt.convert.graph import Lookup, captures, replace_nodes
from stt.convert.model_file import GraphFile
from stt.convert.weight import Array, Floats, Weight, floats, value_of

_DEPTH, _COLUMNS = 64, 32
"""Size of the products that show how a processor sums."""
_SWAP = [0, 2, 1]
"""Channels first to frames first, and back."""
_SPREAD = 3.0
"""Standard deviations that a channel reaches: its largest value is about 3 |gain| + |offset|."""
_LEAST = 0.01
"""Smallest factor against the geometric mean: a channel that is almost off stays so."""


def pointwise_as_matmul(file: GraphFile) -> int:
    """Rewrite one-by-one `Conv` as Transpose, MatMul and Transpose.

    Those with weights [out, in, 1], stride 1, one group and no padding. `file` is edited in place;
    a bias becomes an Add. The weights stay on disk and are transposed when read.

    Returns:
        How many convolutions were rewritten.
    """
    graph = file.model.graph
    nodes: list[NodeProto] = []
    count = 0
    turned = {n.output[0]: n.input[0] for n in graph.node if _is_swap(n)}
    for node in graph.node:
        if node.op_type == "Conv" and _is_pointwise(file, node):
            nodes += _product(file, node, turned)
            count += 1
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
    return count


def _is_pointwise(file: GraphFile, node: NodeProto) -> bool:
    weight = file.weights.get(node.input[1])
    if weight is None or weight.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return False
    attributes = {a.name: get_attribute_value(a) for a in node.attribute}
    return (
        len(weight.shape) == 3
        and weight.shape[2] == 1
        and attributes.get("group", 1) == 1
        and list(attributes.get("strides", [1])) == [1]
        and not any(attributes.get("pads", [0]))
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )


def _is_swap(node: NodeProto) -> bool:
    return node.op_type == "Transpose" and any(list(a.ints) == _SWAP for a in node.attribute)


def _product(file: GraphFile, node: NodeProto, turned: dict[str, str]) -> list[NodeProto]:
    """`turned`: output of a swapping Transpose -> its input, which then serves as it is."""
    source = file.weights[node.input[1]]
    outputs, inputs, _ = source.shape

    def load() -> Array:
        return np.ascontiguousarray(source.load()[:, :, 0].T)

    name = f"{source.name}.matmul"
    file.weights[name] = Weight(name, source.elem_type, (inputs, outputs), source.nbytes, load)
    output, label = node.output[0], node.name or node.output[0]
    frames, product, biased = (f"{output}/{part}" for part in ("frames", "product", "biased"))
    parts = []
    if node.input[0] in turned:
        frames = turned[node.input[0]]
    else:
        parts.append(make_node("Transpose", [node.input[0]], [frames], frames, perm=_SWAP))
    parts.append(make_node("MatMul", [frames, name], [product], label))
    if len(node.input) > 2 and node.input[2]:
        parts.append(make_node("Add", [product, node.input[2]], [biased], f"{label}/bias"))
    last = parts[-1].output[0]
    return [*parts, make_node("Transpose", [last], [output], f"{label}/back", perm=_SWAP)]


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
    users, found = Lookup(file).consumers, []
    taken = {output.name for output in file.model.graph.output}
    taken.update(name for node in file.model.graph.node for name in captures(node))
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


def _is_float(file: GraphFile, name: str) -> bool:
    if name in file.weights:
        return file.weights[name].elem_type == int(TensorProto.FLOAT)
    small = {t.name: t.data_type for t in file.model.graph.initializer}
    return small.get(name) == TensorProto.FLOAT


def _value(file: GraphFile, name: str) -> Floats:
    if name in file.weights:
        return floats(file.weights[name])
    tensor = next(t for t in file.model.graph.initializer if t.name == name)
    return value_of(tensor).astype(np.float32, copy=False)


def _set(file: GraphFile, name: str, value: Floats) -> None:
    if name in file.weights:
        file.weights[name] = replace(file.weights[name], load=value.copy, place=None)
        return
    tensor = next(t for t in file.model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _with_rows_scaled(weight: Weight, factors: Floats) -> Weight:
    def load() -> Array:
        return floats(weight) * factors[:, None]

    return replace(weight, load=load, place=None)


@cache
def cpu_saturates() -> bool:
    """Whether ONNX Runtime's CPU provider clips sums of uint8 times int8; a few milliseconds.

    On x86 with AVX2 or AVX-512 but without VNNI, its kernel for unsigned activations and signed
    weights adds two products of bytes in 16 bits (`vpmaddubsw`) and clips the sum: 2 * 255 * 127
    does not fit. Its kernel for unsigned weights widens to 16 bits first and is exact everywhere.
    """
    expected = np.full((_COLUMNS,), _DEPTH * 255 * 127)
    return any(not np.array_equal(row, expected) for row in largest_products())


def largest_products(weight: int = 127, *, zero: int | None = None) -> np.ndarray:
    """Sums of 64 products of 255 and `weight - zero`, as this processor computes them.

    Args:
        weight: stored in int8, or in uint8 where there is a zero point.
        zero: the weights' zero point.

    Returns:
        int32 [5, 32]: one row (for which there are kernels of their own), and four together.
    """
    import onnxruntime

    dtype = np.int8 if zero is None else np.uint8
    constants = [numpy_helper.from_array(np.full((_DEPTH, _COLUMNS), weight, dtype), "weight")]
    inputs = ["rows", "weight"]
    if zero is not None:
        constants.append(numpy_helper.from_array(np.array(zero, dtype), "zero"))
        inputs += ["", "zero"]
    graph = make_graph(
        [make_node("MatMulInteger", inputs, ["sums"])],
        "products",
        [make_tensor_value_info("rows", TensorProto.UINT8, ["rows", _DEPTH])],
        [make_tensor_value_info("sums", TensorProto.INT32, ["rows", _COLUMNS])],
        constants,
    )
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [
        session.run(None, {"rows": np.full((rows, _DEPTH), 255, np.uint8)})[0] for rows in (1, 4)
    ]
    return np.concatenate(found)
