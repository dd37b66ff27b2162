"""FastConformer's relative-position attention in fewer passes over memory.

With 8-bit weights the products stop being the slow part: shifting, masking and scaling the scores
take as long. Here the shift of the position scores (Pad, Reshape, Slice, Reshape, Slice) becomes
one strided Slice, the mask is made once for all layers and added, and products and softmax become
ORT's `MultiHeadAttention` with the position scores as `attention_bias`. The values are the same up
to rounding, except in frames of padding, whose attention NeMo sets to zero: nothing that is kept
looks at them.

The shift: of position scores M [T, 2T - 1] the attention needs S[i, j] = M[i, T - 1 - i + j]. With
an unused column on either side, M' [T, 2T + 1], that is element 2iT + T + j of M' laid flat: every
second row of M' seen as [2T + 1, T].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stt.convert.graph import replace_nodes
from stt.convert.model_file import GraphFile
from stt.convert.weight import value_of

if TYPE_CHECKING:
    from onnx import NodeProto

_PREFIX = "relative_attention"
_MASKED = -10000.0
"""What NeMo writes over masked scores: exp of it is 0 in float32."""


@dataclass(frozen=True, slots=True)
class _Block:
    """One layer's attention as the exporter writes it; names of values unless said otherwise."""

    query: str
    key: str
    value: str
    query_bias: npt.NDArray[np.float32]
    """pos_bias_u, float32 [heads, width of a head]."""
    position_query: NodeProto
    """Query + pos_bias_v."""
    positions: NodeProto
    """The product linear_pos."""
    position_scores: str
    """[B, heads, T, 2T - 1], before the shift."""
    mask: str
    """True where masked, [B or 1, 1, T, T]."""
    divisor: float
    last: NodeProto
    """Its output is the attention's, [B, T, heads * width]."""


class Graph:
    """Producers, consumers and constants of a graph by value name."""

    def __init__(self, file: GraphFile) -> None:
        self.file = file
        graph = file.model.graph
        self.producer: dict[str, NodeProto] = {
            name: node for node in graph.node for name in node.output
        }
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.small = {tensor.name: tensor for tensor in graph.initializer}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return the array of a constant; None where the value is none."""
        node = self.producer.get(name)
        if name in self.file.weights:
            return self.file.weights[name].load()
        if name in self.small:
            return value_of(self.small[name])
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            return value_of(node.attribute[0].t)
        return None

    def up(self, name: str, *types: str) -> NodeProto:
        """Follow first inputs upwards through nodes of these types; returns the last of them."""
        node: NodeProto | None = None
        for kind in types:
            node = self.producer.get(name)
            if node is None or node.op_type != kind:
                raise NoMatchError
            name = node.input[0]
        assert node is not None
        return node

    def down(self, name: str, *types: str) -> NodeProto:
        """Follow the only consumer of each type downwards; returns the last node."""
        for kind in types:
            found = [node for node in self.consumers.get(name, []) if node.op_type == kind]
            if len(found) != 1:
                raise NoMatchError
            name = found[0].output[0]
        return found[0]


class NoMatchError(Exception):
    """The graph is another than the one looked for."""


def fuse_relative_attention(file: GraphFile) -> int:
    """Rewrite every relative-position attention of the main graph in place.

    Attention of any other form is left as it is, as are graphs below opset 15 (Shape with `start`).

    Returns:
        How many layers were rewritten.
    """
    opset = next((o.version for o in file.model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < 15:
        return 0
    graph = Graph(file)
    blocks = []
    for node in file.model.graph.node:
        if node.op_type == "Softmax":
            try:
                blocks.append(_match(graph, node))
            except NoMatchError:
                continue
    if blocks:
        _rewrite(file, blocks)
    return len(blocks)


def _match(graph: Graph, softmax: NodeProto) -> _Block:
    masked = graph.up(softmax.input[0], "Where")
    scaled = graph.up(masked.input[2], "Div")
    total = graph.up(scaled.input[0], "Add")
    content = graph.up(total.input[0], "MatMul")
    pad = graph.up(total.input[1], "Slice", "Reshape", "Slice", "Reshape", "Pad")
    position = graph.up(pad.input[0], "MatMul")
    with_u = graph.up(content.input[0], "Transpose", "Add")
    with_v = graph.up(position.input[0], "Transpose", "Add")
    query = graph.up(with_u.input[0], "Reshape")
    if with_v.input[0] != with_u.input[0]:
        raise NoMatchError
    key = graph.up(content.input[1], "Transpose", "Reshape")
    positions = graph.up(position.input[1], "Transpose", "Reshape", "MatMul")
    mixed = graph.down(softmax.output[0], "Where", "MatMul")
    value = graph.up(mixed.input[1], "Transpose", "Reshape")
    last = graph.down(mixed.output[0], "Transpose", "Reshape")
    mask = graph.up(masked.input[0], "Cast").input[0]
    bias, divisor = graph.constant(with_u.input[1]), graph.constant(scaled.input[1])
    if bias is None or bias.ndim != 2 or divisor is None or divisor.size != 1:
        raise NoMatchError
    names = (query.input[0], key.input[0], value.input[0])
    return _Block(
        *names, bias, with_v, positions, position.output[0], mask, float(divisor.item()), last
    )


def _rewrite(file: GraphFile, blocks: list[_Block]) -> None:
    from onnx import numpy_helper
    from onnx.helper import make_node

    graph = file.model.graph
    constants: dict[str, npt.NDArray[Any]] = {
        "pads": np.array([0, 1, 0, 0, 1, 0], np.int64),
        "rows": np.array([0, 0, -1], np.int64),
        "first": np.array([1], np.int64),
        "end": np.array([np.iinfo(np.int64).max], np.int64),
        "axis": np.array([2], np.int64),
        "step": np.array([2], np.int64),
        "masked": np.array(_MASKED, np.float32),
        "open": np.array(0, np.float32),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{_PREFIX}/{name}"))
    replaced = {block.last.output[0]: block for block in blocks}
    sources = {block.positions.input[0] for block in blocks}
    padded = {source: f"{source}/padded" for source in sources}
    scaled_queries = {block.position_query.output[0]: block for block in blocks}
    for block in blocks:
        block.positions.input[0] = padded[block.positions.input[0]]
    nodes: list[NodeProto] = []
    masks: dict[str, str] = {}
    for node in graph.node:
        output = node.output[0]
        if output in replaced:
            nodes += _attention(file, replaced[output], masks)
        elif output in scaled_queries:
            nodes += _scaled(file, node, scaled_queries[output].divisor)
        else:
            nodes.append(node)
        if output in sources:
            names = [output, f"{_PREFIX}/pads"]
            nodes.append(make_node("Pad", names, [padded[output]], padded[output]))
    replace_nodes(graph, nodes)
    if not any(opset.domain == "com.microsoft" for opset in file.model.opset_import):
        file.model.opset_import.add(domain="com.microsoft", version=1)


def _scaled(file: GraphFile, node: NodeProto, divisor: float) -> list[NodeProto]:
    """Scale the query of the position scores: they are [T, 2T], it is [T, heads * width]."""
    from onnx import numpy_helper
    from onnx.helper import make_node

    output = node.output[0]
    raw, factor = f"{output}/unscaled", f"{output}/factor"
    value = np.array(1 / divisor, np.float32)
    file.model.graph.initializer.append(numpy_helper.from_array(value, factor))
    node.output[0] = raw
    return [node, make_node("Mul", [raw, factor], [output], f"{output}/scale")]


def _attention(file: GraphFile, block: _Block, masks: dict[str, str]) -> list[NodeProto]:
    from onnx import TensorProto, numpy_helper
    from onnx.helper import make_node

    output = block.last.output[0]
    names = ("frames", "shape", "rows", "shifted", "bias", "query_bias")
    frames, shape, rows, shifted, bias, query_bias = (f"{output}/{name}" for name in names)
    shared = {n: f"{_PREFIX}/{n}" for n in ("rows", "first", "end", "axis", "step")}
    cut = [rows, *(shared[n] for n in ("first", "end", "axis", "step"))]
    heads, width = block.query_bias.shape
    zeros = np.zeros(2 * heads * width, np.float32)
    value = np.concatenate([block.query_bias.reshape(-1).astype(np.float32), zeros])
    file.model.graph.initializer.append(numpy_helper.from_array(value, query_bias))
    nodes = [
        make_node("Shape", [block.query], [frames], frames, start=1, end=2),
        make_node("Concat", [shared["rows"], frames], [shape], shape, axis=0),
        make_node("Reshape", [block.position_scores, shape], [rows], rows),
        make_node("Slice", cut, [shifted], shifted),
    ]
    if block.mask not in masks:
        masks[block.mask] = f"{block.mask}/added"
        closed, choice = f"{block.mask}/bool", f"{_PREFIX}/masked"
        nodes += [
            make_node("Cast", [block.mask], [closed], closed, to=TensorProto.BOOL),
            make_node(
                "Where", [closed, choice, f"{_PREFIX}/open"], [masks[block.mask]], f"{closed}/add"
            ),
        ]
    inputs = [block.query, block.key, block.value, query_bias, "", bias]
    attributes = {"num_heads": heads, "scale": 1 / block.divisor}
    return [
        *nodes,
        make_node("Add", [shifted, masks[block.mask]], [bias], bias),
        make_node(
            "MultiHeadAttention",
            inputs,
            [output],
            block.last.name,
            domain="com.microsoft",
            **attributes,
        ),
    ]
