"""Graphs: their nodes, names and constants, and small edits of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import helper, inliner

from stt.convert.model_file import GraphFile, copied
from stt.convert.weight import Array, Weight, value_of
from stt.errors import ModelError

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


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


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs_of(inner)


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and in those inside it."""
    names: set[str] = set()
    for inner in graphs_of(graph):
        values = chain(inner.input, inner.output, inner.value_info, inner.initializer)
        names.update(value.name for value in values)
        for node in inner.node:
            names.update([node.name, *node.input, *node.output])
    return names


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value wherever a graph, or one inside it, reads it."""
    for inner in graphs_of(graph):
        for node in inner.node:
            replace(node.input, old, new)
        for value in inner.output:
            if value.name == old:
                value.name = new


def replace(names: Any, old: str, new: str) -> None:
    """Replace a name in a list of inputs or outputs, in place."""
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def refill(field: Any, messages: Iterable[Message]) -> None:
    """Put messages in the place of those of a repeated field; they may be among these."""
    copies = [copied(message) for message in messages]
    del field[:]
    field.extend(copies)


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set one attribute of a node, whatever it was."""
    kept = [a for a in node.attribute if a.name != name]
    refill(node.attribute, [*kept, helper.make_attribute(name, value)])


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


def all_inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Every value that nodes read, in the graph and in those inside it."""
    for inner in graphs_of(graph):
        for node in inner.node:
            yield from node.input
        if inner is not graph:
            yield from (output.name for output in inner.output)


def use_contrib(model: onnx.ModelProto) -> None:
    """Let a model have ONNX Runtime's own operators."""
    if not any(opset.domain == CONTRIB for opset in model.opset_import):
        model.opset_import.add(domain=CONTRIB, version=1)


def tidied(file: GraphFile) -> list[Weight]:
    """Leave out what nothing uses any more; returns the weights to write.

    ONNX Runtime's own operators may be used in what is left.
    """
    graph = file.model.graph
    used = set(all_inputs(graph)) | {output.name for output in graph.output}
    refill(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    del graph.value_info[:]  # what it says of values that are gone would be an error
    use_contrib(file.model)
    return [weight for name, weight in file.weights.items() if name in used]


def needed(
    nodes: Sequence[onnx.NodeProto], values: Iterable[str], stop: Iterable[str] = ()
) -> list[onnx.NodeProto]:
    """Those of sorted nodes that compute these values, in order, from `stop` and inputs."""
    wanted, kept = set(values) - set(stop), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(set(read_by(node)) - set(stop))
            kept.append(node)
    return kept[::-1]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of a graph's own, without those that nothing needs any more."""
    refill(graph.node, needed(nodes, [output.name for output in graph.output]))


class NoMatchError(Exception):
    """The graph is another than the one looked for."""


class Lookup:
    """Producers, consumers and constants of a graph by value name."""

    def __init__(self, file: GraphFile) -> None:
        self.file = file
        self.producer: dict[str, onnx.NodeProto] = {
            name: node for node in file.model.graph.node for name in node.output
        }
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in file.model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.small = {tensor.name: tensor for tensor in file.model.graph.initializer}

    def constant(self, name: str) -> Array | None:
        """The array of a constant; None where the value is none."""
        node = self.producer.get(name)
        if name in self.file.weights:
            return self.file.weights[name].load()
        if name in self.small:
            return value_of(self.small[name])
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            return value_of(node.attribute[0].t)
        return None

    def up(self, name: str, *types: str) -> onnx.NodeProto:
        """Follow first inputs upwards through nodes of these types; returns the last of them."""
        for kind in types:
            if name not in self.producer or self.producer[name].op_type != kind:
                raise NoMatchError
            node = self.producer[name]
            name = node.input[0]
        return node

    def down(self, name: str, *types: str) -> onnx.NodeProto:
        """Follow the only consumer of each type downwards; returns the last node."""
        for kind in types:
            found = [node for node in self.consumers.get(name, []) if node.op_type == kind]
            if len(found) != 1:
                raise NoMatchError
            name = found[0].output[0]
        return found[0]


def scalars(file: GraphFile) -> dict[str, float]:
    """Positive float32 constants without dimensions, from initializers and Constant nodes."""
    found = [(tensor.name, tensor) for tensor in file.model.graph.initializer]
    found += [
        (node.output[0], node.attribute[0].t)
        for graph in graphs_of(file.model.graph)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    ]
    flat = ((n, t) for n, t in found if not t.dims and t.data_type == onnx.TensorProto.FLOAT)
    return {name: value for name, t in flat if (value := float(value_of(t))) > 0}


def prepared(file: GraphFile) -> GraphFile:
    """The graph as `infer` and `settle` want it.

    Nodes stand in order, each once, and the model's own functions are written out.

    Raises:
        ModelError: a node reads what nothing gives or gives what another gives, or nodes read each
            other in a circle.
    """
    model = file.model
    if model.functions:
        model = inliner.inline_local_functions(model)
    repeated = doubles(model.graph)
    nodes = [node for index, node in enumerate(model.graph.node) if index not in repeated]
    in_order = _in_order(model.graph, nodes, set(file.weights))
    if repeated or in_order != nodes:
        model = copied(model)
        refill(model.graph.node, in_order)
    return GraphFile(model, file.weights)


def doubles(graph: onnx.GraphProto) -> dict[int, onnx.NodeProto]:
    """Nodes that repeat an earlier one, as ORT's converter writes them, by position."""
    maker: dict[str, onnx.NodeProto] = {}
    doubles = {}
    for index, node in enumerate(graph.node):
        first = next((maker[name] for name in node.output if name in maker), None)
        if first is not None:
            one, two = (
                (n.op_type, n.domain, n.input, n.output, n.attribute) for n in (first, node)
            )
            if one != two:
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
            what = f"{lost}, which nothing gives" if lost else "what needs its own output"
            raise ModelError(f"node {called(node)} ({node.op_type}) reads {what}; fetch it again")
        waiting = left
    return placed
