"""What must hold of graphs in which float16 and float32 meet."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx

from stt.convert import casts
from stt.convert.cast_rewriting import Settled
from stt.convert.element_types import conflicts
from support import graphs
from support.paths import DIGITS


def bytes_of(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def settles(settled: Settled) -> onnx.ModelProto:
    """Check what must hold of every result; returns the model."""
    model = settled.file.model
    assert conflicts(settled.file) == []
    again = casts.fix(settled.file)
    assert again.changes == ()
    assert bytes_of(again.file.model) == bytes_of(model)
    return model


def fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    before = bytes_of(model)
    settled = casts.fix(graphs.in_memory(model))
    assert bytes_of(model) == before
    return settles(settled)


def same(case: graphs.Case, want: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> None:
    """Integers equal, floats close; padding only finite."""
    assert list(want) == list(got)
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        if value.dtype.kind == "i":
            assert np.array_equal(value, got[name]), name
            continue
        assert np.isfinite(got[name]).all(), name
        rows = slice(case.rows)
        assert np.allclose(value[rows], got[name][rows], 0.002, case.tolerance), name


def nodes(model: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


def elem_types(model: onnx.ModelProto) -> dict[str, int]:
    """Declared types of inputs, outputs and initializers."""
    ends = [*model.graph.input, *model.graph.output]
    declared = {value.name: value.type.tensor_type.elem_type for value in ends}
    return declared | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@cache
def digits_encoder() -> onnx.ModelProto:
    return onnx.load(DIGITS / "encoder-model.onnx")


def in_runtime(loaded: object, seconds: float) -> list[np.ndarray]:
    """The encoder's outputs for noise."""
    frames = int(seconds * 100) + 1
    features = np.random.default_rng(6).standard_normal((1, 128, frames)).astype(np.float32)
    return loaded.run(None, {"audio_signal": features, "length": np.array([frames])})


session = cache(graphs.session)


@cache
def wanted(seconds: float) -> list[np.ndarray]:
    return in_runtime(session(DIGITS / "encoder-model.onnx"), seconds)


def encodes_alike(loaded: object, seconds: float) -> bool:
    """Whether a float16 form of the digits encoder gives what the float32 one gives."""
    (want, lengths), (got, others) = wanted(seconds), in_runtime(loaded, seconds)
    error = np.linalg.norm(want - got) / np.linalg.norm(want)
    return np.array_equal(lengths, others) and error < 0.01
