"""Element types of every value in an ONNX graph, from the operators' own schemas.

An operator's schema names for each input and output either one type or a type variable (`T`) with
the types it may stand for; all that share a variable must agree. That is the rule ONNX Runtime
enforces when it loads a model, and the one these functions know. Types are
onnx.TensorProto.DataType numbers; 0 is unknown: sequences, and operators nobody has a schema of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

from stt.convert.graph import attribute, called, subgraphs
from stt.convert.model_file import GraphFile

UNKNOWN, FLOAT, FLOAT16, DOUBLE = 0, 1, 10, 11
FLOATS = frozenset({FLOAT, FLOAT16})
"""The two types a precision decides between; doubles and bfloat16 are left as they are."""
LARGEST, SMALLEST = 1e4, 1e-7
"""Magnitudes that conversion to float16 keeps, as onnxconverter_common's documents them."""


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
    told: str


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
        formal = _formal(node.op_type, version, domain)
        if formal is None:
            return Signature((), ())
        return Signature(
            tuple(_expanded(formal.inputs, len(node.input), formal.types)),
            tuple(_expanded(formal.outputs, len(node.output), formal.types)),
        )


@dataclass(frozen=True, slots=True)
class _Formal:
    """A schema, the same for ONNX's own operators and ONNX Runtime's."""

    inputs: tuple[tuple[str, bool, bool], ...]
    """(type or variable, variadic, all of one type)."""
    outputs: tuple[tuple[str, bool, bool], ...]
    types: Mapping[str, frozenset[int]]


@cache
def _formal(op: str, version: int, domain: str) -> _Formal | None:
    from onnx import defs

    schema: Any
    if defs.has(op, domain):
        try:
            schema = defs.get_schema(op, version, domain)
        except defs.SchemaError:
            return None
    elif (domain, op) in (found := _runtime_schemas()):
        schema = found[domain, op]
    else:
        return None
    types = {c.type_param_str: _type_ids(c.allowed_type_strs) for c in schema.type_constraints}
    return _Formal(_parameters(schema.inputs), _parameters(schema.outputs), types)


@cache
def _runtime_schemas() -> dict[tuple[str, str], Any]:
    """ONNX Runtime's own operators (com.microsoft), newest version of each."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    known = sorted(runtime.get_all_operator_schema(), key=lambda schema: schema.since_version)
    return {(schema.domain, schema.name): schema for schema in known}


def _parameters(formal: Iterable[Any]) -> tuple[tuple[str, bool, bool], ...]:
    def told(p: Any) -> tuple[str, bool, bool]:
        kind = getattr(p, "type_str", None) or p.typeStr
        one_type = getattr(p, "is_homogeneous", getattr(p, "isHomogeneous", True))
        return kind, str(p.option).endswith("Variadic"), bool(one_type)

    return tuple(told(p) for p in formal)


def _expanded(
    formal: tuple[tuple[str, bool, bool], ...], count: int, types: Mapping[str, frozenset[int]]
) -> Iterator[Port]:
    for index in range(count):
        if not formal:
            return
        kind, _, one_type = formal[min(index, len(formal) - 1)]
        if kind in types:
            yield Port(kind if one_type else f"{kind}#{index}", types[kind])
        else:
            yield Port(f"{kind}@{index}", _type_ids([kind]))


@cache
def _type_id(told: str) -> int:
    from onnx import TensorProto

    if not told.startswith("tensor("):
        return UNKNOWN
    name = told[len("tensor(") : -1].upper()
    return int(dict(TensorProto.DataType.items()).get(name, UNKNOWN))


def _type_ids(told: Iterable[str]) -> frozenset[int]:
    return frozenset(map(_type_id, told))


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
            told = f"declared {type_name(declared)}, is {type_name(real)}"
            found.append(Conflict(output.name, "output", told))
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
                told = f"nobody knows the type of its output {name}"
                found.append(Conflict(called(guilty), guilty.op_type, told))
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
                told = f"{type_name(real)} meets {type_name(declared)} at {name} inside it"
                yield Conflict(called(node), node.op_type, told)
        for value in graph.output:
            declared, real = value.type.tensor_type.elem_type, types.get(value.name)
            if {declared, real} == FLOATS:
                told = f"{value.name} inside it is {type_name(real)}, not {type_name(declared)}"
                yield Conflict(called(node), node.op_type, told)
    for values in zip(*(graph.output for graph in bodies), strict=False):
        given_by = {types.get(value.name) for value, types in zip(values, inner, strict=True)}
        if given_by >= FLOATS:
            told = "its branches give float and float16"
            yield Conflict(called(node), node.op_type, told)


def _disagreements(
    node: onnx.NodeProto, signature: Signature, given: list[int]
) -> Iterator[Conflict]:
    bound: dict[str, int] = {}
    for port, name, elem_type in zip(signature.inputs, node.input, given, strict=False):
        if not name or elem_type == UNKNOWN or UNKNOWN in port.allowed:
            continue
        before = bound.setdefault(port.variable, elem_type)
        if before != elem_type:
            told = f"{type_name(before)} and {type_name(elem_type)} meet at input {name}"
        elif elem_type not in port.allowed:
            told = f"input {name} is {type_name(elem_type)}"
        else:
            continue
        yield Conflict(called(node), node.op_type, told)


def output_types(node: onnx.NodeProto, signature: Signature, given: list[int]) -> list[int]:
    """Element types a node gives for the element types of its inputs."""
    if (told := _told_by_attribute(node, given)) is not None:
        return [told] * len(node.output)
    bound: dict[str, int] = {}
    for port, elem_type in zip(signature.inputs, given, strict=False):
        if elem_type:
            bound.setdefault(port.variable, elem_type)
    only = [next(iter(p.allowed)) if len(p.allowed) == 1 else UNKNOWN for p in signature.outputs]
    return [
        bound.get(port.variable, one) for port, one in zip(signature.outputs, only, strict=True)
    ]


def _told_by_attribute(node: onnx.NodeProto, given: list[int]) -> int | None:
    """The output type of operators that have it in an attribute."""
    if node.op_type == "Constant":
        return _constant_type(node)
    if node.op_type == "CastLike":
        return given[1]
    if node.op_type not in _TYPE_ATTRIBUTES:
        return None
    told = attribute(node, _TYPE_ATTRIBUTES[node.op_type])
    if told is None:
        return given[0] if node.op_type.endswith("Like") else FLOAT
    return int(told.t.data_type if told.HasField("t") else told.i)


_TYPE_ATTRIBUTES = {
    "Cast": "to",
    "ConstantOfShape": "value",
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "EyeLike": "dtype",
    "RandomNormalLike": "dtype",
    "RandomUniformLike": "dtype",
}


def _constant_type(node: onnx.NodeProto) -> int:
    from onnx import TensorProto

    for a in node.attribute:
        if a.name == "value":
            return int(a.t.data_type)
        if a.name == "sparse_value":
            return int(a.sparse_tensor.values.data_type)
        if a.name.startswith("value_float"):
            return FLOAT
        if a.name.startswith("value_int"):
            return int(TensorProto.INT64)
        if a.name.startswith("value_string"):
            return int(TensorProto.STRING)
    return UNKNOWN


def type_name(elem_type: int) -> str:
    """float, float16, int64 and so on."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(elem_type)).lower() if elem_type else "unknown"
