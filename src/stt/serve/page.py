"""The page at `/`: files of the package, and what a browser may do with them."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


@cache
def _read(name: str) -> tuple[bytes, str, str]:
    """Return a file, its type and its tag; one of the package's, whatever is asked for.

    Raises:
        KeyError: there is none of this name.
    """
    found = {one.name: one for one in files("stt.serve").joinpath("page").iterdir()}
    content = found[name].read_bytes()
    kind = _TYPES[f".{name.rpartition('.')[2]}"]
    return content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"'


async def page(request: Request) -> Response:
    """Give one of the page's files; a browser asks each time whether it is still the same."""
    try:
        content, kind, tag = _read(request.path_params.get("name", "index.html"))
    except KeyError as error:
        raise HTTPException(404) from error
    headers = {"etag": tag, "cache-control": "no-cache", **_security(request)}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _security(request: Request) -> dict[str, str]:
    """Nothing but what is the page's own, and no page around it.

    Its WebSocket is named by the host that the browser asked for: older Safari does not take 'self'
    for it (W3C Content Security Policy 3, 6.7.2.8).
    """
    host = request.headers.get("host", "")
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "media-src": "blob:",
        "connect-src": f"'self'{sockets}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    }


ROUTES = [Route("/", page), Route("/page/{name}", page)]
