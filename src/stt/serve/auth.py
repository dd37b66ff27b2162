"""Who may ask: a key in the header, or as a subprotocol of a WebSocket."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.requests import HTTPConnection

SUBPROTOCOL = "openai-insecure-api-key."
"""Before the key, in a browser's WebSocket, which can set no header."""


def may_ask(connection: HTTPConnection, key: str | None) -> bool:
    """Whether a request, or a socket before it is accepted, knows the key; None: all do."""
    if key is None:
        return True
    return any(hmac.compare_digest(given.encode(), key.encode()) for given in _given(connection))


def _given(connection: HTTPConnection) -> Iterable[str]:
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    for name in connection.headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith(SUBPROTOCOL):
            yield name.strip().removeprefix(SUBPROTOCOL)
