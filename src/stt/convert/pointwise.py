"""One-by-one convolutions written as matrix products, which have fast INT8 kernels.

ONNX Runtime's `ConvInteger` is slower than its FP32 convolution on the CPU, while a product with
8-bit weights is several times faster than either. A convolution over time with a kernel of one is
a product with every frame; the transpositions around it meet those of the graph, and ORT's
optimiser cancels them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stt.convert.model_file import Array, GraphFile, Weight

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_SWAP = [0, 2, 1]
"""Channels first to frames first, and back."""


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
    from onnx import TensorProto
    from onnx.helper import get_attribute_value

    weight = file.weights.get(node.input[1])
    if weight is None or weight.elem_type != TensorProto.FLOAT:
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
    from onnx.helper import make_node

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


def replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Put nodes in the place of a graph's own, without those that nothing needs any more."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    needed = {output.name for output in graph.output} | _captured(copies)
    kept = []
    for node in reversed(copies):  # sorted: consumers come after producers
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _captured(nodes: list[NodeProto]) -> set[str]:
    """Names that subgraphs (If, Loop) may take from outside."""
    found: set[str] = set()
    for node in nodes:
        for attribute in node.attribute:
            inner = list(attribute.g.node)
            found.update(name for child in inner for name in child.input)
            found |= _captured(inner)
    return found
