"""How the server is: `/health`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stt.serve.auth import may_ask
from stt.serve.service import service_of
from stt.system.packages import stt_version


async def health(request: Request) -> Response:
    """Tell how the server is."""
    service = service_of(request)
    engine, key = service.engine, service.options.api_key
    told: dict[str, object] = {"status": engine.state, "api_key_required": key is not None}
    if may_ask(request, key) and engine.served is not None:
        told |= {"model": engine.served.model, "version": stt_version()}
    return JSONResponse(told)


ROUTES = [Route("/health", health)]
