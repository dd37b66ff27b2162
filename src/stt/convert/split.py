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
from typing import TYPE_CHECKING

from stt.convert.element_types import FLOAT, FLOAT16, Types, attribute, called, infer, subgraphs
from stt.convert.model_file import GraphFile, read, reported, value_of, write
from stt.convert.rowwise import quantise_rows_apart
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

if TYPE_CHECKING:
    import onnx

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
        told = f"{called(odd[0])} ({odd[0].op_type})"
        raise ModelError(f"cannot be taken apart: {told} in the joint may mix frames")
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
        self._small = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {v.name: v for v in graph.input if v.name not in self._small}
        self._outputs = {value.name: value for value in graph.output}
        self.producer = {name: node for node in graph.node for name in node.output if name}

    def reach(self, names: Iterable[str]) -> set[str]:
        """All values that depend on these, themselves included."""
        reached = set(names)
        for node in self._file.model.graph.node:  # in order: ONNX demands it
            if reached.intersection(node.input):
                reached.update(name for name in node.output if name)
        return reached

    def needed(self, names: Iterable[str], stop: Iterable[str] = ()) -> list[onnx.NodeProto]:
        """The nodes that compute these values, in order, from `stop` and the graph's inputs."""
        wanted, found = set(names) - set(stop), []
        for node in reversed(self._file.model.graph.node):
            if wanted.intersection(node.output):
                found.append(node)
                wanted.update(set(node.input) - set(stop))
        return found[::-1]

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
        told = attribute(node, "axes")
        if told is not None:
            axes = list(told.ints)
        else:
            tensor = self._small.get(node.input[1])
            maker = self.producer.get(node.input[1])
            if tensor is None and maker is not None and maker.op_type == "Constant":
                tensor = maker.attribute[0].t
            axes = [] if tensor is None else [int(v) for v in value_of(tensor).reshape(-1)]
        return [axis % 4 for axis in axes]

    def part(
        self, name: str, inputs: Sequence[str], cut: dict[str, str], kept: Sequence[str] = ()
    ) -> GraphFile:
        """The nodes from `inputs` to the one value of `cut`, given as float32, and to `kept`."""
        from onnx.helper import make_tensor_value_info

        ((value, new),) = cut.items()
        nodes = self.needed([value, *kept])
        nodes.append(self._renamed(value, new, FLOAT, half=self._types.get(value) == FLOAT16))
        shape = ["batch", 1 if new == PREDICTION else "frames", "width"]
        outputs = [make_tensor_value_info(new, FLOAT, shape)]
        outputs += [self._outputs[state] for state in kept]
        return self._made(name, nodes, [self.inputs[n] for n in inputs], outputs)

    def joint(self, cut: dict[str, str]) -> GraphFile:
        """The nodes from the two values of `cut` to the logits, without the token axis."""
        from onnx.helper import make_tensor_value_info

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
        from onnx.helper import make_node

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
        from onnx.helper import make_graph, make_model

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
            quantise_rows_apart(made)
        return made
