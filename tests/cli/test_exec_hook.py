"""`--exec`: order, failures, and the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from stt.cli import live_controls
from stt.cli.live_controls import ExecHook
from stt.events import Final, State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's commands")


def final(text: str) -> Final:
    return Final(1, 0.0, 1.0, 1.0, 1.0, (), text, 0.1)


def test_texts_come_one_after_the_other_and_all_before_the_end(tmp_path: Path) -> None:
    got, notes = tmp_path / "got", list[str]()
    with ExecHook(f"sleep 0.05; cat >> {got}", notes.append, notes.append) as running:
        began = time.monotonic()
        for text in ["one", "two\nlines", "ünï"]:
            running.take(final(text))
        running.take(final(""))
        running.take(State(0.0, "listening"))
        assert time.monotonic() - began < 0.05, "recognition does not wait"
    assert got.read_text("utf-8") == "one\ntwo lines\nünï\n"
    assert notes == []


def test_output_and_failure_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    with ExecHook("cat; echo oops >&2; exit 7", notes.append, notes.append) as running:
        running.take(final("hello"))
    assert notes == ["hello", "oops", "--exec: the command ended with exit code 7"]


def test_a_command_that_hangs_is_stopped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_controls, "_PATIENCE_S", 0.3)
    notes: list[str] = []
    began = time.monotonic()
    with ExecHook("sleep 60", notes.append, notes.append) as running:
        running.take(final("one"))
        running.take(final("two"))
        time.sleep(0.1)
    assert time.monotonic() - began < 10
    assert notes == ["--exec: stopped after 0.3 s; 2 texts were not handed on"]
