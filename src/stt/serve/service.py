"""What all requests of a server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from stt.serve.admission import Admission
from stt.serve.engine import Engine
from stt.serve.metrics import Metrics
from stt.serve.options import ServeOptions
from stt.serve.sockets import Sockets
from stt.serve.uploads import Uploads
from stt.serve.work import Readers


@dataclass(slots=True)
class Service:
    """The engine, what waits for it, and what the server was told."""

    engine: Engine
    options: ServeOptions
    readers: Readers = field(default_factory=Readers)
    metrics: Metrics = field(default_factory=Metrics)
    uploads: Uploads = field(init=False)
    admission: Admission = field(init=False)
    began: int = field(default_factory=lambda: round(time.time()))
    """When, in seconds of Unix time."""
    sockets: Sockets = field(default_factory=Sockets)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.options.max_upload_bytes)
        self.admission = Admission(self.options.queue_s)
        watch, engine, admission = self.metrics.watch, self.engine, self.admission
        watch("stt_waiting_utterances", "Utterances not begun.", lambda: engine.waiting)
        watch("stt_waiting_audio_seconds", "Audio let in, not recognised.", admission.waiting_s)
        watch("stt_oldest_waiting_seconds", "Age of the oldest of them.", lambda: engine.oldest_s)
        watch("stt_still_seconds", "Time nothing was finished in.", lambda: engine.still_s)
        watch("stt_rtfx", "Seconds of audio recognised in a second.", lambda: self.speed or 0.0)
        watch("stt_model_loaded", "1 where the model is loaded.", lambda: engine.state == "loaded")

    @property
    def speed(self) -> float | None:
        """Seconds of audio recognised in a second, measured; None before the model was loaded."""
        served = self.engine.served
        return self.admission.speed() or (served.speed if served else None)

    def close(self) -> None:
        """End its threads, and delete what was uploaded."""
        self.readers.close()
        self.engine.close()
        self.uploads.close()


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that a request or a socket is meant for."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
