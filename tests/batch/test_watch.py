"""Recordings that arrive: handed on once, when whole, however they came."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stt.batch.folder import Arrivals


class Folder:
    """A folder and a clock that is moved by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.arrivals = Arrivals(settle_s=3.0, clock=lambda: self.now)

    def look(self, after: float = 1.0) -> list[str]:
        self.now += after
        paths = sorted(str(path) for path in self.root.iterdir())
        return [Path(path).name for path in self.arrivals.ready(paths, lambda path: path)]

    def write(self, name: str, size: int) -> Path:
        path = self.root / name
        path.write_bytes(bytes(size))
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_is_handed_on_once_when_it_has_settled(folder: Folder) -> None:
    folder.write("a.wav", 10)
    assert [folder.look() for _ in range(6)] == [[], [], [], ["a.wav"], [], []]


def test_a_growing_file_is_waited_for(folder: Folder) -> None:
    for size in range(10, 20):
        folder.write("a.wav", size)
        assert folder.look(2.0) == []
    assert folder.look(2.0) == []
    assert folder.look(2.0) == ["a.wav"]


def test_a_file_made_empty_and_filled_later(folder: Folder) -> None:
    folder.write("a.wav", 0)
    assert [folder.look(5.0) for _ in range(3)] == [[], [], []]
    folder.write("a.wav", 10)
    assert folder.look(5.0) == []
    assert folder.look(5.0) == ["a.wav"]


@pytest.mark.parametrize("when", [0, 4_000_000_000])
def test_a_renamed_file_and_times_of_another_clock(folder: Folder, when: int) -> None:
    path = folder.write("a.part", 10)
    os.utime(path, (when, when))
    folder.look(10.0)
    path.rename(folder.root / "a.wav")
    assert folder.look(1.0) == []
    assert folder.look(4.0) == ["a.wav"]


def test_a_file_whose_size_was_set_at_first(folder: Folder) -> None:
    """As copies to a network share do: the times tell that it is being written."""
    path = folder.write("a.wav", 1000)
    for second in range(5):
        os.utime(path, (second, second))
        assert folder.look(2.0) == []
    folder.look(2.0)
    assert folder.look(2.0) == ["a.wav"]


def test_what_changes_or_comes_again_is_handed_on_again(folder: Folder) -> None:
    path = folder.write("a.wav", 10)
    folder.look()
    assert folder.look(5.0) == ["a.wav"]
    folder.write("a.wav", 20)
    assert folder.look() == []
    assert folder.look(5.0) == ["a.wav"]
    path.unlink()
    assert folder.look(5.0) == []
    folder.write("a.wav", 20)
    assert folder.look() == []
    assert folder.look(5.0) == ["a.wav"]


def test_what_is_gone_leaves_nothing_behind(folder: Folder) -> None:
    for number in range(200):
        path = folder.write(f"{number}.wav", 10)
        folder.look(5.0)
        assert folder.look(5.0) == [f"{number}.wav"]
        path.unlink()
    folder.look()
    assert not folder.arrivals._seen
    assert not folder.arrivals._handed
