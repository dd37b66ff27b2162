"""An encoder without convolutions, against the one it was made of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from stt.convert import fp16
from stt.convert.cuda import write_for_cuda
from support import graphs
from support.paths import DIGITS

LENGTHS = (1, 8, 9, 30, 77, 400, 1025, 4000)
"""Feature frames: 0.01 to 40 s, which is all that the tests' model takes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    for name in ("encoder-model.onnx", "encoder-model.onnx.data"):
        shutil.copy(DIGITS / name, folder)
    fp16.convert(folder / "encoder-model.onnx", folder / "encoder-model.fp16.onnx")
    return folder


def both(folder: Path, precision: str) -> tuple[InferenceSession, InferenceSession]:
    source = folder / f"encoder-model{precision}.onnx"
    target = folder / f"encoder-model{precision}.cuda.onnx"
    assert write_for_cuda(source, target) == 0
    nodes = onnx.load(target, load_external_data=False).graph.node
    assert not [node.name for node in nodes if node.op_type == "Conv"]
    return graphs.session(source), graphs.session(target)


def run(session: InferenceSession, lengths: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(sum(lengths))
    features = np.zeros((len(lengths), session.get_inputs()[0].shape[1], max(lengths)), np.float32)
    for row, length in zip(features, lengths, strict=True):
        row[:, :length] = rng.standard_normal((len(row), length))
    return session.run(None, {"audio_signal": features, "length": np.array(lengths, np.int64)})


@pytest.mark.parametrize(("precision", "within"), [("", 1e-5), (".fp16", 1e-2)])
def test_it_gives_the_same_at_every_length_and_in_mixed_batches(
    folder: Path, precision: str, within: float
) -> None:
    before, after = both(folder, precision)
    for lengths in (*((n,) for n in LENGTHS), (400, 77), (30, 1025, 9), (1025,) * 3):
        (expected, told), (found, same) = run(before, lengths), run(after, lengths)
        np.testing.assert_array_equal(told, same)
        assert found.shape == expected.shape
        for row, other, length in zip(found, expected, told, strict=True):
            scale = np.abs(other[:, :length]).max(initial=1e-6)
            assert np.abs(row - other)[:, :length].max(initial=0) <= within * scale


def test_other_convolutions_stay(folder: Path) -> None:
    model = onnx.load(folder / "encoder-model.onnx")
    node = next(n for n in model.graph.node if "depthwise_conv/Conv" in n.name)
    next(a for a in node.attribute if a.name == "dilations").ints[:] = [2]
    pad = next(n for n in model.graph.node if node.input[0] in n.output)
    source = folder / "dilated.onnx"
    onnx.save(model, source)
    assert pad.op_type == "Pad"
    assert write_for_cuda(source, folder / "dilated.cuda.onnx") == 1
    assert not (folder / "dilated.cuda.onnx").exists()
