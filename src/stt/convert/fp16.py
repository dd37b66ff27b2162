"""Float32 models to float16: weights and arithmetic in half; inputs and outputs stay float32."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx

from stt.convert.cast_rewriting import Change, Settled
from stt.convert.casts import settle, to_float
from stt.convert.counting import MOVES, find_counting
from stt.convert.element_types import FLOAT, FLOAT16, Types, conflicts, infer
from stt.convert.graph import attribute, called, captures, prepared, subgraphs
from stt.convert.model_file import GraphFile, copied, read, write
from stt.convert.weight import Tally, floats, reported
from stt.errors import ModelError

KEPT_OPS = frozenset(
    {"CumSum", "DFT", "MelWeightMatrix", "NonMaxSuppression", "RandomNormalLike"}
    | {"RandomUniformLike", "Range", "RoiAlign", "STFT", "TopK", "Upsample"}
)
"""Operators that stay float32: they sum or compare over long ranges, or no provider has them in
float16. Those whose schema has no float16 stay float32 by themselves."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of one file."""

    bytes_before: int
    """Of the graph and its weights."""
    bytes_after: int
    kept: tuple[str, ...]
    """Nodes that stay float32 though they could run in float16, for their counting."""
    changes: tuple[Change, ...]
    tally: Tally


def to_fp16(file: GraphFile, keep: Collection[str] = ()) -> tuple[Settled, tuple[str, ...]]:
    """Convert a graph; the weights are converted when they are written.

    Args:
        file: a float32 model; not changed.
        keep: names of nodes that stay float32.

    Returns:
        The graph, and the nodes kept float32 because they compute lengths and positions.

    Raises:
        ModelError: the graph computes in float16 already, or cannot be made to agree.
    """
    file = widened(prepared(file))
    types = infer(file)
    if FLOAT16 in types.of.values():
        raise ModelError("this model computes in float16 already; convert the FP32 one")
    if found := conflicts(file):
        first = found[0]
        raise ModelError(f"node {first.node} ({first.op}) is inconsistent: {first.message}")
    counting = find_counting(file, types)
    names = frozenset(keep)

    def runs_in(index: int, node: onnx.NodeProto, given: list[int]) -> int:
        stays = index in counting.nodes or node.op_type in KEPT_OPS or called(node) in names
        return FLOAT if stays else FLOAT16

    kept = tuple(called(file.model.graph.node[index]) for index in sorted(counting.nodes))
    return settle(file, types, counting, runs_in), kept


def convert(
    source: Path,
    target: Path,
    keep: Collection[str] = (),
    *,
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> Conversion:
    """Convert a file; weights pass through one at a time.

    Args:
        source: a float32 model.
        target: the float16 one; appears when it is whole.
        keep: names of nodes that stay float32.
        report: called with (stage, bytes written, bytes in all).

    Raises:
        ModelError: the model cannot be read or converted; names the node.
        OSError: e.g. a full disk; `target` is as it was before.
    """
    file = read(source)
    try:
        settled, kept = to_fp16(file, keep)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = reported(settled.file.weights.values(), f"converting {source.name}", report)
    write(target, settled.file.model, weights)
    sizes = size_of(source), size_of(target)
    return Conversion(*sizes, kept, settled.changes, settled.tally)


def size_of(path: Path) -> int:
    """Bytes of a model file and of the weights beside it."""
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def widened(file: GraphFile) -> GraphFile:
    """Return the graph with stored float16 in float32; one that computes in it as it is.

    Some files keep weights in float16 to save disk and cast them to float before any use.

    Args:
        file: its nodes in order; not changed.
    """
    types = infer(file)
    stored = _stored_halves(file.model.graph, types)
    if not stored or stored != {name for name, kind in types.of.items() if kind == FLOAT16}:
        return file
    model = copied(file.model)
    to_float(model.graph)
    weights = {
        name: replace(w, elem_type=FLOAT, nbytes=2 * w.nbytes, load=partial(floats, w), place=None)
        for name, w in file.weights.items()
        if w.elem_type == FLOAT16
    }
    return GraphFile(model, file.weights | weights)


def _stored_halves(graph: onnx.GraphProto, types: Types) -> set[str]:
    """Constants in float16 and what is only moved of them; empty where anything else reads one."""
    made = {name for node in graph.node for name in node.output}
    fed = {value.name for value in graph.input}
    stored = {n for n, kind in types.of.items() if kind == FLOAT16 and n not in made | fed}
    for node in graph.node:
        if node.op_type == "Constant":
            stored.update(name for name in node.output if types.get(name) == FLOAT16)
        if not stored.isdisjoint(captures(node)) or (
            subgraphs(node) and not stored.isdisjoint(node.input)
        ):
            return set()
        if stored.isdisjoint(node.input):
            continue
        to = attribute(node, "to") if node.op_type == "Cast" else None
        if node.op_type in MOVES:
            stored.update(name for name in node.output if types.get(name) == FLOAT16)
        elif to is None or to.i != FLOAT:
            return set()
    return stored if stored.isdisjoint(value.name for value in graph.output) else set()
