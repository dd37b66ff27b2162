"""How the server is: `/health` for whoever watches it, `/metrics` for Prometheus."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stt.serve.auth import may_ask
from stt.serve.metrics import CONTENT_TYPE
from stt.serve.service import Service, service_of
from stt.system.packages import stt_version

STALLED_S = 120.0
"""Seconds without anything finished, though there is something to do, after which work stands
still: the longest utterance on a slow machine takes less."""


async def health(request: Request) -> Response:
    """Tell how the server is; 503 where a restart may help."""
    service = service_of(request)
    status = _status(service)
    told: dict[str, Any] = {"status": status, "api_key_required": bool(service.options.api_key)}
    if may_ask(request, service.options.api_key):
        told |= _details(service)
    return JSONResponse(told, 503 if status in ("stalled", "failed") else 200)


async def metrics(request: Request) -> Response:
    """Give Prometheus its numbers."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


def _status(service: Service) -> str:
    engine = service.engine
    if engine.still_s > STALLED_S:
        return "stalled"
    return engine.state if engine.state in ("loading", "failed") else "ok"


def _details(service: Service) -> dict[str, Any]:
    engine, options = service.engine, service.options
    served, speed = engine.served, service.speed
    choice = served.choice if served else None
    return {
        "model": served.model if served else None,
        "precision": choice.precision if choice else None,
        "provider": choice.provider if choice else None,
        "reason": choice.reason if choice else None,
        "language": served.language if served else None,
        "tells_words": served.tells_words if served else None,
        "version": stt_version(),
        "loaded": engine.state == "loaded",
        "waiting": engine.waiting,
        "waiting_audio_s": round(service.admission.waiting_s(), 3),
        "oldest_waiting_s": round(engine.oldest_s, 3),
        "still_s": round(engine.still_s, 3),
        "rtfx": round(speed, 2) if speed else None,
        "limits": {
            "upload_mb": options.max_upload_bytes / 1e6,
            "audio_h": options.max_audio_s / 3600,
            "queue_s": options.queue_s,
        },
    }


ROUTES = [Route("/health", health), Route("/metrics", metrics)]
