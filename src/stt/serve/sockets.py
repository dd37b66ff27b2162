"""The connections that go on until somebody ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Sockets:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.count = 0
        """How many there are."""
        self._ending, self._none_left = asyncio.Event(), asyncio.Event()
        self._none_left.set()

    @contextmanager
    def one(self) -> Iterator[asyncio.Event]:
        """Count one while the block runs; the event is set when it is to finish what goes on."""
        self.count += 1
        self._none_left.clear()
        try:
            yield self._ending
        finally:
            self.count -= 1
            if not self.count:
                self._none_left.set()

    async def finish(self, within_s: float) -> None:
        """Have all of them finish, and wait for it, not longer than given."""
        self._ending.set()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._none_left.wait(), within_s)
