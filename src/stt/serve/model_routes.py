"""`/v1/models`: what can be asked for, in OpenAI's form; one model answers to all names."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stt.serve.problems import Problem
from stt.serve.service import Service, service_of

ALIASES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
)
"""Names that clients have built in; the model that runs answers to them."""


async def models(request: Request) -> Response:
    """List the model that runs, and its aliases."""
    found = [_model(name, service_of(request)) for name in _names(service_of(request))]
    return JSONResponse({"object": "list", "data": found})


async def model(request: Request) -> Response:
    """Tell of one."""
    name = request.path_params["name"]
    if name not in _names(service_of(request)):
        raise Problem(
            404,
            f"the model {name!r} does not exist here; GET /v1/models lists those that do",
            code="model_not_found",
            param="model",
        )
    return JSONResponse(_model(name, service_of(request)))


def _names(service: Service) -> list[str]:
    served = service.engine.served
    return [*([served.model] if served else []), *ALIASES]


def _model(name: str, service: Service) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.began,
        "owned_by": "stt" if name not in ALIASES else "stt (alias)",
    }


ROUTES = [Route("/v1/models", models), Route("/v1/models/{name:path}", model)]
