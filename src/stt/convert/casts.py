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

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from stt.convert.counting import MOVES, Counting, find_counting, read_by
from stt.convert.element_types import (
    FLOAT,
    FLOAT16,
    FLOATS,
    Schemas,
    Signature,
    Types,
    attribute,
    called,
    captures,
    conflicts,
    conflicts_inside,
    infer,
    output_types,
    subgraphs,
    type_name,
    untyped,
)
from stt.convert.half import Tally, to_half
from stt.convert.model_file import Array, GraphFile, Weight, value_of
from stt.errors import ModelError

if TYPE_CHECKING:
    import onnx

RunsIn = Callable[[int, "onnx.NodeProto", list[int]], int]
"""(position of a node, the node, element types of its inputs) -> FLOAT or FLOAT16."""

_SOURCES = frozenset({"Cast", "ConstantOfShape", "RandomNormal", "RandomUniform"})
"""Operators whose float type an attribute tells; they give what is wanted of them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing the pass did, and why."""

    node: str
    op: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A graph whose types agree."""

    file: GraphFile
    changes: tuple[Change, ...]
    tally: Tally
    """Complete once the weights have been written."""


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
        for n in _doubles(file.model.graph).values()
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
            wrong[index] = found[0].told
        elif index in counting and subgraphs(node) and _has_half(node, types):
            wrong[index] = "it counts in float16"
    if not wrong:
        return file, []
    model = type(file.model).FromString(file.model.SerializeToString())
    names, nodes, changes = _names(model.graph) | set(file.weights), [], []
    for index, node in enumerate(model.graph.node):
        if index in wrong:
            nodes += _float_inside(node, types, names)
            changes.append(Change(called(node), node.op_type, "float inside", wrong[index]))
        nodes.append(type(node).FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return GraphFile(model, file.weights), changes


def _float_inside(node: onnx.NodeProto, types: Types, names: set[str]) -> list[onnx.NodeProto]:
    """Make the graphs inside a node float32; returns the Casts that belong before it."""
    from onnx import helper

    for graph in subgraphs(node):
        _to_float(graph)
    casts = []
    for name in dict.fromkeys(read_by(node)):
        if types.get(name) == FLOAT16:
            new = _free_name(f"{name}_{type_name(FLOAT)}", names)
            casts.append(helper.make_node("Cast", [name], [new], new, to=FLOAT))
            _replace(node.input, name, new)
            for graph in subgraphs(node):
                _rename(graph, name, new)
    return casts


def _has_half(node: onnx.NodeProto, types: Types) -> bool:
    """Whether what a node reads or gives, or declares inside, has float16 in it."""
    values = (v for g in subgraphs(node) for v in chain(g.input, g.output))
    declared = {value.type.tensor_type.elem_type for value in values}
    return FLOAT16 in declared | {types.get(name) for name in (*read_by(node), *node.output)}


def _to_float(graph: onnx.GraphProto) -> None:
    """Turn every float16 in a graph, and in those inside it, into float32."""
    from onnx import numpy_helper

    for value in chain(graph.input, graph.output, graph.value_info):
        if value.type.tensor_type.elem_type == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute)]
    for tensor in tensors:
        if tensor.data_type == FLOAT16:
            array = value_of(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        if node.op_type in _SOURCES:
            for a in node.attribute:
                if a.name in {"to", "dtype"} and a.i == FLOAT16:
                    a.i = FLOAT
        for inner in subgraphs(node):
            _to_float(inner)


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
    doubles = _doubles(model.graph)
    nodes = [node for index, node in enumerate(model.graph.node) if index not in doubles]
    in_order = _in_order(model.graph, nodes, set(file.weights))
    if doubles or in_order != nodes:
        nodes = [type(node).FromString(node.SerializeToString()) for node in in_order]
        model = type(model).FromString(model.SerializeToString())
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return GraphFile(model, file.weights)


def _doubles(graph: onnx.GraphProto) -> dict[int, onnx.NodeProto]:
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
    plan = _Plan(file, types, counting, runs_in)
    if early:
        plan.pull_forward()
    settled = _Rewriting(file, types, plan).settled()
    left = conflicts(settled.file)
    if not left and FLOAT16 in infer(settled.file).of.values():
        left = untyped(settled.file)
    if left:
        raise ModelError(
            f"node {left[0].node} ({left[0].op}) cannot be made consistent: {left[0].told}; "
            "use the model's FP32 files"
        )
    return settled


class _Plan:
    """Decides types without changing anything: of nodes, of constants and of sources."""

    def __init__(self, file: GraphFile, types: Types, counting: Counting, runs_in: RunsIn) -> None:
        self.schemas = Schemas(file.model)
        self.before = types
        self.exact = counting.exact
        self.precision: dict[int, int] = {}
        self.needs: dict[str, set[int]] = defaultdict(set)
        """Value -> float types wanted of it."""
        self._graph = file.model.graph
        self._given: list[list[int]] = []
        now = dict(types.of)
        for index, node in enumerate(self._graph.node):
            given = [now.get(name, 0) for name in node.input]
            self._given.append(given)
            told = runs_in(index, node, given)
            self.precision[index] = FLOAT if index in self.exact else told
            self._need(index, node)
            if node.op_type not in _SOURCES and not subgraphs(node):
                signature = self.schemas.signature(node)
                now.update(
                    zip(node.output, self.results(index, node, signature, given), strict=False)
                )
        self._need_outputs()

    def _need(self, index: int, node: onnx.NodeProto) -> None:
        signature = self.schemas.signature(node)
        wanted = self.wanted(index, node, signature, self._given[index])
        for name, need in zip(node.input, wanted, strict=False):
            if need:
                self.needs[name].add(need)
        for name in captures(node):
            if self.before.get(name) in FLOATS:
                self.needs[name].add(self.before.get(name))

    def _need_outputs(self) -> None:
        for value in self._graph.output:
            if self.before.get(value.name) in FLOATS:
                self.needs[value.name].add(FLOAT)

    def pull_forward(self) -> None:
        """Let what only moves values run in float16 where all that reads it does."""
        self.needs.clear()
        self._need_outputs()
        for index in range(len(self._graph.node) - 1, -1, -1):
            node = self._graph.node[index]
            moves = node.op_type in MOVES and index not in self.exact
            if moves and all(self.needs.get(name) == {FLOAT16} for name in node.output):
                self.precision[index] = FLOAT16
            self._need(index, node)

    def wanted(
        self, index: int, node: onnx.NodeProto, signature: Signature, given: list[int]
    ) -> list[int]:
        """For each input the float type it must have; 0 where the node takes what comes."""
        if subgraphs(node) or not signature.inputs:  # what it was written for
            before = [self.before.get(name) for name in node.input]
            return [elem_type if elem_type in FLOATS else 0 for elem_type in before]
        takes_any = not any(port.flexible for port in signature.outputs) or node.op_type == "Cast"
        needs = []
        for port, elem_type in zip(signature.inputs, given, strict=False):
            free = takes_any and signature.is_free(port)
            fixed = port.allowed & FLOATS
            if elem_type not in FLOATS or not fixed or (free and port.flexible):
                needs.append(0)
            else:
                needs.append(self.precision[index] if port.flexible else next(iter(fixed)))
        return needs

    def results(
        self, index: int, node: onnx.NodeProto, signature: Signature, given: list[int]
    ) -> list[int]:
        """Element types of a node's outputs when its inputs have been made what it wants."""
        wanted = self.wanted(index, node, signature, given)
        fed = [need or elem_type for need, elem_type in zip(wanted, given, strict=False)]
        fed += given[len(fed) :]
        return output_types(node, signature, fed)

    def source_type(self, index: int, node: onnx.NodeProto, now: int) -> int:
        """The float type a Cast or another source is to give."""
        if index in self.exact:
            return FLOAT
        needs = self.needs.get(node.output[0], set())
        return next(iter(needs)) if len(needs) == 1 else FLOAT if needs else now


class _Rewriting:
    """Builds the new graph, node by node."""

    def __init__(self, file: GraphFile, types: Types, plan: _Plan) -> None:
        from onnx import ModelProto

        self.plan = plan
        self.before = types
        self.tally = Tally()
        self.changes: list[Change] = []
        self.model = ModelProto()
        self.model.CopyFrom(file.model)
        self.model.ir_version = max(self.model.ir_version, 4)  # initializers need not be inputs
        self.weights = dict(file.weights)
        self.of: dict[str, int] = dict(types.of)
        self.nodes: list[onnx.NodeProto] = []
        self.names = _names(file.model.graph) | set(self.weights)
        self.cast_of: dict[tuple[str, int], str] = {}

    def settled(self) -> Settled:
        """Do the whole rewriting."""
        graph = self.model.graph
        self._inputs()
        self._initializers()
        self._node_names()
        for index, node in enumerate(graph.node):
            self._node(index, node)
        self._outputs()
        del graph.node[:]
        graph.node.extend(self.nodes)
        self._declared_types()
        return Settled(GraphFile(self.model, self.weights), tuple(self.changes), self.tally)

    def _change(self, node: onnx.NodeProto, what: str, why: str) -> None:
        self.changes.append(Change(called(node), node.op_type, what, why))

    # --- constants ------------------------------------------------------------------------------

    def _inputs(self) -> None:
        """Inputs stay float32, and initializers are no inputs."""
        graph = self.model.graph
        stored = {tensor.name for tensor in graph.initializer} | set(self.weights)
        kept = [value for value in graph.input if value.name not in stored]
        for value in kept:
            if value.type.tensor_type.elem_type == FLOAT16:
                value.type.tensor_type.elem_type = self.of[value.name] = FLOAT
                self.changes.append(Change(value.name, "input", "float", "callers give float32"))
        if len(kept) < len(graph.input):
            copies = [type(value).FromString(value.SerializeToString()) for value in kept]
            del graph.input[:]
            graph.input.extend(copies)

    def _initializers(self) -> None:
        from onnx import numpy_helper

        graph = self.model.graph
        for tensor in list(graph.initializer):
            for name, to in self._retyped(tensor.name):
                array = self._as(value_of(tensor), to)
                if name == tensor.name:
                    tensor.CopyFrom(numpy_helper.from_array(array, name))
                else:
                    graph.initializer.append(numpy_helper.from_array(array, name))
        for weight in list(self.weights.values()):
            for name, to in self._retyped(weight.name):
                self.weights[name] = self._weight_as(weight, name, to)

    def _retyped(self, name: str) -> list[tuple[str, int]]:
        """What becomes of a constant: (name, new type), a second one where both are wanted."""
        now = self.of[name]
        needs = self.plan.needs.get(name, set()) if now in FLOATS else set()
        other = FLOAT16 if now == FLOAT else FLOAT
        if other not in needs:
            return []
        if now in needs:
            twin = self._new_name(name, other)
            self.cast_of[name, other] = twin
            self.of[twin] = other
            return [(twin, other)]
        self.of[name] = other
        return [(name, other)]

    def _as(self, array: Array, to: int) -> Array:
        if to == FLOAT16:
            return to_half(array.astype(np.float32, copy=False), self.tally)
        return array.astype(np.float32)

    def _weight_as(self, weight: Weight, name: str, to: int) -> Weight:
        nbytes = weight.nbytes // 2 if to == FLOAT16 else weight.nbytes * 2

        def load(weight: Weight, to: int) -> Array:
            return self._as(weight.load(), to)

        return Weight(name, to, weight.shape, nbytes, partial(load, weight, to))

    def _node_names(self) -> None:
        """ONNX Runtime refuses two nodes of one name, which ORT's converter makes."""
        seen: set[str] = set()
        for node in self.model.graph.node:
            if node.name in seen:
                node.name = _free_name(node.name, self.names)
                self._change(node, "renamed", "another node has its name")
            seen.update([node.name] if node.name else [])

    # --- nodes ----------------------------------------------------------------------------------

    def _node(self, index: int, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self._constant(node)
            return
        signature = self.plan.schemas.signature(node)
        given = [self.of.get(name, 0) for name in node.input]
        wanted = self.plan.wanted(index, node, signature, given)
        why = "its length arithmetic must be exact" if index in self.plan.exact else ""
        for position, need in enumerate(wanted):
            if need and given[position] != need:
                node.input[position] = self._cast(node.input[position], need, node, why)
        self._captured(node)
        if node.op_type in _SOURCES:
            self._source(index, node)
        elif subgraphs(node) or not signature.outputs:
            self.of.update({name: self.before.get(name) for name in node.output})
        else:
            told = output_types(node, signature, [self.of.get(name, 0) for name in node.input])
            self.of.update(zip(node.output, told, strict=False))
        self.nodes.append(node)

    def _constant(self, node: onnx.NodeProto) -> None:
        """A Constant goes to the type that is wanted; for two types it gets a twin."""
        from onnx import helper, numpy_helper

        self.nodes.append(node)
        output = node.output[0]
        array = _constant_value(node) if self.of[output] in FLOATS else None
        if array is None:
            return
        was = self.of[output]
        for name, to in self._retyped(output):
            value = numpy_helper.from_array(self._as(array, to))
            if name == output:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("value", value))
                if was == FLOAT16:
                    self._change(node, "back to float", "what reads it runs in float32")
            else:
                self.nodes.append(helper.make_node("Constant", [], [name], name, value=value))

    def _source(self, index: int, node: onnx.NodeProto) -> None:
        """Aim a Cast, or another operator with its type in an attribute, at what reads it."""
        from onnx import numpy_helper

        now = output_types(node, self.plan.schemas.signature(node), [])[0]
        to = self.plan.source_type(index, node, now) if now in FLOATS else now
        self.of[node.output[0]] = to
        if to == now:
            return
        if node.op_type == "ConstantOfShape":
            value = attribute(node, "value")
            array = value_of(value.t) if value else np.zeros(1, np.float32)
            tensor = numpy_helper.from_array(self._as(array, to))
            _set_attribute(node, "value", tensor)
        else:
            _set_attribute(node, "to" if node.op_type == "Cast" else "dtype", to)
        exact = "lengths must be exact" if index in self.plan.exact else ""
        self._change(
            node,
            f"gives {type_name(to)}, not {type_name(now)}",
            exact or f"all that reads it runs in {type_name(to)}",
        )

    def _captured(self, node: onnx.NodeProto) -> None:
        """Values that a node's subgraphs read from around keep the type they had."""
        for name in captures(node):
            need = self.before.get(name)
            if need in FLOATS and self.of.get(name) != need:
                new = self._cast(name, need, node, "a graph inside it was written for it")
                for graph in subgraphs(node):
                    _rename(graph, name, new)

    def _cast(self, name: str, to: int, reader: onnx.NodeProto, why: str = "") -> str:
        """The value in another type, through a Cast that all readers share."""
        from onnx import helper

        if (name, to) not in self.cast_of:
            new = self._new_name(name, to)
            cast = helper.make_node("Cast", [name], [new], new, to=to)
            self.nodes.append(cast)
            self.of[new] = to
            self.cast_of[name, to] = new
            told = f"{name} is {type_name(self.of[name])}"
            self._change(cast, f"put before {called(reader)}", f"{told}; {why}" if why else told)
        return self.cast_of[name, to]

    def _new_name(self, name: str, to: int) -> str:
        return _free_name(f"{name}_{type_name(to)}", self.names)

    # --- what callers see -----------------------------------------------------------------------

    def _outputs(self) -> None:
        """Outputs stay float32: what gives one in float16 is renamed and cast."""
        from onnx import helper

        for value in self.model.graph.output:
            if value.type.tensor_type.elem_type == FLOAT16:
                value.type.tensor_type.elem_type = FLOAT
            if self.of.get(value.name) != FLOAT16:
                continue
            inner = self._new_name(value.name, FLOAT16)
            for node in self.nodes:
                _replace(node.input, value.name, inner)
                _replace(node.output, value.name, inner)
                for graph in subgraphs(node):
                    _rename(graph, value.name, inner)
            cast = helper.make_node("Cast", [inner], [value.name], f"{inner}_out", to=FLOAT)
            self.nodes.append(cast)
            self.of[inner], self.of[value.name] = FLOAT16, FLOAT
            self._change(cast, f"put before output {value.name}", "callers take float32")

    def _declared_types(self) -> None:
        """`value_info` says what is so now."""
        for value in self.model.graph.value_info:
            if value.type.tensor_type.elem_type in FLOATS and self.of.get(value.name) in FLOATS:
                value.type.tensor_type.elem_type = self.of[value.name]


def _free_name(stem: str, taken: set[str]) -> str:
    numbered = (f"{stem}_{number}" for number in count(2))
    new = next(name for name in chain([stem], numbered) if name not in taken)
    taken.add(new)
    return new


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and in those inside it."""
    names = {value.name for value in chain(graph.input, graph.output, graph.value_info)}
    names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        names.update([node.name, *node.input, *node.output])
        for inner in subgraphs(node):
            names |= _names(inner)
    return names


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        _replace(node.input, old, new)
        for inner in subgraphs(node):
            _rename(inner, old, new)
    for value in graph.output:
        if value.name == old:
            value.name = new


def _replace(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    from onnx import helper

    kept = [a for a in node.attribute if a.name != name]
    fresh = [type(a).FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend([*fresh, helper.make_attribute(name, value)])


def _constant_value(node: onnx.NodeProto) -> Array | None:
    for a in node.attribute:
        if a.name == "value":
            return value_of(a.t)
        if a.name == "value_float":
            return np.array(a.f, np.float32)
        if a.name == "value_floats":
            return np.array(a.floats, np.float32)
    return None
