"""The nodes of a graph in order: each once, each after those it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stt.convert.counting import read_by
from stt.convert.element_types import called
from stt.convert.model_file import GraphFile
from stt.errors import ModelError

if TYPE_CHECKING:
    import onnx


def prepared(file: GraphFile) -> GraphFile:
    """The graph as `infer` and `settle` want it.

    Nodes stand in order, each once, and the model's own functions are written out.

    Raises:
        ModelError: a node reads what nothing gives or gives what another gives, or nodes read each
            other in a circle.
    """
    from onnx import inliner

    model = file.model
    if model.functions:
        model = inliner.inline_local_functions(model)
    repeated = doubles(model.graph)
    nodes = [node for index, node in enumerate(model.graph.node) if index not in repeated]
    in_order = _in_order(model.graph, nodes, set(file.weights))
    if repeated or in_order != nodes:
        nodes = [type(node).FromString(node.SerializeToString()) for node in in_order]
        model = type(model).FromString(model.SerializeToString())
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return GraphFile(model, file.weights)


def doubles(graph: onnx.GraphProto) -> dict[int, onnx.NodeProto]:
    """Nodes that repeat an earlier one, as ORT's converter writes them, by position."""
    maker: dict[str, onnx.NodeProto] = {}
    doubles = {}
    for index, node in enumerate(graph.node):
        first = next((maker[name] for name in node.output if name in maker), None)
        if first is not None:
            told = [(n.op_type, n.domain, n.input, n.output, n.attribute) for n in (first, node)]
            if told[0] != told[1]:
                raise ModelError(
                    f"node {called(node)} ({node.op_type}) gives what {called(first)} gives too; "
                    "fetch the model again"
                )
            doubles[index] = node
        maker.update((name, node) for name in node.output if name)
    return doubles


def _in_order(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], stored: set[str]
) -> list[onnx.NodeProto]:
    """Each node after those it reads; as they stand where that is so already."""
    known = stored | {v.name for v in graph.input} | {t.name for t in graph.initializer}
    known |= {t.values.name for t in graph.sparse_initializer}
    made = known | {name for node in nodes for name in node.output}
    placed: list[onnx.NodeProto] = []
    waiting = [(node, read_by(node)) for node in nodes]
    while waiting:
        left = []
        for node, reads in waiting:
            if known.issuperset(reads):
                placed.append(node)
                known.update(node.output)
            else:
                left.append((node, reads))
        if len(left) == len(waiting):
            node, reads = left[0]
            lost = next((name for name in reads if name not in made), None)
            told = f"{lost}, which nothing gives" if lost else "what needs its own output"
            raise ModelError(f"node {called(node)} ({node.op_type}) reads {told}; fetch it again")
        waiting = left
    return placed
