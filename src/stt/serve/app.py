"""The web application: which address is answered by what."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stt.serve.auth import may_ask
from stt.serve.service import Service, service_of
from stt.system.packages import stt_version


def application(service: Service) -> Starlette:
    """Return what answers requests."""
    middleware = []
    if service.options.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(service.options.origins),
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["*"],
            )
        )
    app = Starlette(routes=_routes(), middleware=middleware)
    app.state.service = service
    return app


def _routes() -> list[BaseRoute]:
    return [Route("/health", health)]


async def health(request: Request) -> Response:
    """Tell how the server is."""
    service = service_of(request)
    engine, key = service.engine, service.options.api_key
    told: dict[str, object] = {"status": engine.state, "api_key_required": key is not None}
    if may_ask(request, key) and engine.served is not None:
        told |= {"model": engine.served.model, "version": stt_version()}
    return JSONResponse(told)
