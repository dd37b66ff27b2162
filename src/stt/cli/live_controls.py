"""What `stt live` is asked: what goes together, push-to-talk, and a command for each text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from stt.cli.outcomes import drop_stdout_if_closed, stdout_is_closed
from stt.cli.output import check_folder
from stt.errors import OutputError, UsageError
from stt.events import Event, Final, Problem
from stt.transcript import FORMAT_NAMES

if TYPE_CHECKING:
    from stt.audio.microphone import Block


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The options of one call."""

    device: str | None
    input_: Path | None
    fast: bool
    save: Path | None
    record: Path | None
    duration: float | None
    push_to_talk: bool
    plain: bool
    type_to: str | None
    command: str | None
    quiet: bool

    @property
    def lines(self) -> bool:
        """Whether text goes out line by line rather than on a screen."""
        return self.plain or self.type_to is not None or not sys.stdout.isatty()


def check(options: LiveOptions) -> None:
    """Refuse before anything is heard what could not be done after it."""
    _check_input(options)
    if stdout_is_closed() and options.save is None and options.command is None:
        raise OutputError("standard output is closed, so no text can be shown; add --save FILE")
    drop_stdout_if_closed()
    if options.push_to_talk and (sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError("--push-to-talk needs a terminal to press keys in")
    if options.save is None:
        return
    if options.save.suffix.lower().removeprefix(".") not in FORMAT_NAMES:
        raise UsageError(
            f"{options.save}: --save takes a name that ends in {', '.join(FORMAT_NAMES)}"
        )
    if options.save.exists():
        raise OutputError(f"{options.save}: is there already; give another name, or move it away")
    if not options.save.parent.is_dir():
        raise OutputError(
            f"{options.save}: the folder {options.save.parent} does not exist; make it first"
        )
    check_folder(options.save.parent, "--save")


def _check_input(options: LiveOptions) -> None:
    """Refuse what does not go with a recording, or without one, and a recording that is none."""
    from stt.audio.files import STDIN, check_there

    if options.input_ is None:
        if options.fast:
            raise UsageError("--fast goes with a recording: add --input FILE")
        return
    for option, given in {
        "--device": options.device is not None,
        "--record": options.record is not None,
        "--push-to-talk with --fast": options.push_to_talk and options.fast,
    }.items():
        if given:
            raise UsageError(f"{option} does not go with --input FILE, which is the sound; drop it")
    if str(options.input_) == STDIN:
        raise UsageError(
            "--input takes a file that ends; for sound that goes on make a virtual microphone, see "
            "docs/live.md"
        )
    check_there(options.input_)


KEY = " "
"""The key: space."""
_BEFORE_S = 0.3
"""Seconds heard before the key: people begin to speak as they press it."""
_ENDS_S = 0.9
"""Silence put behind what was said: more than the longest wait for an utterance to go on."""
_POLL_S = 0.1


class PushToTalk:
    """Whether the key is down. A terminal tells no release, only repeats while a key is held.

    A press that is repeated is a held key, and ends when the repeats do; one that is not is the
    first of two.
    """

    _FIRST_REPEAT_S = 0.7
    """Systems begin to repeat after a quarter to two thirds of a second."""
    _REPEATS_S = 0.2
    """Longest time between two repeats, at a rate of 5 a second or more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._on = self._held = False
        self._began = self._last = 0.0

    def press(self) -> None:
        """Take a press or a repeat of the key."""
        now = self._clock()
        if not self.on:
            self._on, self._held, self._began = True, False, now
        elif self._held or now - self._began < self._FIRST_REPEAT_S:
            self._held = True
        else:
            self._on = False
        self._last = now

    @property
    def on(self) -> bool:
        """Whether what is said now is to be heard."""
        if self._on and self._held and self._clock() - self._last > self._REPEATS_S:
            self._on = False
        return self._on


def while_talking(
    items: Iterable[Block | Problem], talk: PushToTalk, rate: int
) -> Iterator[Block | Problem]:
    """Pass on what is captured while the key is down, and silence behind it that ends the text.

    What is left out counts as lost, so that times stay those of the microphone.
    """
    import numpy as np

    from stt.audio.microphone import Block

    before: deque[Block] = deque()
    held_back = 0  # samples in `before`
    left_out = 0  # samples of the stream not passed on
    on = False
    for item in items:
        if isinstance(item, Problem):
            yield item
            continue
        was, on = on, talk.on
        if on and not was:
            for block in before:
                yield replace(block, lost=max(0, left_out + block.lost))
                left_out = min(0, left_out + block.lost)
            before.clear()
            held_back = 0
        if on:
            yield replace(item, lost=max(0, left_out + item.lost))
            left_out = min(0, left_out + item.lost)
            continue
        if was:
            ends = round(_ENDS_S * rate)
            yield Block(np.zeros(ends, np.float32), item.start_sample, at=item.at)
            left_out -= ends
        before.append(item)
        held_back += len(item.samples)
        while held_back - len(before[0].samples) >= _BEFORE_S * rate:
            old = before.popleft()
            held_back -= len(old.samples)
            left_out += old.lost + len(old.samples)


@contextmanager
def keys(pressed: Callable[[], None]) -> Iterator[None]:
    """Call `pressed` from a thread for each press or repeat of KEY; the terminal echoes nothing."""
    ended = threading.Event()
    watch = _watch_windows if sys.platform == "win32" else _watch_posix
    thread = threading.Thread(target=watch, args=(pressed, ended), name="keys", daemon=True)
    with _unbuffered():
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _unbuffered() -> Iterator[None]:
    """Let keys come one by one and unseen; Ctrl-C still interrupts."""
    if sys.platform == "win32":
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    mode = termios.tcgetattr(terminal)
    mode[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(terminal, termios.TCSADRAIN, mode)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _watch_posix(pressed: Callable[[], None], ended: threading.Event) -> None:
    import select

    terminal = sys.stdin.fileno()
    while not ended.is_set():
        if select.select([terminal], [], [], _POLL_S)[0]:
            read = os.read(terminal, 64)
            if not read:  # the terminal is gone
                return
            for _ in range(read.count(KEY.encode())):
                pressed()


def _watch_windows(pressed: Callable[[], None], ended: threading.Event) -> None:
    import msvcrt

    while not ended.wait(_POLL_S / 4):
        while msvcrt.kbhit():  # type: ignore[attr-defined,unused-ignore]
            if msvcrt.getwch() == KEY:  # type: ignore[attr-defined,unused-ignore]
                pressed()


_PATIENCE_S = 10.0
"""Seconds that a command may go on when the session has ended."""


class ExecHook:
    """Runs a shell command with each text on its standard input; a context manager.

    At the end it waits for what is still to do, but no longer than 10 s for the command running.
    """

    def __init__(
        self, command: str, note: Callable[[str], None], failed: Callable[[str], None]
    ) -> None:
        """`note` is given, line by line, what the command prints; `failed` what goes wrong."""
        self._command, self._note, self._failed = command, note, failed
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._running: subprocess.Popen[str] | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name="exec", daemon=True)

    def __enter__(self) -> ExecHook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._texts.put(None)
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            self._given_up = True
            left = self._texts.qsize()  # the end's mark stands for the one that is stopped
            self._failed(
                f"--exec: stopped after {_PATIENCE_S:g} s; {left} texts were not handed on"
            )
            self._kill()
            self._thread.join()

    def take(self, event: Event) -> None:
        """Have the command run with a final text, when those before are done."""
        from stt.text.subtitles import one_line

        if isinstance(event, Final) and event.text:
            self._texts.put(one_line(event.text))

    def _work(self) -> None:
        while (text := self._texts.get()) is not None and not self._given_up:
            try:
                self._one(text)
            except OSError as error:
                self._failed(f"--exec: {error.strerror or error}")

    def _one(self, text: str) -> None:
        # a session of its own: Ctrl-C is for stt, which lets the command finish
        process = subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._running = process
        printed, _ = process.communicate(f"{text}\n")
        for line in printed.splitlines():
            self._note(line)
        if process.returncode and not self._given_up:
            self._failed(f"--exec: the command ended with exit code {process.returncode}")

    def _kill(self) -> None:
        if self._running is None:
            return
        if sys.platform == "win32":
            self._running.kill()
        else:
            os.killpg(self._running.pid, signal.SIGKILL)
