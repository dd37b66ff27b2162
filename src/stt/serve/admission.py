"""Who is let in to wait: as many seconds of audio as are recognised within the time allowed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stt.serve.problems import Problem
from stt.serve.scheduler import Priority

_MEMORY_S = 60.0
"""Seconds at work over which the speed is measured: what is older counts half, and half again."""


class Ticket:
    """One recording that was let in."""

    def __init__(self, admission: Admission, priority: Priority, seconds: float) -> None:
        self._admission, self.priority, self._left = admission, priority, seconds
        self._heard = 0.0

    @property
    def left_s(self) -> float:
        """Seconds of audio that are still to be recognised, as far as is known."""
        return max(0.0, self._left - self._heard)

    def heard(self, seconds: float) -> None:
        """Note that so many seconds of it are done with."""
        self._admission.count(max(0.0, seconds - self._heard))
        self._heard = max(self._heard, seconds)


class Admission:
    """The queue, in seconds of audio; for any thread."""

    def __init__(self, queue_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`queue_s`: seconds that a recording may have to wait for those before it."""
        self._queue_s, self._clock = queue_s, clock
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._busy_s = self._done_s = 0.0  # of the last minutes, see _MEMORY_S
        self._looked = clock()

    @contextmanager
    def admitted(self, priority: Priority, seconds: float, speed: float) -> Iterator[Ticket]:
        """Let a recording of so many seconds in, for as long as it takes.

        Args:
            priority: that it will be recognised with.
            seconds: of audio that it has.
            speed: seconds of audio recognised in a second where none was measured yet.

        Raises:
            Problem: 429, what is before it takes longer than is allowed.
        """
        ticket = Ticket(self, priority, seconds)
        with self._lock:
            wait = self._waiting_s(priority) / self._speed(speed)
            if wait > self._queue_s:
                raise _too_busy(wait, self._queue_s)
            self._look()
            self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            with self._lock:
                self._look()
                self._tickets.discard(ticket)

    def waiting_s(self) -> float:
        """Seconds of audio that are let in and not yet recognised."""
        with self._lock:
            return self._waiting_s(max(Priority))

    def speed(self) -> float | None:
        """Seconds of audio recognised in a second of work; None: nothing was, yet."""
        with self._lock:
            self._look()
            return self._done_s / self._busy_s if self._done_s else None

    def count(self, seconds: float) -> None:
        """Note that so many seconds of audio were recognised."""
        with self._lock:
            self._look()
            self._done_s += seconds

    def _waiting_s(self, priority: Priority) -> float:
        return sum(one.left_s for one in self._tickets if one.priority <= priority)

    def _speed(self, otherwise: float) -> float:
        self._look()
        if self._busy_s < 1 or not self._done_s:
            return otherwise
        return self._done_s / self._busy_s

    def _look(self) -> None:
        """Account for the time since it was last looked: it counts where somebody waited."""
        now = self._clock()
        passed, self._looked = now - self._looked, now
        if self._tickets:
            fading = 0.5 ** (passed / _MEMORY_S)
            self._busy_s = self._busy_s * fading + passed
            self._done_s *= fading


def _too_busy(wait: float, allowed: float) -> Problem:
    return Problem(
        429,
        f"what waits here takes {wait:.0f} s, more than the {allowed:g} s allowed; try again later",
        code="rate_limit_exceeded",
        headers={"retry-after": str(max(1, math.ceil(wait - allowed)))},
    )
