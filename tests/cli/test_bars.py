"""Bars on a real terminal: gone before a result is printed, and moving while work goes on."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from support.paths import DIGITS

CLIPS = DIGITS / "clips"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def shown(script: str) -> str:
    """What a Python script writes to a terminal of 80 columns."""
    import pty

    written = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 1024)
        written.extend(data)
        return data

    begin = "import os; os.environ.update(COLUMNS='80', LINES='24', TERM='xterm')\n"
    status = pty.spawn([sys.executable, "-c", begin + script], read)
    assert os.waitstatus_to_exitcode(status) == 0, written.decode()
    return written.decode()


def stt(*arguments: object) -> str:
    """The script that runs a command line."""
    return f"from stt.cli import main; raise SystemExit(main({[str(a) for a in arguments]!r}))"


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
def test_no_bar_stays_beside_a_result(how: list[str]) -> None:
    recordings = sorted(CLIPS.glob("*.flac"))[: 1 if "json" in how else 3]
    written = shown(stt("transcribe", "-m", DIGITS, *how, *recordings))
    assert "━" in written, "there was a bar"
    left = lines(written)
    assert not [line for line in left if "━" in line or "%" in line]
    assert sum(line.startswith("==> ") for line in left) == (len(recordings) > 1) * 3


_CHECKS = """
import stt.install.verify as verify
from stt.install import starter
from stt.install import starter_precisions

def found(result):
    def check(folder, events, **_):
        events.progress("proving", 1, 4)
        return result
    return check

verify.check, verify.check_quickly = found([]), found(([], "it hears"))
starter_precisions.check = found([])
starter.verify_starter = lambda _: None
"""


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (("m", "--check"), "m: every file is as it was installed"),
        (("m", "--check", "--quick"), "m: every file is as it was installed; it hears"),
        (("starter", "--check"), "starter: every file is as it was made"),
    ],
)
def test_no_bar_of_set_up_stays_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], last: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written = shown(_CHECKS + stt("setup", *arguments))
    assert "proving" in written
    assert [line for line in lines(written) if line] == [last]


_SLOWLY = """
import time
from types import SimpleNamespace
from stt.pipeline import Step
from stt.transcript import Segment

some = Segment(0.0, 20.0, "a", 0.9)
def work(on_step):
    on_step(Step(0.3), 43.0)
    time.sleep(2.3)
    on_step(Step(20.0, (some,)), 43.0)
    time.sleep(1.4)
"""
_ONE = """
from stt.cli.progress import RecordingProgress
with RecordingProgress("talk.wav", quiet=False) as progress:
    work(progress.on_step)
"""
_MANY = """
from stt.cli.folder import FolderProgress
from stt.cli.summary import Tally
jobs = [SimpleNamespace(source=name) for name in "ab"]
with FolderProgress(jobs, Tally(), quiet=False) as progress:
    work(lambda step, duration: progress.on_step("a", step, duration))
"""


def test_a_bar_moves_before_anything_is_decoded() -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", shown(_SLOWLY + _ONE))
    before, _, after = written.partition("0:20 of 0:43")
    assert "0:00 of 0:43, 0:01 so far" in before
    assert "0:00 of 0:43, 0:02 so far" in before
    assert before.count("%") == 1, "none is known; the bar swings"
    left = re.findall(r"47% 0:20 of 0:43, \d\.\dx, 0:0(\d) left", f"47% 0:20 of 0:43{after}")
    assert len(set(left)) > 1, "it counts down"
    assert left == sorted(left, reverse=True)


def test_a_bar_of_many_moves_before_anything_is_decoded() -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", shown(_SLOWLY + _MANY))
    before, _, after = written.partition("%")
    assert "0 of 2 done, 0:01 so far" in before
    assert "0 of 2 done, 0:02 so far" in before
    assert "0:20 of audio" in after
