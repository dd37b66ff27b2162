"""Attention written tighter: the same frames, on both sides of what is known of positions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stt.convert import attention
from stt.convert.attention import fuse_relative_attention, precompute_positions, tune
from stt.convert.model_file import read, write
from support import graphs
from support.paths import DIGITS

RNG = np.random.default_rng(5)
ENCODER = DIGITS / "encoder-model.onnx"
FRAMES = 60
"""Encoder frames whose positions are constants here: in the program 400, where audio is long."""
LIMIT = FRAMES * 8
"""Feature frames of the longest audio that takes them."""


@pytest.fixture(scope="module", autouse=True)
def few_frames() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "FRAMES", FRAMES)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits encoder, its weights beside it as Parakeet's are, and its tuned form."""
    place = tmp_path_factory.mktemp("tuned")
    for name in ("encoder-model.onnx", "encoder-model.onnx.data"):
        shutil.copy(DIGITS / name, place)
    assert tune(place / "encoder-model.onnx", place / "tuned.onnx") == 4
    file = read(ENCODER)
    assert fuse_relative_attention(file) == 4
    write(place / "fused.onnx", file.model, file.weights.values())
    return place


def frames(path: Path, audio: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    feed = {"audio_signal": audio, "length": np.array(lengths, np.int64)}
    found, counts = graphs.outputs(path, feed)
    assert counts.tolist() == [(length + 7) // 8 for length in lengths]
    return [row[:, :count] for row, count in zip(found, counts, strict=True)]


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (30, [30]),
        (301, [300]),
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
    expected = frames(ENCODER, audio, lengths)
    for name in ("tuned.onnx", "fused.onnx"):
        for one, other in zip(frames(folder / name, audio, lengths), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_it_shares_the_weights(folder: Path) -> None:
    shared = read(folder / "tuned.onnx").weights
    beside = [w for w in shared.values() if w.place and w.place[0].name.endswith(".onnx.data")]
    assert sum(weight.nbytes for weight in beside) > 0.9 * (
        (folder / "encoder-model.onnx.data").stat().st_size
    )
    assert len([w for w in shared.values() if w.name.endswith("/positions")]) == 4
    own = sum(w.nbytes for w in shared.values() if w not in beside)
    assert (folder / "tuned.onnx").stat().st_size < ENCODER.stat().st_size + own + 100_000


def test_weights_inside_the_file_are_copied(tmp_path: Path) -> None:
    file = read(ENCODER)
    write(tmp_path / "whole.onnx", file.model, file.weights.values())
    assert not (tmp_path / "whole.onnx.data").exists()
    assert tune(tmp_path / "whole.onnx", tmp_path / "tuned.onnx") == 4
    (tmp_path / "whole.onnx").unlink()
    audio = RNG.standard_normal((1, 128, 100)).astype(np.float32)
    expected, ours = (frames(path, audio, [100])[0] for path in (ENCODER, tmp_path / "tuned.onnx"))
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_another_graph_stays_and_nothing_is_written(tmp_path: Path) -> None:
    assert tune(DIGITS / "decoder_joint-model.onnx", tmp_path / "tuned.onnx") == 0
    assert not list(tmp_path.iterdir())


def test_positions_need_the_rewritten_attention() -> None:
    assert precompute_positions(read(ENCODER)) == 0


def test_a_table_shorter_than_the_constants_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "FRAMES", 100_000)
    file = read(ENCODER)
    fuse_relative_attention(file)
    before = file.model.SerializeToString()
    assert precompute_positions(file) == 0
    assert file.model.SerializeToString() == before


def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    old, names = (folder / "tuned.onnx").read_bytes(), set(folder.iterdir())
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        tune(folder / "encoder-model.onnx", folder / "tuned.onnx")
    assert (folder / "tuned.onnx").read_bytes() == old
    assert set(folder.iterdir()) == names
