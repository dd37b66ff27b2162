"""An encoder's length path, cut out: right at every length; real float16 shows miscounting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from stt.convert import fp16
from stt.convert.counting import CountingError, counted, cut_lengths, miscounted
from stt.convert.model_file import GraphFile, read
from support import others
from support.graphs import LENGTHS, LENGTHS_IN_A_BRANCH
from support.paths import DIGITS

ENCODER = DIGITS / "encoder-model.onnx"
ALL = np.arange(1, 40_001)


def cut(model: onnx.ModelProto) -> onnx.ModelProto:
    part = cut_lengths(GraphFile(model, {}))
    assert part is not None
    return part


def test_it_counts_as_the_whole_encoder_does() -> None:
    part = cut_lengths(read(ENCODER))
    assert part is not None
    assert len(part.graph.node) < 100
    some = np.array([1, 8, 9, 2047, 2048, 2049, 4700, 39_900])
    whole = onnxruntime.InferenceSession(ENCODER, providers=["CPUExecutionProvider"])
    mels = whole.get_inputs()[0].shape[1]
    signal = np.zeros((len(some), mels, 16), np.float32)
    told = whole.run(["encoded_lengths"], {"audio_signal": signal, "length": some})[0]
    found = counted(part, some)
    np.testing.assert_array_equal(found["encoded_lengths"], told)
    masks = [name for name, values in found.items() if values.shape == (len(some), 1)]
    assert len(masks) >= 4, "where the masks of each convolution end is counted too"


def test_our_conversion_counts_right_at_every_length(tmp_path: Path) -> None:
    fp16.convert(ENCODER, tmp_path / "half.onnx")
    right = counted(cut_lengths(read(ENCODER)), ALL)
    ours = counted(cut_lengths(read(tmp_path / "half.onnx")), ALL)
    assert len(miscounted(right, ours, ALL)) == 0


def test_what_a_cpu_hides_is_seen() -> None:
    """All Casts rewritten: a CPU folds the float16 away and counts right, a device miscounts."""
    model = parser.parse_model(LENGTHS)
    spoilt = others.blanket(model)
    part, right = cut(spoilt), counted(cut(model), ALL)
    (output,) = part.graph.output
    output.type.tensor_type.elem_type = onnx.TensorProto.INT64
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (on_cpu,) = session.run([output.name], {"length": ALL})
    assert len(miscounted(right, {output.name: on_cpu}, ALL)) == 0
    wrong = miscounted(right, counted(part, ALL), ALL)
    assert len(wrong) > len(ALL) / 2
    assert wrong[0] == 1025  # (1025 + 0.5) / 2: float16 has no halves there


@pytest.mark.parametrize("name", ["usual recipe", "blanket casts", "ONNX Runtime's"])
def test_other_peoples_conversions_are_caught(name: str) -> None:
    right = counted(cut_lengths(read(ENCODER)), ALL)
    part = cut(others.ALL[name](onnx.load(ENCODER)))
    try:
        assert len(miscounted(right, counted(part, ALL), ALL)) > 0
    except CountingError as error:
        assert "float16" in str(error)


def test_lengths_that_depend_on_more_cannot_be_cut() -> None:
    model = parser.parse_model(LENGTHS_IN_A_BRANCH)
    model.graph.output[1].name = "encoded_lengths"
    model.graph.node[-2].output[0] = "encoded_lengths"
    assert cut_lengths(GraphFile(model, {})) is None


def test_a_value_that_is_gone_is_a_difference() -> None:
    right = counted(cut(parser.parse_model(LENGTHS)), ALL)
    np.testing.assert_array_equal(miscounted(right, {}, ALL), ALL)
