"""Push-to-talk, and `--exec`: order, failures, and the end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.microphone import Block
from stt.cli import live_controls
from stt.cli.live_controls import ExecHook, PushToTalk, keys, while_talking
from stt.events import Final, Problem, State

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell or terminal")
RATE = 1000
SIZE = 50


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_presses_begin_and_end() -> None:
    clock = Clock()
    talk = PushToTalk(clock)
    assert not talk.on
    talk.press()
    clock.now += 5
    assert talk.on
    talk.press()
    assert not talk.on


def test_a_held_key_ends_with_its_repeats() -> None:
    clock = Clock()
    talk = PushToTalk(clock)
    talk.press()
    clock.now += 0.5  # systems wait before they repeat
    for _ in range(40):
        talk.press()
        assert talk.on
        clock.now += 0.033
    clock.now += 0.3
    assert not talk.on
    talk.press()
    assert talk.on, "the next press begins anew"


class Scripted:
    """Stands in for PushToTalk: on in these blocks."""

    def __init__(self, states: list[bool]) -> None:
        self._states = iter(states)

    @property
    def on(self) -> bool:
        return next(self._states)


def stream(states: list[bool], lost: list[int]) -> list[Block]:
    blocks, at = [], 0
    for index, missing in zip(range(len(states)), lost, strict=True):
        at += missing
        blocks.append(Block(np.full(SIZE, index + 1, np.float32), at, missing))
        at += SIZE
    return blocks


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0, 0, 30, 5000])), max_size=80))
def test_what_is_said_keeps_its_time(script: list[tuple[bool, int]]) -> None:
    states = [on for on, _ in script]
    blocks = stream(states, [lost for _, lost in script])
    passed = list(while_talking(blocks, Scripted(states), RATE))  # type: ignore[arg-type]
    at, ahead, heard = 0, 0, []
    for block in passed:
        assert isinstance(block, Block)
        assert block.lost >= 0
        at += block.lost
        if block.samples.any():
            number = int(block.samples[0])
            heard.append(number)
            # at its own place, or later by at most the silences put behind what was said before
            assert 0 <= at - block.start_sample <= ahead
        else:
            ahead += len(block.samples)
        at += len(block.samples)
    assert heard == sorted(set(heard)), "in order, nothing twice"
    assert {index + 1 for index, on in enumerate(states) if on} <= set(heard)


def test_what_comes_just_before_the_key_is_heard_and_silence_follows() -> None:
    states = [False] * 20 + [True] * 4 + [False] * 20
    blocks = stream(states, [0] * len(states))
    passed = list(while_talking(blocks, Scripted(states), RATE))  # type: ignore[arg-type]
    numbers = [int(block.samples[0]) for block in passed if isinstance(block, Block)]
    before = round(0.3 * RATE / SIZE)
    assert numbers == [*range(21 - before, 25), 0]
    assert len(passed[-1].samples) == 900  # type: ignore[union-attr]
    assert passed[0].lost == (20 - before) * SIZE  # type: ignore[union-attr]


def test_problems_pass_always() -> None:
    problem = Problem(0.0, "device lost", "gone")
    assert list(while_talking([problem], PushToTalk(), RATE)) == [problem]


@POSIX
def test_keys_are_heard_one_by_one_and_the_terminal_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pty
    import termios

    control, terminal = pty.openpty()
    with open(terminal) as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(live_controls.sys, "stdin", stdin)
        before = termios.tcgetattr(terminal)
        pressed: list[float] = []
        with keys(lambda: pressed.append(time.monotonic())):
            assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON)
            os.write(control, b" x  ")
            deadline = time.monotonic() + 10
            while len(pressed) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert len(pressed) == 3
        assert termios.tcgetattr(terminal) == before
    os.close(control)


def final(text: str) -> Final:
    return Final(1, 0.0, 1.0, 1.0, 1.0, (), text, 0.1)


@POSIX
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


@POSIX
def test_output_and_failure_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    with ExecHook("cat; echo oops >&2; exit 7", notes.append, notes.append) as running:
        running.take(final("hello"))
    assert notes == ["hello", "oops", "--exec: the command ended with exit code 7"]


@POSIX
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
