"""A transducer's decoder_joint taken apart: prediction network, encoder projection, joint.

The fused graph computes all three for every encoder frame. Apart, the encoder projection runs once
for an utterance, the prediction network once for a token, and only the joint for every frame.

The places to cut are found in the structure: what depends on the encoder frames alone, what on
tokens and states alone, and what on both, which is the joint. It must meet exactly one value of
each side, put on an axis of its own, and treat every pair of frame and token apart (`_FRAME_WISE`),
so that any number of frames of any number of utterances can go through it together. What a cut
graph gives is float32, also where the cut goes through float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info

from stt.convert.element_types import FLOAT, FLOAT16, Types, infer
from stt.convert.graph import Lookup, attribute, called, needed, refill, subgraphs
from stt.convert.model_file import GraphFile, read, write
from stt.convert.weight import Array, reported, value_of
from stt.errors import ModelError
from stt.models.split_transducer import (
    FRAMES,
    LOGITS,
    NEW_STATES,
    PREDICTION,
    PROJECTED,
    STATES,
    TOKENS,
)
from stt.types import ReportProgress

_UINT8, _INT32 = 2, 6

_FRAME_WISE = frozenset(
    {"Add", "Cast", "Constant", "Div", "Elu", "Gelu", "Identity", "LeakyRelu", "MatMul", "Mul"}
    | {"Relu", "Sigmoid", "Softplus", "Sub", "Tanh", "DynamicQuantizeMatMul"}
)
"""Operators that know nothing of axes but the last; so the token axis can be left out."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The three graphs.

    prediction: targets int32 [B, 1], states -> prediction float32 [B, 1, H], new states.
    projection: encoder_outputs float32 [B, D, T] -> projected float32 [B, T, H].
    joint: projected [B, T, H], prediction [B, 1, H] -> outputs float32 [B, T, tokens + durations].
    """

    prediction: GraphFile
    projection: GraphFile
    joint: GraphFile


def split_file(
    source: Path, targets: Sequence[Path], report: ReportProgress = lambda *_: None
) -> None:
    """Write the parts of a decoder_joint file: prediction, projection, joint, in this order.

    Raises:
        ModelError: it cannot be read or taken apart; says why.
        OSError: e.g. a full disk; each file is as it was before, or whole.
    """
    try:
        parts = split(read(source))
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    graphs = (parts.prediction, parts.projection, parts.joint)
    for part, target in zip(graphs, targets, strict=True):
        write(target, part.model, reported(part.weights.values(), f"writing {target.name}", report))


def split(file: GraphFile) -> Parts:
    """Take a decoder_joint apart; `file` is not changed.

    Raises:
        ModelError: its structure is not that of a transducer's decoder and joint.
    """
    graph = _Graph(file)
    for name in (FRAMES, TOKENS, *STATES):
        if name not in graph.inputs:
            raise ModelError(f"not a decoder_joint: no input named {name}")
    frames_side, tokens_side = graph.reach([FRAMES]), graph.reach([TOKENS, *STATES])
    others = graph.reach([n for n in graph.inputs if n not in (FRAMES, TOKENS, *STATES)])
    for name in (LOGITS, *NEW_STATES):
        if name not in graph.producer:
            raise ModelError(f"not a decoder_joint: no output named {name}")
        if name in others:
            raise ModelError(
                f"cannot be taken apart: {name} depends on more than frames and tokens"
            )
    if LOGITS not in frames_side & tokens_side:
        raise ModelError("cannot be taken apart: the logits do not depend on frames and tokens")
    if set(NEW_STATES) & frames_side:
        raise ModelError("cannot be taken apart: the states depend on the frames")
    joint = [n for n in graph.needed([LOGITS]) if n.output[0] in frames_side & tokens_side]
    if odd := [n for n in joint if n.op_type not in _FRAME_WISE]:
        node = f"{called(odd[0])} ({odd[0].op_type})"
        raise ModelError(f"cannot be taken apart: {node} in the joint may mix frames")
    used = list(dict.fromkeys(name for node in joint for name in node.input))
    frame, frame_before = graph.met([n for n in used if n in frames_side - tokens_side], 2, "frame")
    token, token_before = graph.met([n for n in used if n in tokens_side - frames_side], 1, "token")
    return Parts(
        graph.part("prediction", [TOKENS, *STATES], {token_before: PREDICTION}, NEW_STATES),
        graph.part("projection", [FRAMES], {frame_before: PROJECTED}),
        graph.joint({frame: PROJECTED, token: PREDICTION}),
    )


class _Graph:
    """The fused graph, looked up by values."""

    def __init__(self, file: GraphFile) -> None:
        self._file = file
        self._types: Types = infer(file)
        graph = file.model.graph
        if inner := [node for node in graph.node if subgraphs(node)]:
            raise ModelError(f"cannot be taken apart: {called(inner[0])} has a graph inside")
        self._lookup = Lookup(file)
        self._small = self._lookup.small
        self.inputs = {v.name: v for v in graph.input if v.name not in self._small}
        self._outputs = {value.name: value for value in graph.output}
        self.producer = self._lookup.producer

    def reach(self, names: Iterable[str]) -> set[str]:
        """All values that depend on these, themselves included."""
        reached = set(names)
        for node in self._file.model.graph.node:  # in order: ONNX demands it
            if reached.intersection(node.input):
                reached.update(name for name in node.output if name)
        return reached

    def needed(self, names: Iterable[str], stop: Iterable[str] = ()) -> list[onnx.NodeProto]:
        """The nodes that compute these values, in order, from `stop` and the graph's inputs."""
        return needed(self._file.model.graph.node, names, stop)

    def met(self, names: Sequence[str], axis: int, side: str) -> tuple[str, str]:
        """The one value of a side that the joint meets, and what it is before its new `axis`."""
        if len(names) != 1:
            raise ModelError(
                f"cannot be taken apart: the joint takes {len(names)} values of the {side} side"
            )
        node = self.producer.get(names[0])
        if node is None or node.op_type != "Unsqueeze" or self._axes(node) != [axis]:
            raise ModelError(
                f"cannot be taken apart: the {side} side is not put on an axis of its own"
            )
        return names[0], node.input[0]

    def _axes(self, node: onnx.NodeProto) -> list[int]:
        """Axes of an Unsqueeze to rank 4, from its attribute, a Constant or an initializer."""
        given = attribute(node, "axes")
        axes = self._lookup.constant(node.input[1]) if given is None else np.array(given.ints)
        return [] if axes is None else [int(axis) % 4 for axis in axes.reshape(-1)]

    def part(
        self, name: str, inputs: Sequence[str], cut: dict[str, str], kept: Sequence[str] = ()
    ) -> GraphFile:
        """The nodes from `inputs` to the one value of `cut`, given as float32, and to `kept`."""
        ((value, new),) = cut.items()
        nodes = self.needed([value, *kept])
        nodes.append(self._renamed(value, new, FLOAT, half=self._types.get(value) == FLOAT16))
        shape = ["batch", 1 if new == PREDICTION else "frames", "width"]
        outputs = [make_tensor_value_info(new, FLOAT, shape)]
        outputs += [self._outputs[state] for state in kept]
        return self._made(name, nodes, [self.inputs[n] for n in inputs], outputs)

    def joint(self, cut: dict[str, str]) -> GraphFile:
        """The nodes from the two values of `cut` to the logits, without the token axis."""
        nodes = [
            self._renamed(new, value, FLOAT16, half=self._types.get(value) == FLOAT16)
            for value, new in cut.items()
        ]
        nodes += self.needed([LOGITS], stop=cut)
        inputs = [
            make_tensor_value_info(PROJECTED, FLOAT, ["batch", "frames", "width"]),
            make_tensor_value_info(PREDICTION, FLOAT, ["batch", 1, "width"]),
        ]
        last = self._outputs[LOGITS].type.tensor_type.shape.dim[-1]
        if not last.dim_value:
            raise ModelError("cannot be taken apart: how many logits there are is not told")
        logits = make_tensor_value_info(LOGITS, FLOAT, ["batch", "frames", last.dim_value])
        return self._made("joint", nodes, inputs, [logits])

    @staticmethod
    def _renamed(value: str, new: str, to: int, *, half: bool) -> onnx.NodeProto:
        """The same value under a new name, cast where the cut goes through float16."""
        if half:
            return make_node("Cast", [value], [new], new, to=to)
        return make_node("Identity", [value], [new], new)

    def _made(
        self,
        name: str,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> GraphFile:
        used = {value for node in nodes for value in node.input}
        small = [tensor for key, tensor in self._small.items() if key in used]
        model = make_model(
            make_graph(nodes, name, inputs, outputs, small),
            opset_imports=self._file.model.opset_import,
            ir_version=self._file.model.ir_version,
        )
        weights = {key: w for key, w in self._file.weights.items() if key in used}
        made = GraphFile(model, weights)
        if name != "prediction":
            _quantise_rows_apart(made)
        return made


def _quantise_rows_apart(file: GraphFile) -> None:
    """Rewrite every `DynamicQuantizeMatMul` of a graph in place.

    It takes one scale for all it is given: a frame would come out otherwise with the neighbours it
    is computed with. Here every row of the activations has its scale and zero point, the very ones
    that the operator would choose if it were given that row alone; the product stays integer. With
    s, z a row's scale and zero point and c the sums of the weights' columns (less their zero point,
    where they are unsigned):

        row @ W = s * (q @ Wq - z * c) * scale_W

    Raises:
        ModelError: activations are quantised in a form that is not rewritten.
    """
    nodes: list[onnx.NodeProto] = []
    positive = {n.output[0] for n in file.model.graph.node if n.op_type in ("Relu", "Sigmoid")}
    for node in file.model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            raise ModelError(f"cannot be taken apart: {node.name} quantises all frames together")
        if node.op_type == "DynamicQuantizeMatMul":
            nodes += _Product(file, node, node.input[0] in positive).nodes
        else:
            nodes.append(node)
    refill(file.model.graph.node, nodes)


class _Product:
    """One product, written out."""

    def __init__(self, file: GraphFile, node: onnx.NodeProto, positive: bool) -> None:
        """`positive`: no activation is below 0, so that every zero point is 0."""
        self._file, self._name = file, node.output[0]
        self.nodes: list[onnx.NodeProto] = []
        values, weight, scale, zero, bias = [*node.input, "", "", ""][:5]
        stored = file.weights.get(weight)
        zeros = {tensor.name: tensor for tensor in file.model.graph.initializer}
        known = not zero or (zero in zeros and not zeros[zero].dims)
        if not known or stored is None or len(stored.shape) != 2:
            raise ModelError(f"cannot be taken apart: {node.name} has weights of another form")
        weights = [weight, "", zero] if zero else [weight]
        top = self._node("ReduceMax", values, axes=[-1], keepdims=1)
        if positive:
            row_scale = self._scale(top)
            integers = self._cast(self._node("Round", self._node("Div", values, row_scale)), _UINT8)
            product = self._node("MatMulInteger", integers, *weights)
        else:
            low = self._node("Min", self._node("ReduceMin", values, axes=[-1]), self._number(0.0))
            top = self._node("Max", top, self._number(0.0))
            row_scale = self._scale(self._node("Sub", top, low))
            down = self._node("Round", self._node("Div", self._node("Neg", low), row_scale))
            rounded = self._node("Round", self._node("Div", values, row_scale))
            moved = self._node("Add", rounded, down)
            moved = self._node("Clip", moved, self._number(0.0), self._number(255.0))
            whole = self._node("MatMulInteger", self._cast(moved, _UINT8), *weights)
            columns = stored.load().astype(np.int32) - (int(value_of(zeros[zero])) if zero else 0)
            sums = columns.sum(0, dtype=np.int32)
            shift = self._node("Mul", self._cast(down, _INT32), self._constant(sums))
            product = self._node("Sub", whole, shift)
        scaled = self._node("Mul", self._cast(product, FLOAT), scale)
        last = [self._node("Mul", scaled, row_scale), bias] if bias else [scaled, row_scale]
        op = "Add" if bias else "Mul"
        self.nodes.append(make_node(op, last, [self._name], f"{self._name}/rows"))

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self._name}/rows/{len(self.nodes)}"
        self.nodes.append(make_node(op, inputs, [output], output, **attributes))
        return output

    def _scale(self, extent: str) -> str:
        """A row's scale; a row of zeros takes a tiny one, and its integers are 0 with any."""
        step = self._node("Div", extent, self._number(255.0))
        return self._node("Max", step, self._number(float(np.finfo(np.float32).tiny)))

    def _cast(self, values: str, to: int) -> str:
        return self._node("Cast", values, to=to)

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, values: Array) -> str:
        stored = self._file.model.graph.initializer
        name = f"{self._name}/rows/{len(self.nodes)}/{values.size}/{len(stored)}"
        stored.append(numpy_helper.from_array(values, name))
        return name
