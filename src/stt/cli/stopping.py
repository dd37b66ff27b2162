"""A request to end from the system (kill, a terminal that is closed) ends as Ctrl-C does.

Left alone, SIGTERM and SIGHUP end a program on the spot: temporary files stay, and nothing is told.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The system asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As shells give it: 143 for SIGTERM, 129 for SIGHUP."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped where the system asks to end; asked again, the program ends at once.

    A signal that is ignored (nohup) or dealt with elsewhere stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    found = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    ours = [n for n in found if n is not None and signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
