"""Small edits of a graph: names, attributes, constants."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from stt.convert.element_types import subgraphs
from stt.convert.model_file import Array, GraphFile, Weight, value_of

if TYPE_CHECKING:
    import onnx


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
