"""Element types of every value in an ONNX graph, from the operators' own schemas.

An operator's schema names for each input and output either one type or a type variable (`T`) with
the types it may stand for; all that share a variable must agree. That is the rule ONNX Runtime
enforces when it loads a model, and the one these functions know. Types are
onnx.TensorProto.DataType numbers; 0 is unknown: sequences, and operators nobody has a schema of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto, defs

from stt.convert.graph import attribute, called, subgraphs
from stt.convert.model_file import GraphFile

UNKNOWN, FLOAT, FLOAT16, DOUBLE = 0, 1, 10, 11
FLOATS = frozenset({FLOAT, FLOAT16})
"""The two types a precision decides between; doubles and bfloat16 are left as they are."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a node, as its schema has it."""

    variable: str
    """Ports with the same variable have the same type; unique for a port that shares with none."""
    allowed: frozenset[int]

    @property
    def flexible(self) -> bool:
        """Whether it may be float or float16."""
        return self.allowed >= FLOATS


@dataclass(frozen=True, slots=True)
class Signature:
    """The ports of one node."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def is_free(self, port: Port) -> bool:
        """Whether nothing else depends on the type of this input, as in Shape and Cast."""
        return sum(p.variable == port.variable for p in (*self.inputs, *self.outputs)) == 1


@dataclass(frozen=True, slots=True)
class Conflict:
    """A node whose types do not fit its schema."""

    node: str
    op: str
    message: str


@dataclass(slots=True)
class Types:
    """What is known of a graph's values; subgraphs look names up in the graph around them."""

    of: dict[str, int] = field(default_factory=dict)
    around: Types | None = None

    def get(self, name: str) -> int:
        """The element type of a value, 0 where unknown."""
        if name in self.of:
            return self.of[name]
        return self.around.get(name) if self.around else UNKNOWN


class Schemas:
    """Looks up signatures for the operator sets a model imports."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._versions = {entry.domain: entry.version for entry in model.opset_import}

    def signature(self, node: onnx.NodeProto) -> Signature:
        """The ports of a node; without ports where nobody has a schema of its operator."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self._versions.get(domain, self._versions.get("ai.onnx", 1))
        return _signature(node.op_type, version, domain, len(node.input), len(node.output))


@cache
def _signature(op: str, version: int, domain: str, inputs: int, outputs: int) -> Signature:
    schema: Any
    if defs.has(op, domain):
        try:
            schema = defs.get_schema(op, version, domain)
        except defs.SchemaError:
            return Signature((), ())
    elif (domain, op) in (found := _runtime_schemas()):
        schema = found[domain, op]
    else:
        return Signature((), ())
    types = {c.type_param_str: _type_ids(c.allowed_type_strs) for c in schema.type_constraints}
    return Signature(_ports(schema.inputs, inputs, types), _ports(schema.outputs, outputs, types))


@cache
def _runtime_schemas() -> dict[tuple[str, str], Any]:
    """ONNX Runtime's own operators (com.microsoft), newest version of each."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    known = sorted(runtime.get_all_operator_schema(), key=lambda schema: schema.since_version)
    return {(schema.domain, schema.name): schema for schema in known}


def _ports(
    formal: Sequence[Any], count: int, types: Mapping[str, frozenset[int]]
) -> tuple[Port, ...]:
    """The ports of `count` values; the last formal parameter stands for all that follow."""
    ports = []
    for index in range(count if formal else 0):
        parameter = formal[min(index, len(formal) - 1)]  # ONNX Runtime's are spelt otherwise
        kind = getattr(parameter, "type_str", None) or parameter.typeStr
        one_type = getattr(parameter, "is_homogeneous", getattr(parameter, "isHomogeneous", True))
        if kind in types:
            ports.append(Port(kind if one_type else f"{kind}#{index}", types[kind]))
        else:
            ports.append(Port(f"{kind}@{index}", _type_ids([kind])))
    return tuple(ports)


def _type_ids(names: Iterable[str]) -> frozenset[int]:
    """Of `tensor(float)` and the like."""
    ids = dict(TensorProto.DataType.items())
    tensors = (name.removeprefix("tensor(").removesuffix(")").upper() for name in names)
    return frozenset(int(ids.get(name, UNKNOWN)) for name in tensors)


def infer(file: GraphFile) -> Types:
    """Element types of all values of the outermost graph, as the nodes would really give them.

    Declared types (`value_info`) are not believed. A node whose inputs disagree gives the type of
    the first.
    """
    return _infer(file.model.graph, Types(), file, Schemas(file.model), [])


def conflicts(file: GraphFile) -> list[Conflict]:
    """Every node, in subgraphs too, that ONNX Runtime would refuse for its types."""
    found: list[Conflict] = []
    types = _infer(file.model.graph, Types(), file, Schemas(file.model), found)
    for output in file.model.graph.output:
        declared, real = output.type.tensor_type.elem_type, types.get(output.name)
        if {declared, real} == FLOATS:
            message = f"declared {type_name(declared)}, is {type_name(real)}"
            found.append(Conflict(output.name, "output", message))
    return found


def untyped(file: GraphFile) -> list[Conflict]:
    """Nodes that read values of unknown type where float and float16 differ."""
    types, schemas = infer(file), Schemas(file.model)
    maker = {name: node for node in file.model.graph.node for name in node.output}
    found = []
    for node in file.model.graph.node:
        signature = schemas.signature(node)
        for port, name in zip(signature.inputs, node.input, strict=False):
            if name and types.get(name) == UNKNOWN and port.flexible:
                guilty = maker.get(name, node)
                message = f"nobody knows the type of its output {name}"
                found.append(Conflict(called(guilty), guilty.op_type, message))
    return found


def conflicts_inside(node: onnx.NodeProto, types: Types, schemas: Schemas) -> list[Conflict]:
    """Conflicts in and between the graphs inside a node; `types` are those around it."""
    found: list[Conflict] = []
    inner = [_infer(g, Types(around=types), None, schemas, found) for g in subgraphs(node)]
    found += _disagreements_inside(node, [types.get(name) for name in node.input], inner)
    return found


def _infer(
    graph: onnx.GraphProto,
    types: Types,
    file: GraphFile | None,
    schemas: Schemas,
    found: list[Conflict],
) -> Types:
    declared = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for value in graph.input:
        types.of[value.name] = value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        types.of[tensor.name] = tensor.data_type
    if file:
        types.of.update({weight.name: weight.elem_type for weight in file.weights.values()})
    for node in graph.node:
        inner = [_infer(g, Types(around=types), None, schemas, found) for g in subgraphs(node)]
        signature = schemas.signature(node)
        given = [types.get(name) for name in node.input]
        found += _disagreements(node, signature, given)
        if not signature.inputs and not signature.outputs:  # nobody's operator: take it at its word
            results = [declared.get(name, UNKNOWN) for name in node.output]
        else:
            results = output_types(node, signature, given)
        if inner:
            found += _disagreements_inside(node, given, inner)
            results = [inner[0].get(value.name) for value in subgraphs(node)[0].output]
            results = results[-len(node.output) :]  # a Loop's body gives its condition first
        types.of.update(zip(node.output, results, strict=False))
    return types


def _disagreements_inside(
    node: onnx.NodeProto, given: list[int], inner: list[Types]
) -> Iterator[Conflict]:
    """What the graphs inside a node declare against what they get, give, and give each other."""
    bodies = subgraphs(node)
    for graph, types in zip(bodies, inner, strict=True):
        fed = given[-len(graph.input) :] if node.op_type == "Scan" and graph.input else given
        fed = [UNKNOWN, UNKNOWN, *fed[2:]] if node.op_type == "Loop" else fed
        taken = [(v.name, v.type.tensor_type.elem_type) for v in graph.input]
        for (name, declared), real in zip(taken, fed, strict=False):
            if {declared, real} == FLOATS:
                message = f"{type_name(real)} meets {type_name(declared)} at {name} inside it"
                yield Conflict(called(node), node.op_type, message)
        for value in graph.output:
            declared, real = value.type.tensor_type.elem_type, types.get(value.name)
            if {declared, real} == FLOATS:
                message = f"{value.name} inside it is {type_name(real)}, not {type_name(declared)}"
                yield Conflict(called(node), node.op_type, message)
    for values in zip(*(graph.output for graph in bodies), strict=False):
        given_by = {types.get(value.name) for value, types in zip(values, inner, strict=True)}
        if given_by >= FLOATS:
            yield Conflict(called(node), node.op_type, "its branches give float and float16")


def _disagreements(
    node: onnx.NodeProto, signature: Signature, given: list[int]
) -> Iterator[Conflict]:
    bound: dict[str, int] = {}
    for port, name, elem_type in zip(signature.inputs, node.input, given, strict=False):
        if not name or elem_type == UNKNOWN or UNKNOWN in port.allowed:
            continue
        before = bound.setdefault(port.variable, elem_type)
        if before != elem_type:
            message = f"{type_name(before)} and {type_name(elem_type)} meet at input {name}"
        elif elem_type not in port.allowed:
            message = f"input {name} is {type_name(elem_type)}"
        else:
            continue
        yield Conflict(called(node), node.op_type, message)


def output_types(node: onnx.NodeProto, signature: Signature, given: list[int]) -> list[int]:
    """Element types a node gives for the element types of its inputs."""
    if (fixed := _type_by_attribute(node, given)) is not None:
        return [fixed] * len(node.output)
    bound: dict[str, int] = {}
    for port, elem_type in zip(signature.inputs, given, strict=False):
        if elem_type:
            bound.setdefault(port.variable, elem_type)
    return [
        bound.get(p.variable, next(iter(p.allowed)) if len(p.allowed) == 1 else UNKNOWN)
        for p in signature.outputs
    ]


_TYPE_ATTRIBUTES = {
    "Cast": "to",
    "ConstantOfShape": "value",
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "EyeLike": "dtype",
    "RandomNormalLike": "dtype",
    "RandomUniformLike": "dtype",
}


def _type_by_attribute(node: onnx.NodeProto, given: list[int]) -> int | None:
    """The output type of operators that have it in an attribute."""
    if node.op_type == "Constant":
        return _constant_type(node)
    if node.op_type == "CastLike":
        return given[1]
    if node.op_type not in _TYPE_ATTRIBUTES:
        return None
    of_type = attribute(node, _TYPE_ATTRIBUTES[node.op_type])
    if of_type is None:
        return given[0] if node.op_type.endswith("Like") else FLOAT
    return int(of_type.t.data_type if of_type.HasField("t") else of_type.i)


def _constant_type(node: onnx.NodeProto) -> int:
    for a in node.attribute:
        if a.name == "value":
            return int(a.t.data_type)
        if a.name == "sparse_value":
            return int(a.sparse_tensor.values.data_type)
        for name, elem_type in _VALUE_TYPES.items():
            if a.name.startswith(name):
                return elem_type
    return UNKNOWN


_VALUE_TYPES = {"value_float": FLOAT, "value_int": 7, "value_string": 8}
"""Attributes of a Constant, in the plural too."""


def type_name(elem_type: int) -> str:
    """float, float16, int64 and so on."""
    return str(TensorProto.DataType.Name(elem_type)).lower() if elem_type else "unknown"
