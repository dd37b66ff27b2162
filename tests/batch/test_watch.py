"""Recordings that arrive: handed on once, when whole, however they came; and `--watch`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stt.batch.folder import Arrivals
from stt.cli import main
from support.paths import CLIPS as FOLDER
from support.paths import DIGITS

CLIPS = sorted(FOLDER.glob("*.flac"))


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


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Two recordings in `in`, one of them in a folder."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(CLIPS[0], tmp_path / "in" / "a.flac")
    shutil.copy(CLIPS[1], tmp_path / "in" / "deep" / "b.flac")
    return tmp_path


class Watching:
    """The command, waiting for recordings."""

    def __init__(self, here: Path, *more: str) -> None:
        self.here = here
        command = [sys.executable, "-m", "stt", "transcribe", "in", "--recursive"]
        self.errors = here / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "-m", str(DIGITS), "-o", "out", "--watch", *more],
                cwd=here,
                stderr=errors,
            )

    def wait_for(self, name: str, seconds: float = 40.0) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (self.here / "out" / name).exists():
                return (self.here / "out" / name).read_text()
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.1)
        raise AssertionError(f"{name} did not come")

    def wait_until_told(self, line: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while line not in self.errors.read_text():
            assert time.monotonic() < deadline, self.errors.read_text()
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.1)

    def stop(self) -> str:
        time.sleep(0.5)  # the result is there a moment before it is told
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)
        err = self.errors.read_text()
        assert self.process.returncode == 0, err
        return err


@pytest.fixture
def watching(here: Path) -> Iterator[Callable[..., Watching]]:
    if os.name != "posix":
        pytest.skip("sends a POSIX signal")
    begun: list[Watching] = []

    def begin(*more: str) -> Watching:
        begun.append(Watching(here, *more))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()


@pytest.mark.e2e
@pytest.mark.slow
def test_new_recordings_are_done_as_they_arrive(
    here: Path, watching: Callable[..., Watching]
) -> None:
    shutil.rmtree(here / "in" / "deep")
    main(["transcribe", str(CLIPS[1]), "-m", str(DIGITS), "-o", str(here / "whole")])
    (whole,) = (path.read_text() for path in (here / "whole").glob("*.txt"))
    watch = watching()
    expected = watch.wait_for("a.txt")
    data = CLIPS[1].read_bytes()
    with (here / "in" / "slow.flac").open("wb") as file:  # it grows for five seconds
        for begin in range(0, len(data), len(data) // 5 + 1):
            file.write(data[begin : begin + len(data) // 5 + 1])
            file.flush()
            time.sleep(1)
    (here / "in" / "part.tmp").write_bytes(CLIPS[0].read_bytes())
    (here / "in" / "part.tmp").rename(here / "in" / "copy.flac")
    assert watch.wait_for("slow.txt") == whole
    assert watch.wait_for("copy.txt") == expected
    err = watch.stop()
    assert "2 done, 1 copied, 0 failed" in err
    assert "the same recording as a" in err
    assert "cut short" not in err


@pytest.mark.e2e
@pytest.mark.slow
def test_a_watched_folder_empties_into_another(
    here: Path, watching: Callable[..., Watching]
) -> None:
    watch = watching("--move-done", "in/done")
    watch.wait_for("a.txt")
    watch.wait_for("deep/b.txt")
    deadline = time.monotonic() + 10
    while not (here / "in" / "done" / "deep" / "b.flac").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (here / "in" / "done" / "a.flac").exists()
    time.sleep(5)  # what lies in the folder of those that are done is not taken again
    err = watch.stop()
    assert "2 done, 0 failed" in err


@pytest.mark.e2e
def test_an_empty_folder_is_watched_in_peace(here: Path, watching: Callable[..., Watching]) -> None:
    shutil.rmtree(here / "in")
    (here / "in").mkdir()
    watch = watching()
    watch.wait_until_told("watching for recordings; Ctrl-C ends")
    time.sleep(2)  # it looks into the folder
    err = watch.stop()
    assert "watching for recordings; Ctrl-C ends" in err
    assert "no recordings" not in err
    assert "stopped watching; 0 done, 0 failed" in err
