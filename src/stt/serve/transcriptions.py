"""`POST /v1/audio/transcriptions`: a recording comes in, its transcript goes out."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stt.audio import files
from stt.audio.selection import ALL_OF_IT
from stt.serve import answers
from stt.serve.admission import Ticket
from stt.serve.asked import Asked
from stt.serve.event_stream import EventStream
from stt.serve.exchange import IN_WORK, until_left
from stt.serve.problems import LOG, Problem
from stt.serve.scheduler import LONGEST_COMMAND_S, Priority
from stt.serve.service import Service, service_of
from stt.serve.stream_events import TranscriptEvents
from stt.serve.uploads import Upload
from stt.serve.work import Progress, Recording, TooLong, Work
from stt.text.transcript import Transcript
from stt.transcript import Choice

_MOST_CHANNELS = 32
_BYTES_PER_SECOND = 16_000
"""Of a recording that does not tell how long it is: 128 kbit/s."""
_KEEP_ALIVE_S = 15.0
_SLOW = 1.0
"""Seconds of audio recognised in a second, before anything is known."""


class Transcriptions:
    """The endpoint; a request's work stops when the client leaves, and its file is deleted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        request = Request(scope, receive)
        service = service_of(request)
        try:
            async with service.uploads.received(request) as upload:
                asked = Asked.of(upload.fields)
                recording, seconds = await asyncio.to_thread(_recording, upload, service)
                speed = service.speed or _SLOW
                scope[IN_WORK] = recording.name
                with service.admission.admitted(recording.priority, seconds, speed) as ticket:
                    one = _Transcription(request, asked, recording, ticket, send)
                    await until_left(receive, one.answer())
        except ClientDisconnect:
            LOG.info("a client left before it was answered")


async def translations(_: Request) -> Response:
    """Refuse."""
    raise Problem(
        400,
        "this model does not translate; /v1/audio/transcriptions writes what was said, in the "
        "language in which it was said",
        code="unsupported_operation",
    )


def _recording(upload: Upload, service: Service) -> tuple[Recording, float]:
    """Look at a recording's header; returns it, and about how many seconds it has.

    Raises:
        AudioError: it is none.
        TooLong: it says that it is longer than is taken.
        Problem: 422, it has more channels than any recording of speech.
    """
    most_s = service.options.max_audio_s
    named = files.Recording(upload.name, upload.path)
    with files.open_recording(named, ALL_OF_IT, tolerant=True) as stream:
        duration, channels = stream.duration, stream.channels
    if duration is not None and duration > most_s:
        raise TooLong(upload.name, most_s)
    if channels > _MOST_CHANNELS:
        raise Problem(
            422,
            f"{upload.name}: has {channels} channels, more than the {_MOST_CHANNELS} taken here; "
            "mix them down",
            code="too_many_channels",
            param="file",
        )
    is_short = duration is not None and duration <= LONGEST_COMMAND_S
    priority = Priority.COMMAND if is_short else Priority.FILE
    seconds = upload.size / _BYTES_PER_SECOND if duration is None else duration
    return Recording(upload.path, upload.name, priority, most_s), seconds


class _Transcription:
    """One request that was let in."""

    def __init__(
        self, request: Request, asked: Asked, recording: Recording, ticket: Ticket, send: Send
    ) -> None:
        self._request, self._asked, self._recording = request, asked, recording
        self._ticket, self._send = ticket, send
        self._service = service_of(request)
        self._began = time.monotonic()

    async def answer(self) -> None:
        """Recognise, and send."""
        work = Work(self._service.engine, self._recording, self._service.readers)
        await (self._stream(work) if self._asked.stream else self._whole(work))

    async def _whole(self, work: Work) -> None:
        async with work:
            transcript = await work.transcript(self._note)
        response = answers.answer(transcript, self._asked, self._service.options.style)
        response.headers.update(self._headers(transcript.choice))
        await response(self._request.scope, self._request.receive, self._send)

    async def _stream(self, work: Work) -> None:
        events = TranscriptEvents(self._asked)
        stream = EventStream(self._send, self._service.metrics, self._headers)
        async with stream, work:
            item: Progress | Transcript | None = None
            while not isinstance(item, Transcript):
                item = await work.soon(_KEEP_ALIVE_S)
                if item is None:
                    await stream.keep_alive()
                else:
                    self._note(item)
                    await stream.send(b"".join(events.of(item)))

    def _note(self, item: Progress | Transcript) -> None:
        """Account for what was done."""
        if isinstance(item, Progress):
            self._ticket.heard(item.step.heard)
            return
        took = time.monotonic() - self._began
        self._ticket.heard(item.duration)
        self._service.metrics.transcribed(self._recording.priority, item.duration, took)
        failures = "; ".join(item.coverage.failures) if item.coverage else ""
        ignored = ", ".join(self._asked.ignored(self._service.engine.served))
        LOG.info(
            "%s: %.1f s in %.2f s%s%s",
            *(item.source, item.duration, took),
            f"; ignored: {ignored}" if ignored else "",
            f"; not all of it: {failures}" if failures else "",
        )

    def _headers(self, choice: Choice | None = None) -> dict[str, str]:
        """Return what is told of the model and the request; `choice`: what ran, where known."""
        served = self._service.engine.served
        told = {"x-stt-ignored": ", ".join(self._asked.ignored(served))}
        if served:
            choice = choice or served.choice
            told |= {
                "x-stt-model": served.model,
                "x-stt-precision": choice.precision,
                "x-stt-provider": choice.provider,
            }
        return {
            name: value.encode("ascii", "replace").decode() for name, value in told.items() if value
        }


ROUTES = [
    Route("/v1/audio/transcriptions", Transcriptions(), methods=["POST"]),
    Route("/v1/audio/translations", translations, methods=["POST"]),
]
