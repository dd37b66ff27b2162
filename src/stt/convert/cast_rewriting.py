"""The graph that a plan of float types makes: Casts put in, aimed anew, constants turned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stt.convert.cast_plan import SOURCES, Plan
from stt.convert.element_types import (
    FLOAT,
    FLOAT16,
    FLOATS,
    LARGEST,
    SMALLEST,
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
    rename,
    replace,
    set_attribute,
    subgraphs,
)
from stt.convert.model_file import GraphFile
from stt.convert.weight import Array, Weight, value_of

if TYPE_CHECKING:
    import onnx


@dataclass(slots=True)
class Tally:
    """What the conversion of weights changed; counts grow while weights are written."""

    values: int = 0
    """Numbers converted to float16."""
    clipped: int = 0
    """Of them, those larger in magnitude than 1e4."""
    raised: int = 0
    """Of them, those that were not zero and smaller in magnitude than 1e-7."""


def to_half(values: npt.NDArray[np.float32], tally: Tally) -> npt.NDArray[np.float16]:
    """Convert float32 of any shape; NaN stays NaN.

    Magnitudes over 1e4 become 1e4, those under 1e-7 other than zero become 1e-7. Infinities are
    clipped too: exported masks use them for "never", which -1e4 says as well before a softmax,
    without its NaN.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(flat.shape, np.float16)
    for begin in range(0, len(flat), _BLOCK):
        result[begin : begin + _BLOCK] = _block(flat[begin : begin + _BLOCK], tally)
    tally.values += flat.size
    return result.reshape(values.shape)


_BLOCK = 1 << 16  # numbers that stay in the processor's cache through all the passes over them


def _block(values: npt.NDArray[np.float32], tally: Tally) -> npt.NDArray[np.float32]:
    size = np.abs(values)
    over = int(np.count_nonzero(size > LARGEST))
    if over:
        values = np.clip(values, -LARGEST, LARGEST)
        tally.clipped += over
    small = (size < SMALLEST) & (size > 0)
    raised = int(np.count_nonzero(small))
    if raised:
        values = np.where(small, np.copysign(np.float32(SMALLEST), values), values)
        tally.raised += raised
    return values


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


class Rewriting:
    """Builds the new graph, node by node."""

    def __init__(self, file: GraphFile, types: Types, plan: Plan) -> None:
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
                node.name = free_name(node.name, self.names)
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
        if node.op_type in SOURCES:
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
        return free_name(f"{name}_{type_name(to)}", self.names)

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
