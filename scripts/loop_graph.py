"""The whole greedy loop of a TDT transducer inside one ONNX graph, to measure it.

`loop_model` joins the parts of a decoder_joint with an ONNX `Loop`: each turn computes the joint
for one frame of one utterance, and the prediction network, in an `If`, where a token came. It gives
the frame, token and duration of every turn; blanks are among them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stt.convert.split import Parts
from stt.models.split_transducer import (
    FRAMES,
    LOGITS,
    NEW_STATES,
    PREDICTION,
    PROJECTED,
    STATES,
    TOKENS,
)
from stt.models.tdt import TdtVocabulary

OUTPUTS = ("tokens", "frames", "durations")
_KEPT = ("prediction_now", "state_1", "state_2")
"""What the loop carries of the prediction network."""


def loop_model(parts: Parts, vocabulary: TdtVocabulary) -> bytes:
    """Build the graph: encoder frames [1, D, T] and the kept values after the start -> OUTPUTS."""
    size, count = vocabulary.size, len(vocabulary.durations)
    constants = {
        "zero": np.int64(0),
        "blank": np.int64(vocabulary.blank),
        "most": np.int64(vocabulary.max_symbols),
        "steps": np.array(vocabulary.durations, np.int64),
        "first": np.array([0], np.int64),
        "tokens_end": np.array([size], np.int64),
        "logits_end": np.array([size + count], np.int64),
        "last_axis": np.array([2], np.int64),
        "time_axis": np.int64(1),
        "yes": np.bool_(True),
    }
    stored = {name: numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()}
    for part in (parts.prediction, parts.projection, parts.joint):
        stored |= {tensor.name: tensor for tensor in part.model.graph.initializer}
        for weight in part.weights.values():
            stored[weight.name] = numpy_helper.from_array(weight.load(), weight.name)
    main = [
        *parts.projection.model.graph.node,
        _node("Shape", [PROJECTED], "projected_shape"),
        _node("Gather", ["projected_shape", "time_axis"], "length"),
        helper.make_node(
            "Loop",
            ["", "yes", "zero", "zero", *(f"{name}_begin" for name in _KEPT)],
            ["_frame", "_symbols", *(f"_{name}" for name in _KEPT), *OUTPUTS],
            body=_body(parts),
        ),
    ]
    inputs = [helper.make_tensor_value_info(FRAMES, TensorProto.FLOAT, [1, None, None])]
    inputs += [helper.make_tensor_value_info(f"{n}_begin", TensorProto.FLOAT, None) for n in _KEPT]
    outputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [None]) for n in OUTPUTS]
    graph = helper.make_graph(main, "greedy_tdt", inputs, outputs, list(stored.values()))
    opsets = parts.joint.model.opset_import
    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=8)
    return bytes(model.SerializeToString())


def _body(parts: Parts) -> onnx.GraphProto:
    now, *states = _KEPT
    joint = _renamed(
        parts.joint.model.graph.node, {PROJECTED: "row", PREDICTION: now, LOGITS: "logits"}
    )
    names = dict(zip(STATES, states, strict=True)) | {TOKENS: "target", PREDICTION: "told"}
    after = dict(zip(NEW_STATES, ("after_1", "after_2"), strict=True))
    prediction = _renamed(parts.prediction.model.graph.node, names | after)
    emitted = helper.make_graph(
        [
            _node("Unsqueeze", ["token", "first"], "token_row"),
            _node("Unsqueeze", ["token_row", "first"], "token_matrix"),
            _node("Cast", ["token_matrix"], "target", to=TensorProto.INT32),
            *prediction,
        ],
        "emitted",
        [],
        [_value(name, TensorProto.FLOAT) for name in ("told", "after_1", "after_2")],
    )
    same = helper.make_graph(
        [_node("Identity", [name], f"{name}_same") for name in _KEPT],
        "same",
        [],
        [_value(f"{name}_same", TensorProto.FLOAT) for name in _KEPT],
    )
    nodes = [
        _node("Unsqueeze", ["frame", "first"], "frame_index"),
        _node("Gather", [PROJECTED, "frame_index"], "row", axis=1),
        *joint,
        _node("Slice", ["logits", "first", "tokens_end", "last_axis"], "token_logits"),
        _node("Slice", ["logits", "tokens_end", "logits_end", "last_axis"], "step_logits"),
        _node("ArgMax", ["token_logits"], "token_3d", axis=-1, keepdims=0),
        _node("ArgMax", ["step_logits"], "step_3d", axis=-1, keepdims=0),
        _node("Squeeze", ["token_3d"], "token"),
        _node("Squeeze", ["step_3d"], "step_index"),
        _node("Gather", ["steps", "step_index"], "step"),
        _node("Equal", ["token", "blank"], "is_blank"),
        helper.make_node(
            "If",
            ["is_blank"],
            [f"{name}_out" for name in _KEPT],
            then_branch=same,
            else_branch=emitted,
        ),
        _node("Not", ["is_blank"], "is_token"),
        _node("Cast", ["is_token"], "one", to=TensorProto.INT64),
        _node("Add", ["symbols", "one"], "symbols_here"),
        _node("Equal", ["step", "zero"], "stays"),
        _node("Equal", ["symbols_here", "most"], "full"),
        _node("Or", ["is_blank", "full"], "may_not_stay"),
        _node("And", ["stays", "may_not_stay"], "is_pushed"),
        _node("Cast", ["is_pushed"], "push", to=TensorProto.INT64),
        _node("Add", ["step", "push"], "moved_by"),
        _node("Greater", ["moved_by", "zero"], "moves"),
        _node("Where", ["moves", "zero", "symbols_here"], "symbols_out"),
        _node("Add", ["frame", "moved_by"], "frame_out"),
        _node("Less", ["frame_out", "length"], "goes_on_out"),
        _node("Identity", ["token"], "token_told"),
        _node("Identity", ["frame"], "frame_told"),
        _node("Identity", ["step"], "step_told"),
    ]
    whole, truth = TensorProto.INT64, TensorProto.BOOL
    inputs = [("turn", whole), ("goes_on", truth), ("frame", whole), ("symbols", whole)]
    outputs = [("goes_on_out", truth), ("frame_out", whole), ("symbols_out", whole)]
    return helper.make_graph(
        nodes,
        "turn",
        [*(_value(*pair, []) for pair in inputs), *(_value(n, TensorProto.FLOAT) for n in _KEPT)],
        [
            *(_value(*pair, []) for pair in outputs),
            *(_value(f"{n}_out", TensorProto.FLOAT) for n in _KEPT),
            *(_value(name, whole, []) for name in ("token_told", "frame_told", "step_told")),
        ],
    )


def _node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def _value(name: str, kind: int, shape: list[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _renamed(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> list[onnx.NodeProto]:
    """Copies of nodes with values under other names."""
    found = []
    for node in nodes:
        copy = type(node).FromString(node.SerializeToString())
        copy.input[:] = [names.get(name, name) for name in copy.input]
        copy.output[:] = [names.get(name, name) for name in copy.output]
        found.append(copy)
    return found
