"""Round every request: its number, an answer whatever happens, and what of it is not read."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stt.serve.problems import LOG, Problem, ending, problem_of
from stt.serve.service import service_of

IN_WORK = "stt.recording"
"""Key of a scope: the name of the recording that is being transcribed."""
_LINGER_S, _LINGER_BYTES = 5.0, 64_000_000
"""How much more is read, and dropped, of an upload that is answered already: a client that still
sends would lose the answer if the connection were closed at once (RFC 9112, 9.6)."""


class Exchange:
    """One request or socket; put round all else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        one = _One(scope, receive, send)
        problem: Problem | None = None
        try:
            await self._app(scope, one.receive, one.send)
        except asyncio.CancelledError:  # the server ends, and this has taken longer than is allowed
            LOG.warning("cut: %s", scope.get(IN_WORK) or _line(scope))
            problem = ending()
        except Exception as error:  # noqa: BLE001 - a bug: others are served on
            problem = problem_of(error)
        metrics = service_of(HTTPConnection(scope)).metrics
        if problem is not None:
            metrics.failed(problem)
            if not one.status:
                await problem.response()(scope, one.receive, one.send)
        metrics.answered(scope["path"], one.status)


def _line(scope: Scope) -> str:
    """Return what was asked, on one line whatever the client wrote."""
    return f"{scope['method']} {scope['path']!a}"


class _One:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._number = f"req_{uuid.uuid4().hex}"
        self._scope, headers = scope, Headers(scope=scope)
        self._has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self.status = 0
        """Of the answer; 0 before it begins."""

    async def receive(self) -> Message:
        self._waits = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._has_body = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._number
            if self.status >= 500 and self._scope["path"] != "/health":
                LOG.warning("%s: %s: %d", self._number, _line(self._scope), self.status)
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends and self._has_body and not self._waits:
            await self._send({**message, "more_body": True})
            await self._drop_the_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drop_the_rest(self) -> None:
        until, dropped = time.monotonic() + _LINGER_S, 0
        with suppress(asyncio.TimeoutError):
            while self._has_body and dropped < _LINGER_BYTES:
                left = until - time.monotonic()
                dropped += len((await asyncio.wait_for(self.receive(), left)).get("body", b""))


async def until_left(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Do what a request wants, as long as its client is there; `receive` has nothing else to give.

    When this has returned or raised, `work` has ended.

    Raises:
        ClientDisconnect: the client left.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        await working
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
