"""Calibration sets: collected from folders and LibriSpeech trees, saved, loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.convert.calibration import collect, load
from stt.errors import SttError


def tone(path: Path, seconds: float, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.05)
    soundfile.write(path, wave.astype(np.float32), rate)


def test_a_librispeech_tree_comes_with_its_texts(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech" / "train-clean-5" / "12" / "345"
    for number in range(3):
        tone(chapter / f"12-345-000{number}.flac", 1 + number)
    lines = ["12-345-0000 ONE WORD", "12-345-0002 THREE WORDS HERE"]
    (chapter / "12-345.trans.txt").write_text("\n".join(lines) + "\n", "utf-8")
    clips = collect(tmp_path / "LibriSpeech", tmp_path / "set.npz", longest=2.5)
    assert [clip.text for clip in clips] == ["ONE WORD", None, None]  # the last is cut: no text
    assert [clip.seconds for clip in clips] == [1, 2, 2.5]
    assert clips[0].source == "train-clean-5/12/345/12-345-0000.flac"


def test_saved_is_what_was_collected(tmp_path: Path) -> None:
    for number, rate in enumerate((8_000, 16_000, 44_100)):
        tone(tmp_path / "audio" / f"{number}.wav", 0.5, rate)
    collected = collect(tmp_path / "audio", tmp_path / "set.npz")
    loaded = load(tmp_path / "set.npz")
    assert [(c.source, c.text) for c in loaded] == [(c.source, c.text) for c in collected]
    for one, other in zip(loaded, collected, strict=True):
        assert one.samples.dtype == np.float32
        np.testing.assert_array_equal(one.samples, other.samples)
    assert not list(tmp_path.glob("*.partial"))


def test_takes_from_all_over_the_folder_and_stops(tmp_path: Path) -> None:
    for folder in "abcdefgh":
        for number in range(4):
            tone(tmp_path / folder / f"{number}.wav", 1)
    clips = collect(tmp_path, tmp_path / "set.npz", seconds=8)
    assert len(clips) == 8
    assert len({clip.source[0] for clip in clips}) >= 6


def test_damaged_recordings_are_passed_over(tmp_path: Path) -> None:
    tone(tmp_path / "good.wav", 1)
    (tmp_path / "bad.flac").write_bytes(b"fLaC" + bytes(40))
    assert [clip.source for clip in collect(tmp_path, tmp_path / "set.npz")] == ["good.wav"]


def test_nothing_to_collect_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SttError, match="no recording"):
        collect(tmp_path, tmp_path / "set.npz")
    with pytest.raises(SttError, match="no such folder"):
        collect(tmp_path / "nowhere", tmp_path / "set.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(SttError, match="not a calibration set"):
        load(path)
