"""Makes the float types of a graph agree: one typed pass for conversions of our own and of others.

`settle` takes, for each node, whether it runs in float or float16, and does the rest: constants
get the type that what reads them runs in, Casts that only feed one type are aimed at it, and where
a value of one type meets a node of the other a Cast is put between. Inputs and outputs of the model
stay float32, so callers need not know.

`fix` repairs graphs that others converted. Two mistakes are common: `Cast(to=FLOAT)` left before
float16 nodes (onnxconverter_common issue 331: ONNX Runtime refuses the model), and the arithmetic
of lengths turned into float16 (it loads, and lengths over 2,048 frames are wrong).
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import onnx
from onnx import helper, numpy_helper

from stt.convert.cast_rewriting import SOURCES, Change, Plan, Rewriting, RunsIn, Settled
from stt.convert.counting import Counting, find_counting
from stt.convert.element_types import (
    FLOAT,
    FLOAT16,
    Schemas,
    Types,
    conflicts,
    conflicts_inside,
    infer,
    type_name,
    untyped,
)
from stt.convert.graph import (
    all_names,
    called,
    doubles,
    free_name,
    prepared,
    read_by,
    refill,
    rename,
    replace,
    subgraphs,
)
from stt.convert.model_file import GraphFile, copied
from stt.convert.weight import value_of
from stt.errors import ModelError


def fix(file: GraphFile) -> Settled:
    """Repair the float types of a graph; one without faults comes back unchanged.

    Each node keeps the precision its inputs show (float16 as soon as one of them is), except that
    arithmetic on lengths and positions goes to float32. Graphs inside a node (branches, loops) stay
    as they are if they agree, and become float32 throughout if they do not.

    Raises:
        ModelError: the graph cannot be made to agree; names the node.
    """
    ready = prepared(file)
    whole, repaired = _repair_inside(ready)
    left_out = [
        Change(called(n), n.op_type, "left out", "it stood there twice")
        for n in doubles(file.model.graph).values()
    ]
    types = infer(whole)
    counting = find_counting(whole, types)
    schemas = Schemas(whole.model)

    def runs_in(index: int, node: onnx.NodeProto, given: list[int]) -> int:
        if index in counting.nodes:
            return FLOAT
        ports = schemas.signature(node).inputs
        halves = (p.flexible and t == FLOAT16 for p, t in zip(ports, given, strict=False))
        return FLOAT16 if any(halves) else FLOAT

    settled = settle(whole, types, counting, runs_in, early=True)
    if file.model.functions and settled.file == ready:  # nothing to repair: keep them
        return Settled(file, (), settled.tally)
    return Settled(settled.file, (*left_out, *repaired, *settled.changes), settled.tally)


def _repair_inside(file: GraphFile) -> tuple[GraphFile, list[Change]]:
    """Make the graphs inside a node float32 where they disagree, or count in float16."""
    types, schemas = infer(file), Schemas(file.model)
    counting = find_counting(file, types).nodes
    wrong = {}
    for index, node in enumerate(file.model.graph.node):
        if subgraphs(node) and (found := conflicts_inside(node, types, schemas)):
            wrong[index] = found[0].message
        elif index in counting and subgraphs(node) and _has_half(node, types):
            wrong[index] = "it counts in float16"
    if not wrong:
        return file, []
    model = copied(file.model)
    names, nodes, changes = all_names(model.graph) | set(file.weights), [], []
    for index, node in enumerate(model.graph.node):
        if index in wrong:
            nodes += _float_inside(node, types, names)
            changes.append(Change(called(node), node.op_type, "float inside", wrong[index]))
        nodes.append(node)
    refill(model.graph.node, nodes)
    return GraphFile(model, file.weights), changes


def _float_inside(node: onnx.NodeProto, types: Types, names: set[str]) -> list[onnx.NodeProto]:
    """Make the graphs inside a node float32; returns the Casts that belong before it."""
    for graph in subgraphs(node):
        to_float(graph)
    casts = []
    for name in dict.fromkeys(read_by(node)):
        if types.get(name) == FLOAT16:
            new = free_name(f"{name}_{type_name(FLOAT)}", names)
            casts.append(helper.make_node("Cast", [name], [new], new, to=FLOAT))
            replace(node.input, name, new)
            for graph in subgraphs(node):
                rename(graph, name, new)
    return casts


def _has_half(node: onnx.NodeProto, types: Types) -> bool:
    """Whether what a node reads or gives, or declares inside, has float16 in it."""
    values = (v for g in subgraphs(node) for v in chain(g.input, g.output))
    declared = {value.type.tensor_type.elem_type for value in values}
    return FLOAT16 in declared | {types.get(name) for name in (*read_by(node), *node.output)}


def to_float(graph: onnx.GraphProto) -> None:
    """Turn every float16 in a graph, and in those inside it, into float32."""
    for value in chain(graph.input, graph.output, graph.value_info):
        if value.type.tensor_type.elem_type == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute)]
    for tensor in tensors:
        if tensor.data_type == FLOAT16:
            array = value_of(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        if node.op_type in SOURCES:
            for a in node.attribute:
                if a.name in {"to", "dtype"} and a.i == FLOAT16:
                    a.i = FLOAT
        for inner in subgraphs(node):
            to_float(inner)


def settle(
    file: GraphFile, types: Types, counting: Counting, runs_in: RunsIn, *, early: bool = False
) -> Settled:
    """Make every node run in the precision `runs_in` says, wherever its operator allows it.

    Args:
        file: as `prepared` gives it; is not changed.
        types: `infer(file)`.
        counting: `find_counting(file, types)`; what must be exact is float32 whatever is asked.
        runs_in: asked once for each node, in graph order.
        early: operators that only move values about go to what reads them, whatever `runs_in`
            says: a Cast then stands before an Expand, not after it.

    Raises:
        ModelError: the graph cannot be made to agree; names the node.
    """
    plan = Plan(file, types, counting, runs_in)
    if early:
        plan.pull_forward()
    settled = Rewriting(file, types, plan).settled()
    left = conflicts(settled.file)
    if not left and FLOAT16 in infer(settled.file).of.values():
        left = untyped(settled.file)
    if left:
        raise ModelError(
            f"node {left[0].node} ({left[0].op}) cannot be made consistent: {left[0].message}; "
            "use the model's FP32 files"
        )
    return settled
