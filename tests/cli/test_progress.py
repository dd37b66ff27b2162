"""Bars on a real terminal: gone before a result is printed, and moving while work goes on."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stt.cli import main
from stt.cli.folder import FolderProgress
from stt.cli.progress import RecordingProgress
from stt.cli.summary import Tally
from stt.install import prover, starter
from stt.pipeline import Step
from stt.transcript import Segment
from support.paths import DIGITS

Shown = Callable[[Callable[[], object]], str]
SPEED = 3

CLIPS = DIGITS / "clips"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Run something whose standard streams are a terminal of 80 columns; returns what it wrote."""
    import pty

    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)

    def show(work: Callable[[], object]) -> str:
        written = bytearray()
        screen, terminal = pty.openpty()

        def read() -> None:
            with suppress(OSError):  # the terminal was closed: that is all
                while data := os.read(screen, 1024):
                    written.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            with open(terminal, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
                with monkeypatch.context() as patched:
                    patched.setattr(sys, "stdout", stream)
                    patched.setattr(sys, "stderr", stream)
                    work()
                stream.flush()
        finally:
            reader.join()
            os.close(screen)
        return written.decode()

    return show


def stt(*arguments: object) -> Callable[[], None]:
    """What runs a command line."""

    def work() -> None:
        assert main([str(a) for a in arguments]) == 0

    return work


def lines(written: str) -> list[str]:
    """The lines that stay on the screen, which follows what rich uses: up, erase, return."""
    screen, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", written):
        if part == "\n":
            row, column = row + 1, 0
            screen += [""] * (row == len(screen))
        elif part == "\r":
            column = 0
        elif part.endswith("A"):
            row -= 1
        elif part == "\x1b[2K":
            screen[row] = ""
        elif not part.startswith("\x1b"):
            screen[row] = screen[row][:column].ljust(column) + part + screen[row][column + 1 :]
            column += 1
    return screen


@pytest.mark.parametrize("how", [["-f", "vtt"], ["--channel", "each"], ["-f", "json"]])
def test_no_bar_stays_beside_a_result(shown: Shown, how: list[str]) -> None:
    recordings = sorted(CLIPS.glob("*.flac"))[: 1 if "json" in how else 3]
    written = shown(stt("transcribe", "-m", DIGITS, *how, *recordings))
    assert "━" in written, "there was a bar"
    left = lines(written)
    assert not [line for line in left if "━" in line or "%" in line]
    assert sum(line.startswith("==> ") for line in left) == (len(recordings) > 1) * 3


def checked(result: object) -> Callable[..., object]:
    def check(folder: Path, events: Any, **_: object) -> object:
        events.progress("proving", 1, 4)
        return result

    return check


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (("m", "--check"), "m: every file is as it was installed"),
        (("m", "--check", "--quick"), "m: every file is as it was installed; it hears"),
        (("starter", "--check"), "starter: every file is as it was made"),
    ],
)
def test_no_bar_of_set_up_stays_either(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: Shown,
    arguments: tuple[str, ...],
    last: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prover, "check", checked([]))
    monkeypatch.setattr(prover, "check_quickly", checked(([], "it hears")))
    monkeypatch.setattr(starter, "check", checked([]))
    monkeypatch.setattr(starter, "verify_starter", lambda _: None)
    written = shown(stt("setup", *arguments))
    assert "proving" in written
    assert [line for line in lines(written) if line] == [last]


def work(on_step: Callable[[Step, float], None]) -> None:
    """A recording that takes its time, on a clock that goes three times as fast."""
    on_step(Step(0.3), 43.0)
    time.sleep(2.3 / SPEED)
    on_step(Step(20.0, (Segment(0.0, 20.0, "a", 0.9),)), 43.0)
    time.sleep(1.4 / SPEED)


def one() -> None:
    with RecordingProgress("talk.wav", quiet=False) as progress:
        work(progress.on_step)


def many() -> None:
    jobs: Any = [SimpleNamespace(source=name) for name in "ab"]
    with FolderProgress(jobs, Tally(), quiet=False) as progress:
        work(lambda step, duration: progress.on_step("a", step, duration))


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `time.monotonic` go SPEED times as fast, for what asks it by this name."""
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() * SPEED)


@pytest.mark.usefixtures("fast_clock")
def test_a_bar_moves_before_anything_is_decoded(shown: Shown) -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", shown(one))
    before, _, after = written.partition("0:20 of 0:43")
    assert "0:00 of 0:43, 0:01 so far" in before
    assert "0:00 of 0:43, 0:02 so far" in before
    assert before.count("%") == 1, "none is known; the bar swings"
    left = re.findall(r"47% 0:20 of 0:43, \d\.\dx, 0:0(\d) left", f"47% 0:20 of 0:43{after}")
    assert len(set(left)) > 1, "it counts down"
    assert left == sorted(left, reverse=True)


@pytest.mark.usefixtures("fast_clock")
def test_a_bar_of_many_moves_before_anything_is_decoded(shown: Shown) -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", shown(many))
    before, _, after = written.partition("%")
    assert "0 of 2 done, 0:01 so far" in before
    assert "0 of 2 done, 0:02 so far" in before
    assert "0:20 of audio" in after
