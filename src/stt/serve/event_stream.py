"""An answer of server-sent events, begun with the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType

from starlette.types import Send

from stt.serve.metrics import Metrics
from stt.serve.problems import Problem, ending, problem_of
from stt.serve.stream_events import KEEP_ALIVE, error_event


class EventStream:
    """Where its block fails before the first event, the request does; later, an event says so."""

    def __init__(
        self, send: Send, metrics: Metrics, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        """`headers` is asked when the answer begins."""
        self._send, self._metrics, self._headers = send, metrics, headers
        self._started = False

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        if error is not None and not self._started:
            return False
        if error is not None:
            problem = _problem(error)
            self._metrics.failed(problem)
            await self.send(error_event(problem))
        await self._send({"type": "http.response.body", "body": b""})
        return isinstance(error, Exception)

    async def send(self, data: bytes) -> None:
        """Send events as they are; none do not begin the answer."""
        if not data:
            return
        if not self._started:
            self._started = True
            headers = {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",  # nginx would hold them back
                **self._headers(),
            }
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def keep_alive(self) -> None:
        """Show that the connection lives."""
        await self.send(KEEP_ALIVE)


def _problem(error: BaseException) -> Problem:
    """Return what is told; who is cancelled has nobody who listens, or the server ends."""
    if isinstance(error, asyncio.CancelledError):
        return ending()
    return problem_of(error) if isinstance(error, Exception) else ending()
