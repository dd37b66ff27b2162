"""Small edits of a graph: names, attributes, constants."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from stt.convert.element_types import subgraphs
from stt.convert.model_file import Array, value_of

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
