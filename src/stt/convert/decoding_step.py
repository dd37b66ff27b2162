"""One round of label looping as one graph, for a card: prediction network, joint, and the choice.

Apart (`convert.split`), prediction network and joint hand 8,198 logits for every frame of the
window to the host, and their states go to and fro. Here all of it stays where it is computed. A
round takes 24 bytes for each utterance and gives six numbers for each frame of its window:

    orders int64 [3, B]            last token; 1 where it is new, else 0; first frame of the window
    projected float32 [N, H]       encoder frames as the joint takes them, of all utterances one
                                   behind the other; frame + W <= N
    prediction float32 [B, 1, H]   of the round before, and the states, float32 [layers, B, H]
    ->
    choices float32 [B, W, 6]      token, logprob, its lead over the second best, duration's place,
                                   its lead, 0 (NaN where a logit is no number, or what it was
                                   made of: on CUDA a Relu of NaN is 0)
    new_prediction, output_states_1, output_states_2

Utterances without a new token keep prediction and states. Shapes stay as they are from round to
round, so that a CUDA graph can hold a round.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info

from stt.convert.model_file import GraphFile, copied, read, write
from stt.convert.split import split
from stt.errors import ModelError
from stt.models.split_transducer import LOGITS, NEW_STATES, PREDICTION, PROJECTED, STATES, TOKENS
from stt.models.step_networks import CHOICES, NEW_PREDICTION, ORDERS, WINDOW


def write_step(source: Path, target: Path, durations: int) -> None:
    """Write a round's graph from a decoder_joint.

    Args:
        source: the decoder_joint's file.
        target: the file to write.
        durations: how many outputs of the joint are durations.

    Raises:
        ModelError: it cannot be read or taken apart.
        OSError: e.g. a full disk; the target stays as it was.
    """
    parts = split(read(source))
    step = _joined(parts.prediction, parts.joint, durations)
    write(target, step.model, step.weights.values())


def _joined(prediction: GraphFile, joint: GraphFile, durations: int) -> GraphFile:
    states = [value for value in prediction.model.graph.input if value.name in STATES]
    width = _last(next(v for v in joint.model.graph.input if v.name == PROJECTED))
    outputs = _last(next(v for v in joint.model.graph.output if v.name == LOGITS))
    if not isinstance(outputs, int):
        raise ModelError(f"the joint does not say how many outputs it has ({outputs})")
    writer = _Writer()
    writer.orders()
    writer.part("prediction_network", prediction, {TOKENS: "targets", **{n: n for n in STATES}})
    writer.keep()
    writer.window()
    names = {PROJECTED: "window", PREDICTION: NEW_PREDICTION}
    writer.part("joint", joint, names)
    writer.choose(f"joint/{LOGITS}", outputs - durations, durations)
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    shapes: dict[str, list[int | str]] = {s.name: ["layers", "batch", _last(s)] for s in states}
    after = dict(zip(NEW_STATES, shapes.values(), strict=True))
    one: list[int | str] = ["batch", 1, width]
    graph = make_graph(
        writer.nodes,
        "decoding_step",
        [
            make_tensor_value_info(ORDERS, int64, [3, "batch"]),
            make_tensor_value_info(PROJECTED, float32, ["frames", width]),
            make_tensor_value_info(PREDICTION, float32, one),
            *(make_tensor_value_info(name, float32, shape) for name, shape in shapes.items()),
        ],
        [
            make_tensor_value_info(CHOICES, float32, ["batch", WINDOW, 6]),
            make_tensor_value_info(NEW_PREDICTION, float32, one),
            *(make_tensor_value_info(name, float32, shape) for name, shape in after.items()),
        ],
        [numpy_helper.from_array(value, name) for name, value in writer.constants.items()]
        + writer.initializers,
    )
    opsets = prediction.model.opset_import
    model = make_model(graph, opset_imports=opsets, ir_version=prediction.model.ir_version)
    weights = {
        f"{prefix}/{name}": replace(weight, name=f"{prefix}/{name}")
        for prefix, file in (("prediction_network", prediction), ("joint", joint))
        for name, weight in file.weights.items()
    }
    return GraphFile(model, weights)


def _last(value: onnx.ValueInfoProto) -> int | str:
    dimension = value.type.tensor_type.shape.dim[-1]
    return int(dimension.dim_value) or str(dimension.dim_param)


class _Writer:
    """Nodes, constants and small weights of the graph that is written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.initializers: list[onnx.TensorProto] = []

    def orders(self) -> None:
        """Take the orders apart: targets int32 [B, 1], moved bool [B], frames int64 [B]."""
        row = [self._row(ORDERS, place, name) for place, name in enumerate(("last", "new", "at"))]
        self._node("Cast", [row[0]], "last/int32", to=TensorProto.INT32)
        self._node("Unsqueeze", ["last/int32", self._ints(1)], "targets")
        self._node("Cast", [row[1]], "moved", to=TensorProto.BOOL)
        self._node("Reshape", ["moved", self._ints(-1, 1, 1)], "moved/prediction")
        self._node("Reshape", ["moved", self._ints(1, -1, 1)], "moved/states")

    def part(self, prefix: str, file: GraphFile, inputs: dict[str, str]) -> None:
        """Add a part's nodes; all their names but those of its inputs get a prefix."""

        def name(value: str) -> str:
            return inputs.get(value, f"{prefix}/{value}") if value else ""

        for node in file.model.graph.node:
            copy = copied(node)
            copy.name = f"{prefix}/{node.name}"
            copy.input[:] = [name(value) for value in node.input]
            copy.output[:] = [f"{prefix}/{value}" if value else "" for value in node.output]
            self.nodes.append(copy)
        for tensor in file.model.graph.initializer:
            small = copied(tensor)
            small.name = f"{prefix}/{tensor.name}"
            self.initializers.append(small)

    def keep(self) -> None:
        """Let utterances without a new token keep their prediction and states."""
        new = f"prediction_network/{PREDICTION}"
        self._node("Where", ["moved/prediction", new, PREDICTION], NEW_PREDICTION)
        for before, after in zip(STATES, NEW_STATES, strict=True):
            new = f"prediction_network/{after}"
            self._node("Where", ["moved/states", new, before], after)

    def window(self) -> None:
        """Take the frames of each utterance's window, [B, W, H]."""
        self._node("Unsqueeze", ["at", self._ints(1)], "at/column")
        self._node("Add", ["at/column", self._ints(*range(WINDOW))], "at/frames")
        self._node("Gather", [PROJECTED, "at/frames"], "window", axis=0)

    def choose(self, logits: str, tokens: int, durations: int) -> None:
        """Choose token and duration of each frame, by logits float32 [B, W, tokens + durations]."""
        last = self._ints(-1)
        self._slice(logits, 0, tokens, "tokens")
        self._two_best("tokens", "token")
        self._node("Sub", ["tokens", "token/best"], "tokens/below")
        self._node("Exp", ["tokens/below"], "tokens/share")
        self._node("ReduceSum", ["tokens/share", last], "tokens/total")
        self._node("Log", ["tokens/total"], "tokens/log")
        self._node("Neg", ["tokens/log"], "token/logprob")
        if durations:
            self._slice(logits, tokens, tokens + durations, "durations")
            self._two_best("durations", "duration")
        else:
            zero = self._constant(np.zeros(1, np.float32), "zero")
            self._node("Mul", ["token/logprob", zero], "duration/place")
            self._node(
                "Add", ["duration/place", self._constant(np.ones(1, "f"), "one")], "duration/lead"
            )
        self._node("Add", [self._check("window"), self._check(NEW_PREDICTION)], "given/check")
        self._node("Add", ["given/check", self._check(logits)], "check")
        parts = ["token/place", "token/logprob", "token/lead", "duration/place", "duration/lead"]
        self._node("Concat", [*parts, "check"], CHOICES, axis=2)

    def _check(self, values: str) -> str:
        """0 where all values of the last axis are numbers, else NaN."""
        nothing = self._constant(np.zeros(1, np.float32), "nothing")
        zeros = self._node("Mul", [values, nothing], f"{values}/zero")
        return self._node("ReduceSum", [zeros, self._ints(-1)], f"{values}/check")

    def _two_best(self, values: str, name: str) -> None:
        """The best of the last axis, its place as float32, and its lead over the second."""
        outputs = [f"{name}/values", f"{name}/places"]
        self.nodes.append(
            make_node("TopK", [values, self._ints(2)], outputs, f"{name}/two", axis=-1)
        )
        self._slice(outputs[0], 0, 1, f"{name}/best")
        self._slice(outputs[0], 1, 2, f"{name}/second")
        self._node("Sub", [f"{name}/best", f"{name}/second"], f"{name}/lead")
        self._slice(outputs[1], 0, 1, f"{name}/first")
        self._node("Cast", [f"{name}/first"], f"{name}/place", to=TensorProto.FLOAT)

    def _row(self, value: str, place: int, name: str) -> str:
        index = self._constant(np.array(place, np.int64), f"{name}/row")
        return self._node("Gather", [value, index], name, axis=0)

    def _slice(self, value: str, start: int, end: int, name: str) -> str:
        bounds = [self._ints(start), self._ints(end), self._ints(-1)]
        return self._node("Slice", [value, *bounds], name)

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64), f"ints/{','.join(map(str, values))}")

    def _constant(self, value: np.ndarray[Any, Any], name: str) -> str:
        self.constants[name] = value
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(make_node(kind, inputs, [output], output, **attributes))
        return output
