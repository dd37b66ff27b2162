"""The part of an encoder that computes lengths, cut out: small enough to run at every length.

An encoder computes how many frames it gives, and where its masks end, from the input `length`
alone. `cut_lengths` returns that part as a graph of its own, of a few dozen nodes without weights;
`counted` runs it in ONNX's reference implementation, whose float16 arithmetic is real, as on a
device that has it: ONNX Runtime on a CPU computes float16 in float32, which hides miscounting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stt.convert.counting import read_by
from stt.convert.model_file import Array, GraphFile

if TYPE_CHECKING:
    import onnx

LENGTH, ENCODED = "length", "encoded_lengths"


def cut_lengths(file: GraphFile) -> onnx.ModelProto | None:
    """Cut out what follows from `length` and constants alone.

    Returns:
        A graph from `length`, int64 [B], to `encoded_lengths` and to each value that leaves the
        arithmetic, such as the operands of masks. None where the encoder's lengths depend on more
        than `length`.
    """
    from onnx import ModelProto, TensorProto
    from onnx.helper import make_empty_tensor_value_info, make_tensor_value_info

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
    kept, needed = _needed(nodes, set(leaving))
    part = ModelProto(ir_version=file.model.ir_version, opset_import=file.model.opset_import)
    part.graph.name = "lengths"
    part.graph.node.extend(kept)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in needed)
    part.graph.input.append(make_tensor_value_info(LENGTH, TensorProto.INT64, ["B"]))
    part.graph.output.extend(make_empty_tensor_value_info(name) for name in leaving)
    return part


def _needed(nodes: list[onnx.NodeProto], needed: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that the needed values come from, in order, and all values they read."""
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(read_by(node))
    return kept[::-1], needed


def counted(part: onnx.ModelProto, lengths: npt.NDArray[np.int64]) -> Mapping[str, Array]:
    """Compute what a cut-out part gives for feature frames `lengths`, int64 [B], by output name.

    Raises:
        CountingError: its types do not fit together, or the reference lacks an operator.
    """
    from onnx.reference import ReferenceEvaluator

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
