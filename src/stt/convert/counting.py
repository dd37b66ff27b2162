"""Finds floating-point arithmetic on counts: lengths and positions made from integers.

NeMo's encoder computes its output lengths in floating point: it casts `length` to float, adds,
divides, floors and casts back. Float16 holds integers exactly only up to 2,048, so this path must
stay in float32 or lengths come out wrong for recordings over 20.48 s (onnx-asr issue 138).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto
from onnx.helper import make_empty_tensor_value_info, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

from stt.convert.element_types import DOUBLE, FLOAT16, FLOATS, UNKNOWN, Types
from stt.convert.graph import attribute, needed, read_by, subgraphs
from stt.convert.model_file import GraphFile
from stt.convert.weight import LARGEST, Array, value_of

LENGTH, ENCODED = "length", "encoded_lengths"
"""An encoder's input and output that hold lengths, int64 [B]."""
MOVES = frozenset(
    "Concat Expand Flatten Gather GatherElements GatherND Identity Reshape Slice Split Squeeze "  # noqa: SIM905
    "Tile Transpose Unsqueeze".split()
)
"""Operators that leave the values of what they move about as they are."""
_CARRIES = MOVES | frozenset(
    "Abs Add Atan Ceil Clip Cos CumSum Div Einsum Erf Exp Floor LeakyRelu Log MatMul Max Mean Min "  # noqa: SIM905
    "Mod Mul Neg Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu "
    "Round ScatterElements ScatterND Sigmoid Sign Sin Sqrt Sub Sum Tanh Where".split()
)
"""Operators through which a count stays a count, if all else they take is constant."""
_MADE = frozenset({"Constant", "ConstantOfShape"})
"""Operators that make constants."""
_ROUNDS = frozenset({"Floor", "Ceil", "Round", "Mod"})
"""Operators that only make sense on exact numbers."""
_FLOAT_LIKE = FLOATS | {DOUBLE}


@dataclass(frozen=True, slots=True)
class Counting:
    """Positions of nodes in `graph.node`."""

    nodes: frozenset[int]
    """Float arithmetic on nothing but integers and constants; masks are left out."""
    exact: frozenset[int]
    """What becomes an integer in the end, or is rounded or compared: masks too."""


def find_counting(file: GraphFile, types: Types) -> Counting:
    """Find the nodes that count, and those among them that must be exact."""
    graph = file.model.graph
    constant = {t.name for t in graph.initializer} | set(file.weights)
    never = {t.name for t in graph.initializer if _says_never(t)}
    counts: set[str] = set()
    masks: set[str] = set()
    nodes: set[int] = set()
    masking: set[int] = set()
    fixed: set[int] = set()
    for index, node in enumerate(graph.node):
        if _is_constant(node, constant):
            constant.update(node.output)
            if node.op_type not in _MADE and _gives_floats(node, types):
                fixed.add(index)
            if any(a.HasField("t") and _says_never(a.t) for a in node.attribute):
                never.update(node.output)
        elif _counts(node, types, counts, constant):
            nodes.add(index)
            counts.update(node.output)
            if not never.isdisjoint(node.input):
                masking.add(index)
                never.update(node.output)
            elif _is_mask(node, types, masks, constant):
                masking.add(index)
                masks.update(node.output)
    exact = _exact(graph, types, nodes | fixed, counts, constant)
    return Counting(frozenset(nodes - masking | exact), frozenset(exact))


def _is_constant(node: onnx.NodeProto, constant: set[str]) -> bool:
    """Whether a node gives the same values whatever the inputs, as far as is easily seen."""
    if node.op_type in _MADE:
        return True
    read = [name for name in node.input if name]
    return bool(read) and not subgraphs(node) and all(name in constant for name in read)


def _says_never(tensor: onnx.TensorProto) -> bool:
    """Whether a constant has numbers that masks add to shut something out.

    What such masks give goes to float16, which the constant is clipped for; kept in float32 it
    would become infinite at the Cast to what reads it, and a row shut out whole not a number.
    """
    if tensor.data_type not in FLOATS:
        return False
    values = value_of(tensor).astype(np.float32)
    clipped = tensor.data_type == FLOAT16 and np.any(values >= LARGEST)
    return bool(clipped or np.any((values <= -LARGEST) | (values > _HALF_MAX)))


_HALF_MAX = 65504.0


def _gives_floats(node: onnx.NodeProto, types: Types) -> bool:
    return any(types.get(name) in _FLOAT_LIKE for name in node.output)


def _is_mask(node: onnx.NodeProto, types: Types, masks: set[str], constant: set[str]) -> bool:
    """Whether a counting node only chooses: zeros and ones, or one of two constants."""
    if node.op_type == "Cast":
        return types.get(node.input[0]) == TensorProto.BOOL or node.input[0] in masks
    floats = [name for name in node.input if name and types.get(name) in _FLOAT_LIKE]
    if node.op_type == "Where":
        return all(name in masks or name in constant for name in floats)
    return node.op_type in MOVES and all(name in masks for name in floats)


def _counts(node: onnx.NodeProto, types: Types, counts: set[str], constant: set[str]) -> bool:
    """Whether a node gives floats that stem from integers alone."""
    if not _gives_floats(node, types):
        return False
    if node.op_type == "Cast":
        return not _is_float(types.get(node.input[0])) or node.input[0] in counts
    if node.op_type not in _CARRIES and not subgraphs(node):
        return False
    floats = [name for name in read_by(node) if types.get(name) in _FLOAT_LIKE]
    if node.op_type != "Where" and not any(name in counts for name in floats):
        return False
    return all(name in counts or name in constant for name in floats)


def _is_float(elem_type: int) -> bool:
    return elem_type in _FLOAT_LIKE or elem_type == UNKNOWN


def _exact(
    graph: onnx.GraphProto, types: Types, nodes: set[int], counts: set[str], constant: set[str]
) -> set[int]:
    """Walk back from where counts become integers, or are rounded or compared."""
    exact: set[int] = set()
    wanted: set[str] = set()
    known = counts | constant
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if index in nodes:
            if node.op_type in _ROUNDS or any(name in wanted for name in node.output):
                exact.add(index)
                wanted.update(name for name in read_by(node) if name in known)
        elif _ends_in_integers(node, types):
            floats = {name for name in node.input if types.get(name) in _FLOAT_LIKE}
            if floats and (floats <= known or floats & counts):
                exact.add(index)
                wanted.update(floats & known)
    return exact


def _ends_in_integers(node: onnx.NodeProto, types: Types) -> bool:
    if node.op_type == "Cast":
        to = attribute(node, "to")
        return to is not None and to.i not in _FLOAT_LIKE
    results = [types.get(name) for name in node.output]
    return bool(results) and not any(_is_float(result) for result in results)


def cut_lengths(file: GraphFile) -> onnx.ModelProto | None:
    """Cut out what follows from `length` and constants alone: a few dozen nodes without weights.

    Returns:
        A graph from `length`, int64 [B], to `encoded_lengths` and to each value that leaves the
        arithmetic, such as the operands of masks. None where the encoder's lengths depend on more
        than `length`.
    """
    graph = file.model.graph
    constant = {tensor.name for tensor in graph.initializer}
    counts = {LENGTH} & {value.name for value in graph.input}
    nodes: list[onnx.NodeProto] = []
    leaving: dict[str, None] = {}
    for node in graph.node:
        read = read_by(node)
        if all(name in constant for name in read):
            constant.update(node.output)
            nodes.append(node)
        elif all(name in constant or name in counts for name in read):
            counts.update(node.output)
            nodes.append(node)
        else:
            leaving.update(dict.fromkeys(name for name in read if name in counts - {LENGTH}))
    if any(output.name == ENCODED for output in graph.output):
        if ENCODED not in counts:
            return None
        leaving[ENCODED] = None
    if not leaving:
        return None
    kept = needed(nodes, leaving)
    used = {name for node in kept for name in read_by(node)}
    part = ModelProto(ir_version=file.model.ir_version, opset_import=file.model.opset_import)
    part.graph.name = "lengths"
    part.graph.node.extend(kept)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in used)
    part.graph.input.append(make_tensor_value_info(LENGTH, TensorProto.INT64, ["B"]))
    part.graph.output.extend(make_empty_tensor_value_info(name) for name in leaving)
    return part


def counted(part: onnx.ModelProto, lengths: npt.NDArray[np.int64]) -> Mapping[str, Array]:
    """Compute what a cut-out part gives for feature frames `lengths`, int64 [B], by output name.

    ONNX's reference implementation computes real float16, as a device that has it does; ONNX
    Runtime on a CPU computes float16 in float32, which hides miscounting.

    Raises:
        CountingError: its types do not fit together, or the reference lacks an operator.
    """
    names = [output.name for output in part.graph.output]
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # float16 ends at 65,504
            found = ReferenceEvaluator(part).run(names, {LENGTH: lengths})
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise CountingError(" ".join(str(error).split())) from error
    return dict(zip(names, found, strict=True))


class CountingError(Exception):
    """A length path that cannot be computed alone."""


def miscounted(
    right: Mapping[str, Array], got: Mapping[str, Array], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return those of `lengths` for which `got` is not `right`, or lacks a value of it."""
    wrong = np.zeros(len(lengths), bool)
    for name, values in right.items():
        if name not in got or got[name].shape != values.shape:
            wrong[:] = True
        elif values.shape[:1] == lengths.shape:
            unequal = got[name].astype(np.float64) != values.astype(np.float64)
            wrong |= unequal.reshape(len(lengths), -1).any(axis=1)
        elif not np.array_equal(got[name], values):
            wrong[:] = True
    return lengths[wrong]
