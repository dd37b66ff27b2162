"""Which float type each node and constant of a graph is to have, and the graph that this makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from stt.convert.counting import MOVES, Counting
from stt.convert.element_types import (
    FLOAT,
    FLOAT16,
    FLOATS,
    Schemas,
    Types,
    output_types,
    type_name,
)
from stt.convert.graph import (
    all_names,
    attribute,
    called,
    captures,
    constant_value,
    free_name,
    refill,
    rename,
    replace,
    set_attribute,
    subgraphs,
)
from stt.convert.model_file import GraphFile, copied
from stt.convert.weight import Array, Tally, Weight, to_half, value_of


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


RunsIn = Callable[[int, "onnx.NodeProto", list[int]], int]
"""(position of a node, the node, element types of its inputs) -> FLOAT or FLOAT16."""
SOURCES = frozenset({"Cast", "ConstantOfShape", "RandomNormal", "RandomUniform"})
"""Operators whose float type an attribute tells; they give what is wanted of them."""


class Plan:
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
            asked = runs_in(index, node, given)
            self.precision[index] = FLOAT if index in self.exact else asked
            self._need(index, node)
            if node.op_type not in SOURCES and not subgraphs(node):
                now.update(zip(node.output, self.results(index, node, given), strict=False))
        self._need_outputs()

    def _need(self, index: int, node: onnx.NodeProto) -> None:
        wanted = self.wanted(index, node, self._given[index])
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

    def wanted(self, index: int, node: onnx.NodeProto, given: list[int]) -> list[int]:
        """For each input the float type it must have; 0 where the node takes what comes."""
        signature = self.schemas.signature(node)
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

    def results(self, index: int, node: onnx.NodeProto, given: list[int]) -> list[int]:
        """Element types of a node's outputs when its inputs have been made what it wants."""
        wanted = self.wanted(index, node, given)
        fed = [need or elem_type for need, elem_type in zip(wanted, given, strict=False)]
        fed += given[len(fed) :]
        return output_types(node, self.schemas.signature(node), fed)

    def source_type(self, index: int, node: onnx.NodeProto, now: int) -> int:
        """The float type a Cast or another source is to give."""
        if index in self.exact:
            return FLOAT
        needs = self.needs.get(node.output[0], set())
        return next(iter(needs)) if len(needs) == 1 else FLOAT if needs else now


class Rewriting:
    """Builds the new graph, node by node."""

    def __init__(self, file: GraphFile, types: Types, plan: Plan) -> None:
        self.plan = plan
        self.before = types
        self.tally = Tally()
        self.changes: list[Change] = []
        self.model = copied(file.model)
        self.model.ir_version = max(self.model.ir_version, 4)  # initializers need not be inputs
        self.weights = dict(file.weights)
        self.of: dict[str, int] = dict(types.of)
        self.nodes: list[onnx.NodeProto] = []
        self.names = all_names(file.model.graph) | set(self.weights)
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
        refill(graph.node, self.nodes)
        self._declared_types()
        return Settled(GraphFile(self.model, self.weights), tuple(self.changes), self.tally)

    def _change(self, node: onnx.NodeProto, what: str, why: str) -> None:
        self.changes.append(Change(called(node), node.op_type, what, why))

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
            refill(graph.input, kept)

    def _initializers(self) -> None:
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
        return Weight(name, to, weight.shape, nbytes, lambda: self._as(weight.load(), to))

    def _node_names(self) -> None:
        """ONNX Runtime refuses two nodes of one name, which ORT's converter makes."""
        seen: set[str] = set()
        for node in self.model.graph.node:
            if node.name in seen:
                node.name = free_name(node.name, self.names)
                self._change(node, "renamed", "another node has its name")
            seen.update([node.name] if node.name else [])

    def _node(self, index: int, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self._constant(node)
            return
        signature = self.plan.schemas.signature(node)
        given = [self.of.get(name, 0) for name in node.input]
        wanted = self.plan.wanted(index, node, given)
        why = "its length arithmetic must be exact" if index in self.plan.exact else ""
        for position, need in enumerate(wanted):
            if need and given[position] != need:
                node.input[position] = self._cast(node.input[position], need, node, why)
        self._captured(node)
        if node.op_type in SOURCES:
            self._source(index, node)
        elif subgraphs(node) or not signature.outputs:
            self.of.update({name: self.before.get(name) for name in node.output})
        else:
            now = [self.of.get(name, 0) for name in node.input]
            results = output_types(node, signature, now)
            self.of.update(zip(node.output, results, strict=False))
        self.nodes.append(node)

    def _constant(self, node: onnx.NodeProto) -> None:
        """A Constant goes to the type that is wanted; for two types it gets a twin."""
        self.nodes.append(node)
        output = node.output[0]
        array = constant_value(node) if self.of[output] in FLOATS else None
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
        now = output_types(node, self.plan.schemas.signature(node), [])[0]
        to = self.plan.source_type(index, node, now) if now in FLOATS else now
        self.of[node.output[0]] = to
        if to == now:
            return
        if node.op_type == "ConstantOfShape":
            value = attribute(node, "value")
            array = value_of(value.t) if value else np.zeros(1, np.float32)
            tensor = numpy_helper.from_array(self._as(array, to))
            set_attribute(node, "value", tensor)
        else:
            set_attribute(node, "to" if node.op_type == "Cast" else "dtype", to)
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
                    rename(graph, name, new)

    def _cast(self, name: str, to: int, reader: onnx.NodeProto, why: str = "") -> str:
        """The value in another type, through a Cast that all readers share."""
        if (name, to) not in self.cast_of:
            new = self._new_name(name, to)
            cast = helper.make_node("Cast", [name], [new], new, to=to)
            self.nodes.append(cast)
            self.of[new] = to
            self.cast_of[name, to] = new
            reason = f"{name} is {type_name(self.of[name])}" + (f"; {why}" if why else "")
            self._change(cast, f"put before {called(reader)}", reason)
        return self.cast_of[name, to]

    def _new_name(self, name: str, to: int) -> str:
        return free_name(f"{name}_{type_name(to)}", self.names)

    def _outputs(self) -> None:
        """Outputs stay float32: what gives one in float16 is renamed and cast."""
        for value in self.model.graph.output:
            if value.type.tensor_type.elem_type == FLOAT16:
                value.type.tensor_type.elem_type = FLOAT
            if self.of.get(value.name) != FLOAT16:
                continue
            inner = self._new_name(value.name, FLOAT16)
            for node in self.nodes:
                replace(node.input, value.name, inner)
                replace(node.output, value.name, inner)
                for graph in subgraphs(node):
                    rename(graph, value.name, inner)
            cast = helper.make_node("Cast", [inner], [value.name], f"{inner}_out", to=FLOAT)
            self.nodes.append(cast)
            self.of[inner], self.of[value.name] = FLOAT16, FLOAT
            self._change(cast, f"put before output {value.name}", "callers take float32")

    def _declared_types(self) -> None:
        """`value_info` says what is so now."""
        for value in self.model.graph.value_info:
            if value.type.tensor_type.elem_type in FLOATS and self.of.get(value.name) in FLOATS:
                value.type.tensor_type.elem_type = self.of[value.name]
