"""Graphs: their nodes, names and constants, and small edits of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from stt.convert.model_file import GraphFile
from stt.convert.weight import Array, Weight, value_of
from stt.errors import ModelError

if TYPE_CHECKING:
    import onnx


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node: branches of If, bodies of Loop and Scan."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def captures(node: onnx.NodeProto) -> list[str]:
    """Values that the graphs inside a node read from the graph around it."""
    found: dict[str, None] = {}
    for graph in subgraphs(node):
        inside = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            names = [*inner.input, *captures(inner)]
            found.update(dict.fromkeys(n for n in names if n and n not in inside))
            inside.update(inner.output)
        found.update(dict.fromkeys(v.name for v in graph.output if v.name not in inside))
    return list(found)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """A node's attribute by name."""
    return next((a for a in node.attribute if a.name == name), None)


def read_by(node: onnx.NodeProto) -> list[str]:
    """Values a node reads, those of graphs inside it too."""
    return [name for name in node.input if name] + captures(node)


def called(node: onnx.NodeProto) -> str:
    """A node's name, or the value it gives where it has none."""
    return node.name or (node.output[0] if node.output else node.op_type)


def free_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, numbered where that is taken, and count it as taken."""
    numbered = (f"{stem}_{number}" for number in count(2))
    new = next(name for name in chain([stem], numbered) if name not in taken)
    taken.add(new)
    return new


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and in those inside it."""
    names = {value.name for value in chain(graph.input, graph.output, graph.value_info)}
    names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        names.update([node.name, *node.input, *node.output])
        for inner in subgraphs(node):
            names |= all_names(inner)
    return names


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value wherever a graph, or one inside it, reads it."""
    for node in graph.node:
        replace(node.input, old, new)
        for inner in subgraphs(node):
            rename(inner, old, new)
    for value in graph.output:
        if value.name == old:
            value.name = new


def replace(names: Any, old: str, new: str) -> None:
    """Replace a name in a list of inputs or outputs, in place."""
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set one attribute of a node, whatever it was."""
    from onnx import helper

    kept = [a for a in node.attribute if a.name != name]
    fresh = [type(a).FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend([*fresh, helper.make_attribute(name, value)])


def constant_value(node: onnx.NodeProto) -> Array | None:
    """Return the floats that a Constant gives; None where it gives something else."""
    for a in node.attribute:
        if a.name == "value":
            return value_of(a.t)
        if a.name == "value_float":
            return np.array(a.f, np.float32)
        if a.name == "value_floats":
            return np.array(a.floats, np.float32)
    return None


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes."""
    from onnx import AttributeProto

    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def all_inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Every value that nodes read, in the graph and in those inside it."""
    for inner in graphs_of(graph):
        for node in inner.node:
            yield from node.input
        if inner is not graph:
            yield from (output.name for output in inner.output)


def tidied(file: GraphFile) -> list[Weight]:
    """Leave out what nothing uses any more; returns the weights to write.

    The operators of `com.microsoft` may be used in what is left.
    """
    graph = file.model.graph
    used = set(all_inputs(graph)) | {output.name for output in graph.output}
    small = [tensor for tensor in graph.initializer if tensor.name in used]
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in small]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    del graph.value_info[:]  # what it says of values that are gone would be an error
    if not any(opset.domain == "com.microsoft" for opset in file.model.opset_import):
        file.model.opset_import.add(domain="com.microsoft", version=1)
    return [weight for name, weight in file.weights.items() if name in used]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
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


def _captured(nodes: list[onnx.NodeProto]) -> set[str]:
    """Names that subgraphs (If, Loop) may take from outside."""
    found: set[str] = set()
    for node in nodes:
        for attribute in node.attribute:
            inner = list(attribute.g.node)
            found.update(name for child in inner for name in child.input)
            found |= _captured(inner)
    return found


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
