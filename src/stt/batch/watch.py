"""Recordings as they arrive in a folder: each is handed on when it has stopped growing.

Nothing is asked of the system but what a folder holds, so that network shares work too; and nothing
is made of a file's own times but whether they change, so that it does not matter whose clock set
them, nor in which order a file was made, written and renamed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

POLL_S = 1.0
"""Seconds from one look at the folder to the next."""
SETTLE_S = 3.0
"""Seconds for which a file must not have changed. A copy that stalls for longer is read too early,
fails as cut short, and is taken again when it goes on."""

Item = TypeVar("Item")
_Signature = tuple[int, int, int]
"""Size, time of change, and which file it is."""


class Arrivals:
    """Remembers what was there at the last look, and what was handed on."""

    def __init__(
        self, settle_s: float = SETTLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settle_s, self._clock = settle_s, clock
        self._seen: dict[str, tuple[_Signature, float]] = {}  # path -> what it was, since when
        self._handed: dict[str, _Signature] = {}

    def ready(self, items: Iterable[Item], path_of: Callable[[Item], str]) -> list[Item]:
        """Return those of what is there now that have settled and were not handed on like this."""
        now = self._clock()
        seen: dict[str, tuple[_Signature, float]] = {}
        settled = []
        for item in items:
            path = path_of(item)
            signature = _signature(path)
            if signature is None:
                continue
            before, since = self._seen.get(path, (signature, now))
            since = since if before == signature else now
            seen[path] = signature, since
            whole = signature[0] > 0 and now - since >= self._settle_s
            if whole and self._handed.get(path) != signature:
                self._handed[path] = signature
                settled.append(item)
        self._seen = seen  # what is gone is forgotten
        self._handed = {path: known for path, known in self._handed.items() if path in seen}
        return settled


def _signature(path: str) -> _Signature | None:
    """What tells one state of a file from another; None where it is gone, or is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - names that are no text
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
