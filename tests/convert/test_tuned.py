"""FP32 written tighter: the same frames, at lengths on both sides of what is known beforehand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stt.convert import attention
from stt.convert.attention import fuse_relative_attention, precompute_positions, tune
from stt.convert.model_file import read, write
from support.paths import DIGITS

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits encoder, its weights beside it as Parakeet's are, and its tuned form."""
    place = tmp_path_factory.mktemp("tuned")
    for name in ("encoder-model.onnx", "encoder-model.onnx.data"):
        shutil.copy(DIGITS / name, place)
    assert tune(place / "encoder-model.onnx", place / "tuned.onnx") == 4
    return place


def frames(path: Path, audio: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"audio_signal": audio, "length": np.array(lengths, np.int64)}
    found, counts = session.run(["outputs", "encoded_lengths"], feed)
    return [row[:, :count] for row, count in zip(found, counts, strict=True)]


LIMIT = attention.FRAMES * 8
"""Feature frames of the longest audio that takes the constants."""


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (30, [30]),
        (801, [795]),
        (200, [200, 90, 41]),
        (LIMIT - 8, [LIMIT - 8]),
        (LIMIT, [LIMIT]),
        (LIMIT + 1, [LIMIT + 1]),
        (LIMIT + 900, [LIMIT + 850, 300]),
    ],
)
def test_the_same_frames_come_out(folder: Path, size: int, lengths: list[int]) -> None:
    audio = RNG.standard_normal((len(lengths), 128, size)).astype(np.float32)
    expected = frames(folder / "encoder-model.onnx", audio, lengths)
    ours = frames(folder / "tuned.onnx", audio, lengths)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_it_shares_the_weights(folder: Path) -> None:
    shared = read(folder / "tuned.onnx").weights
    beside = [w for w in shared.values() if w.place and w.place[0].name.endswith(".onnx.data")]
    assert sum(weight.nbytes for weight in beside) > 0.9 * (
        (folder / "encoder-model.onnx.data").stat().st_size
    )
    known = [w for w in shared.values() if w.name.endswith("/positions")]
    assert len(known) == 4
    own = sum(w.nbytes for w in shared.values() if w not in beside)
    graph = (folder / "encoder-model.onnx").stat().st_size
    assert (folder / "tuned.onnx").stat().st_size < graph + own + 100_000


def test_weights_inside_the_file_are_copied(tmp_path: Path) -> None:
    file = read(DIGITS / "encoder-model.onnx")
    write(tmp_path / "whole.onnx", file.model, file.weights.values())
    assert not (tmp_path / "whole.onnx.data").exists()
    assert tune(tmp_path / "whole.onnx", tmp_path / "tuned.onnx") == 4
    (tmp_path / "whole.onnx").rename(tmp_path / "gone.onnx")
    audio = RNG.standard_normal((1, 128, 300)).astype(np.float32)
    (expected,) = frames(tmp_path / "gone.onnx", audio, [300])
    (ours,) = frames(tmp_path / "tuned.onnx", audio, [300])
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_another_graph_stays_and_nothing_is_written(tmp_path: Path) -> None:
    assert tune(DIGITS / "decoder_joint-model.onnx", tmp_path / "tuned.onnx") == 0
    assert not list(tmp_path.iterdir())


def test_positions_need_the_rewritten_attention() -> None:
    file = read(DIGITS / "encoder-model.onnx")
    assert precompute_positions(file) == 0


def test_a_table_shorter_than_the_constants_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "FRAMES", 100_000)
    file = read(DIGITS / "encoder-model.onnx")
    fuse_relative_attention(file)
    before = file.model.SerializeToString()
    assert precompute_positions(file) == 0
    assert file.model.SerializeToString() == before


def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    old = (folder / "tuned.onnx").read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        tune(folder / "encoder-model.onnx", folder / "tuned.onnx")
    assert (folder / "tuned.onnx").read_bytes() == old
    assert {path.name for path in folder.iterdir()} == {
        "encoder-model.onnx",
        "encoder-model.onnx.data",
        "tuned.onnx",
    }
