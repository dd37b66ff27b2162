"""Who may ask: a key in the header, or as a subprotocol of a WebSocket; pages that are let in."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from stt.serve.problems import Problem
from stt.serve.service import service_of

SUBPROTOCOL = "openai-insecure-api-key."
"""Before the key, in a browser's WebSocket, which can set no header."""


class Gate:
    """Lets in who knows the key, sockets before they are accepted; needed below /v1, for /metrics.

    Without a key too, pages of other hosts are let in only where they are named: to read an answer
    they need CORS, but to send a request, or open a socket, they would need nothing.
    """

    def __init__(self, app: ASGIApp, key: str | None, origins: tuple[str, ...]) -> None:
        self._app, self._key, self._origins = app, key, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        problem = None if scope["type"] == "lifespan" else self._refusal(HTTPConnection(scope))
        if problem is None:
            await self._app(scope, receive, send)
        else:
            service_of(HTTPConnection(scope)).metrics.failed(problem)
            await problem.response()(scope, receive, send)

    def _refusal(self, connection: HTTPConnection) -> Problem | None:
        path = connection.scope["path"]
        if not path.startswith("/v1/") and path != "/metrics":
            return None
        if foreign := _foreign_origin(connection, self._origins):
            return Problem(
                403,
                f"pages of {foreign} may not ask this server; --cors-origin lets them",
                code="origin_not_allowed",
            )
        if may_ask(connection, self._key):
            return None
        return Problem(
            401,
            "this server needs its key: `Authorization: Bearer KEY`",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def may_ask(connection: HTTPConnection, key: str | None) -> bool:
    """Whether a request, or a socket before it is accepted, knows the key; None: all do."""
    if key is None:
        return True
    given = (one.encode("latin-1") for one in _given(connection))  # as they came over the wire
    return any(hmac.compare_digest(one, key.encode()) for one in given)


def _given(connection: HTTPConnection) -> Iterable[str]:
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    for name in connection.headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith(SUBPROTOCOL):
            yield name.strip().removeprefix(SUBPROTOCOL)


def _foreign_origin(connection: HTTPConnection, allowed: tuple[str, ...]) -> str:
    """Return the host of a page that asks and may not; '' where no page asks, or it may."""
    origin = connection.headers.get("origin", "")
    if not origin or origin in allowed or "*" in allowed:
        return ""
    return "" if urlsplit(origin).netloc == connection.headers.get("host") else origin
