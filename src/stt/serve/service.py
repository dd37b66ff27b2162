"""What all requests of a server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from stt.serve.engine import Engine
from stt.serve.options import ServeOptions
from stt.serve.work import Readers


@dataclass(frozen=True, slots=True)
class Service:
    """The engine, the threads that read for it, and what the server was told."""

    engine: Engine
    options: ServeOptions
    readers: Readers = field(default_factory=Readers)
    began: int = field(default_factory=lambda: round(time.time()))
    """When, in seconds of Unix time."""

    def close(self) -> None:
        """End its threads."""
        self.readers.close()
        self.engine.close()


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that a request or a socket is meant for."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
