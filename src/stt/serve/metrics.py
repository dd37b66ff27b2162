"""Numbers for Prometheus; each server has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from stt.serve.problems import Problem
from stt.serve.scheduler import Priority

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_ENDPOINTS = frozenset(
    {
        *("/", "/health", "/metrics", "/v1/models", "/v1/realtime"),
        *("/v1/audio/transcriptions", "/v1/audio/translations"),
    }
)


class Metrics:
    """What a server has done."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "stt_requests", "Requests answered.", ["endpoint", "status"], registry=registry
        )
        self._errors = Counter(
            "stt_errors", "Requests that failed, by error code.", ["code"], registry=registry
        )
        self._audio = Counter(
            "stt_audio_seconds", "Seconds of audio transcribed.", ["priority"], registry=registry
        )
        self._latency = Histogram(
            "stt_transcription_seconds",
            "Seconds from the whole recording's arrival to its transcript.",
            ["priority"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.live = Gauge("stt_live_sessions", "Live sessions open.", registry=registry)
        self.watch("process_resident_memory_bytes", "Memory of the process.", _memory)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Ask for a value whenever the numbers are read."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def answered(self, path: str, status: int) -> None:
        """Count a request; a status of 0: the client left before it had an answer."""
        endpoint = path if path in _ENDPOINTS else "other"
        self._requests.labels(endpoint, str(status)).inc()

    def failed(self, problem: Problem) -> None:
        """Count what a client was told of."""
        self._errors.labels(problem.code or "error").inc()

    def transcribed(self, priority: Priority, audio_s: float, took_s: float) -> None:
        """Count a recording that is done."""
        self._audio.labels(priority.name.lower()).inc(audio_s)
        self._latency.labels(priority.name.lower()).observe(took_s)

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self._registry)


def _memory() -> float:
    return float(psutil.Process().memory_info().rss)
