"""One-by-one convolutions written as matrix products, which have fast INT8 kernels.

ONNX Runtime's `ConvInteger` is slower than its FP32 convolution on the CPU, while a product with 8-bit
weights is several times faster than either. A convolution over time with a kernel of one is a product
with every frame; the transpositions around it meet those of the graph, and ORT's optimiser cancels them.
"""

from __future__ import annotations

import numpy as np

from stt.convert.model_file import Array, GraphFile, Weight


def pointwise_as_matmul(file: GraphFile) -> int:
    """Rewrite `Conv` [out, in, 1] (stride 1, one group, no padding) as Transpose, MatMul, Transpose.

    `file` is edited in place; a bias becomes an Add. The weights stay on disk, transposed when read.

    Returns:
        How many convolutions were rewritten.
    """
    graph = file.model.graph
    nodes, count = [], 0
    for node in graph.node:
        if node.op_type == "Conv" and _is_pointwise(file, node):
            nodes += _product(file, node)
            count += 1
        else:
            nodes.append(node)
    # copied first: the nodes belong to the list that is emptied
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return count


def _is_pointwise(file: GraphFile, node) -> bool:  # type: ignore[no-untyped-def]
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


def _product(file: GraphFile, node):  # type: ignore[no-untyped-def]
    from onnx.helper import make_node

    source = file.weights[node.input[1]]
    outputs, inputs, _ = source.shape

    def load() -> Array:
        return np.ascontiguousarray(source.load()[:, :, 0].T)

    name = f"{source.name}.matmul"
    file.weights[name] = Weight(name, source.elem_type, (inputs, outputs), source.nbytes, load)
    output, label = node.output[0], node.name or node.output[0]
    frames, product, biased = (f"{output}/{part}" for part in ("frames", "product", "biased"))
    swap = [0, 2, 1]
    parts = [
        make_node("Transpose", [node.input[0]], [frames], f"{label}/frames", perm=swap),
        make_node("MatMul", [frames, name], [product], label),
    ]
    if len(node.input) > 2 and node.input[2]:
        parts.append(make_node("Add", [product, node.input[2]], [biased], f"{label}/bias"))
    last = parts[-1].output[0]
    return [*parts, make_node("Transpose", [last], [output], f"{label}/back", perm=swap)]
