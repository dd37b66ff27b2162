"""`--exec`: a command of the user's for each text, one after the other, beside recognition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType

from stt.events import Event, Final
from stt.text.subtitles import one_line

_PATIENCE_S = 10.0
"""Seconds that a command may go on when the session has ended."""


class Commands:
    """Runs a shell command with each text on its standard input; a context manager.

    At the end it waits for what is still to do, but no longer than 10 s for the command running.
    """

    def __init__(
        self, command: str, note: Callable[[str], None], failed: Callable[[str], None]
    ) -> None:
        """`note` is told, line by line, what the command prints; `failed` what goes wrong."""
        self._command, self._note, self._failed = command, note, failed
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._running: subprocess.Popen[str] | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name="exec", daemon=True)

    def __enter__(self) -> Commands:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
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
