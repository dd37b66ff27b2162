"""Which float type each node, constant and source of a graph is to have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from stt.convert.counting import MOVES, Counting
from stt.convert.element_types import (
    FLOAT,
    FLOAT16,
    FLOATS,
    Schemas,
    Signature,
    Types,
    output_types,
)
from stt.convert.graph import captures, subgraphs
from stt.convert.model_file import GraphFile

if TYPE_CHECKING:
    import onnx

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
            told = runs_in(index, node, given)
            self.precision[index] = FLOAT if index in self.exact else told
            self._need(index, node)
            if node.op_type not in SOURCES and not subgraphs(node):
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
