"""How long set-up will go on: what is left of each kind of work, at the rates measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_USUAL = {"read": 1.0, "convert": 4.0, "load": 2.0, "speech": 0.06, "decode": 0.1}
"""Seconds for a unit of work before any was measured, on two cores: a gigabyte hashed, converted or
loaded, a second of speech encoded for each gigabyte of FP32, a second of speech decoded."""

Work = Mapping[str, float]
"""Kind of work -> units of it, see `_USUAL`."""


class TimeLeft:
    """An estimate that follows the machine."""

    def __init__(
        self, tell: Callable[[float], None], known: Mapping[str, float] | None = None
    ) -> None:
        """Begin with no plan.

        Args:
            tell: called with the seconds left whenever they are known better.
            known: kind of work -> seconds for a unit, as an earlier run measured it here.
        """
        self._tell, self._known = tell, {**_USUAL, **(known or {})}
        self._left: dict[str, float] = {}
        self._done: dict[str, tuple[float, float]] = {}

    @property
    def seconds(self) -> float:
        """Seconds left of what is planned."""
        return sum(units * self._rate(kind) for kind, units in self._left.items())

    def rounded(self) -> str:
        """The seconds left for people, rounded as a guess is: 40 s, 3 min."""
        seconds = self.seconds
        if seconds < 90:
            return f"{max(10 * round(seconds / 10), 5)} s"
        return f"{round(seconds / 60)} min"

    @property
    def rates(self) -> dict[str, float]:
        """Kind of work -> seconds for a unit, of what was measured in this run."""
        return {kind: self._rate(kind) for kind, (units, _) in self._done.items() if units}

    def plan(self, *works: Work) -> None:
        """Set what is left to do, in the place of an older plan."""
        self._left = {}
        for work in works:
            for kind, units in work.items():
                self._left[kind] = self._left.get(kind, 0.0) + units
        self._tell(self.seconds)

    def did(self, kind: str, units: float, seconds: float) -> None:
        """Note work that has been done, and the seconds it took."""
        before = self._done.get(kind, (0.0, 0.0))
        self._done[kind] = (before[0] + units, before[1] + seconds)
        self.passed({kind: units})

    def passed(self, work: Work) -> None:
        """Note work that is over, whose time says nothing of a rate."""
        for kind, units in work.items():
            self._left[kind] = max(self._left.get(kind, 0.0) - units, 0.0)
        self._tell(self.seconds)

    @contextmanager
    def doing(self, kind: str, units: float) -> Iterator[None]:
        """Measure work while it is done."""
        began = time.monotonic()
        yield
        self.did(kind, units, time.monotonic() - began)

    def _rate(self, kind: str) -> float:
        units, seconds = self._done.get(kind, (0.0, 0.0))
        return seconds / units if units else self._known[kind]
