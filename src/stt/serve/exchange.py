"""Round every request: its number, an answer whatever happens, and what of it is not read."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stt.serve.problems import problem_of

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
        one = _One(Headers(scope=scope), receive, send)
        try:
            await self._app(scope, one.receive, one.send)
        except Exception as error:  # noqa: BLE001 - a bug: others are served on
            response = problem_of(error).response()
            if not one.began:
                await response(scope, one.receive, one.send)


class _One:
    def __init__(self, headers: Headers, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._number = f"req_{uuid.uuid4().hex}"
        self._has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self.began = False
        """Whether an answer has begun."""

    async def receive(self) -> Message:
        self._waits = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._has_body = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            MutableHeaders(scope=message)["x-request-id"] = self._number
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
