"""Float16 as storage and float16 as arithmetic are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stt.convert.element_types import FLOAT, FLOAT16, infer
from stt.convert.fp16 import convert, to_fp16, widened
from stt.convert.model_file import GraphFile, read
from stt.errors import ModelError

ROWS = np.random.default_rng(5).normal(size=(40, 32)).astype(np.float16)
"""2,560 bytes: large enough to lie outside the graph as it is read."""


def stored_in_half(*, adds_in_half: bool = False) -> onnx.ModelProto:
    """An embedding kept in float16: ids -> rows -> float -> twice of them."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("Cast", ["rows"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "two"], ["doubled"]),
    ]
    if adds_in_half:
        nodes.insert(1, helper.make_node("Add", ["rows", "rows"], ["sum"]))
        nodes[2].input[0] = "sum"
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["n", 32])],
        [
            numpy_helper.from_array(ROWS, "table"),
            numpy_helper.from_array(np.array(2, np.float32), "two"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def stored(tmp_path: Path) -> GraphFile:
    onnx.save(stored_in_half(), tmp_path / "model.onnx")
    return read(tmp_path / "model.onnx")


def test_stored_float16_becomes_float32(stored: GraphFile) -> None:
    wide = widened(stored)
    assert FLOAT16 not in infer(wide).of.values()
    assert wide.weights["table"].elem_type == FLOAT
    loaded = wide.weights["table"].load()
    assert loaded.nbytes == wide.weights["table"].nbytes
    np.testing.assert_array_equal(loaded, ROWS.astype(np.float32))
    assert stored.weights["table"].elem_type == FLOAT16  # as it was


def test_arithmetic_in_float16_is_left_and_refused(tmp_path: Path) -> None:
    onnx.save(stored_in_half(adds_in_half=True), tmp_path / "model.onnx")
    file = read(tmp_path / "model.onnx")
    assert widened(file) is file
    with pytest.raises(ModelError, match="computes in float16 already"):
        to_fp16(file)


def test_a_graph_without_float16_comes_back_as_it_is(tmp_path: Path) -> None:
    model = stored_in_half()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(ROWS.astype(np.float32), "table"))
    onnx.save(model, tmp_path / "model.onnx")
    file = read(tmp_path / "model.onnx")
    assert widened(file) is file


def test_the_conversion_computes_in_float16_and_gives_the_same(tmp_path: Path) -> None:
    onnx.save(stored_in_half(), tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    types = infer(read(tmp_path / "model.fp16.onnx"))
    assert types.get("table") == FLOAT16
    found = [
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"ids": np.array([3, 0, 39])})[0]
        for name in ("model.onnx", "model.fp16.onnx")
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)
