"""The web application: which address is answered by what."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from stt.errors import SttError
from stt.serve import health, model_routes, page, realtime, transcriptions
from stt.serve.auth import Gate
from stt.serve.exchange import Exchange
from stt.serve.options import ServeOptions
from stt.serve.problems import Problem, problem_of
from stt.serve.service import Service, service_of


def application(service: Service) -> Starlette:
    """Return what answers requests."""
    app = Starlette(
        routes=_routes(),
        middleware=_middleware(service.options),
        exception_handlers=dict.fromkeys((Problem, HTTPException, SttError), _answered),
    )
    app.state.service = service
    return app


def _routes() -> list[BaseRoute]:
    return [
        *health.ROUTES,
        *model_routes.ROUTES,
        *transcriptions.ROUTES,
        *realtime.ROUTES,
        *page.ROUTES,
    ]


def _middleware(options: ServeOptions) -> list[Middleware]:
    """Outermost first: a refusal has a number, and pages may read it."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(options.origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    return [
        Middleware(Exchange),
        *([cors] if options.origins else []),
        Middleware(Gate, options.api_key, options.origins),
    ]


async def _answered(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    service_of(request).metrics.failed(problem)
    return problem.response()
