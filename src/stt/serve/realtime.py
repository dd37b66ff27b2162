"""`/v1/realtime`: OpenAI's transcription sessions over a WebSocket, in the client's dialect."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stt.events import Level, Problem
from stt.serve import problems
from stt.serve import realtime_events as events
from stt.serve.problems import problem_of
from stt.serve.realtime_config import BadEvent, SessionConfig, updated
from stt.serve.realtime_events import EventObject
from stt.serve.scheduler import Priority
from stt.serve.service import Service, service_of
from stt.serve.socket_audio import AudioDecoder, NotAudio
from stt.serve.socket_session import Happening, SocketSession, Trouble
from stt.serve.turns import Began, Completed, Drafted, Ended, Failed, Said

_PROTOCOL, _BETA_PROTOCOL = "realtime", "openai-beta.realtime-v1"
_MOST_WAITING, _MOST_UNSENT = 200, 20_000
"""Events that the client has not taken: from the first on no levels and drafts are sent, from the
second on it is taken for gone."""
_LARGE = 250_000
"""Characters of an event that take a few milliseconds to read."""
_GOING_AWAY, _OVER_LIMIT, _BROKEN = 1001, 1008, 1011
"""Close codes (RFC 6455, 7.4.1)."""
_KNOWN = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)


Sent = TypeVar("Sent", str, "str | None")
R = TypeVar("R")


async def realtime(socket: WebSocket) -> None:
    """Serve a client until it leaves, or the server ends."""
    intent = socket.query_params.get("intent", "transcription")
    if intent != "transcription":
        told = f"intent {intent[:80]}: this server transcribes; intent=transcription"
        problem = problems.Problem(
            HTTPStatus.BAD_REQUEST, told, code="invalid_value", param="intent"
        )
        await socket.send_denial_response(problem.response())
        return
    offered = socket.scope["subprotocols"]
    taken = next((one for one in (_PROTOCOL, _BETA_PROTOCOL) if one in offered), None)
    await socket.accept(subprotocol=taken)
    beta = "realtime=v1" in socket.headers.get("openai-beta", "") or _BETA_PROTOCOL in offered
    service = service_of(socket)
    with service.sockets.one() as ending, service.metrics.live.track_inprogress():
        try:
            await _Connection(socket, service, beta=beta).run(ending)
        except asyncio.CancelledError:  # the server ends, and its grace is over
            problems.LOG.warning("a live session was cut")


ROUTES = [WebSocketRoute("/v1/realtime", realtime)]


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


_Outgoing: TypeAlias = "EventObject | _Close"


@dataclass(slots=True)
class _Names:
    """Of a session and what is in it."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    events: int = 0
    committed: str | None = None
    """The last item that was."""

    def item(self, number: int) -> str:
        return f"item_{self.token}_{number}"

    def event(self) -> str:
        self.events += 1
        return f"event_{self.token}_{self.events}"


class _Connection:
    """One client. Everything is sent by one task, in the order in which it is told."""

    def __init__(self, socket: WebSocket, service: Service, *, beta: bool) -> None:
        self._socket, self._service, self._beta = socket, service, beta
        self._names = _Names()
        self._expires = round(time.time() + service.options.max_audio_s)
        self._config = SessionConfig()
        self._decoder = AudioDecoder(self._config.form)
        self._taken_s = 0.0  # of audio
        self._appended = False  # whether there was audio since the last commit
        self._unsent: asyncio.Queue[_Outgoing] = asyncio.Queue()
        self._ended: dict[int, float] = {}  # items that wait for their text: since when
        self._deaf = asyncio.Event()  # set when the client does not take what is sent

    async def run(self, ending: asyncio.Event) -> None:
        """Serve until the client leaves or `ending` is set."""
        self._tell_session("created")
        engine, pool = self._service.engine, self._service.readers.of(Priority.LIVE)
        async with SocketSession(engine, pool, self._happened, self._config.ends) as hearing:
            sending = asyncio.create_task(self._send())
            taking = asyncio.create_task(self._take(hearing))
            others = [asyncio.create_task(one.wait()) for one in (ending, self._deaf)]
            tasks = [sending, taking, *others]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if self._deaf.is_set() or sending.done():
                    return
                close = taking.result() if taking.done() else _Close(_GOING_AWAY, "the server ends")
                if close is not None:
                    taking.cancel()
                    await self._finish(hearing, sending, close)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(
        self, hearing: SocketSession, sending: asyncio.Task[None], close: _Close
    ) -> None:
        """Tell all that is heard, unless the client leaves meanwhile; then close."""
        finishing = asyncio.create_task(hearing.finish())
        try:
            await asyncio.wait({finishing, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)
        self._unsent.put_nowait(close)
        await sending

    # --- to the client ----------------------------------------------------------------------

    async def _send(self) -> None:
        """Send until told to close, or the client is gone."""
        try:
            while not isinstance(event := await self._unsent.get(), _Close):
                event = {"event_id": self._names.event(), **event}
                await self._socket.send_text(json.dumps(event))
            await self._socket.close(event.code, event.reason)
        except (WebSocketDisconnect, RuntimeError):  # the latter: it was closed a moment ago
            return

    def _tell(self, *told: _Outgoing) -> None:
        for one in told:
            self._unsent.put_nowait(one)
        if self._unsent.qsize() > _MOST_UNSENT:
            self._deaf.set()

    def _tell_session(self, what: str) -> None:
        identity = {"id": f"sess_{self._names.token}", "expires_at": self._expires}
        make = events.beta_session_event if self._beta else events.session_event
        self._tell(make(what, identity, self._config, self._service.engine.served))

    def _happened(self, happening: Happening) -> None:
        """Tell what is heard."""
        if isinstance(happening, Level | Drafted):
            self._tell_passing(happening)
        elif isinstance(happening, Problem):
            self._tell(events.problem(happening))
        elif isinstance(happening, Trouble):
            self._tell(events.error_event(self._problem(happening.error)))
            if happening.is_end:
                self._tell(_Close(_BROKEN, "internal error"))
        else:
            self._tell_of_item(happening, self._names.item(happening.item))

    def _tell_passing(self, happening: Level | Drafted) -> None:
        """Tell what the next of its kind replaces, where it is wanted."""
        if self._unsent.qsize() > _MOST_WAITING:
            return
        if isinstance(happening, Level):
            if "stt.level" in self._config.include:
                self._tell(events.level(happening))
        elif "stt.draft" in self._config.include:
            name = self._names.item(happening.item)
            self._tell(events.draft(name, happening.said, happening.draft))

    def _tell_of_item(
        self, happening: Began | Ended | Said | Completed | Failed, name: str
    ) -> None:
        if isinstance(happening, Began):
            self._tell(events.speech_started(name, happening.at))
        elif isinstance(happening, Said):
            self._tell(events.delta(name, happening.text))
        elif isinstance(happening, Ended):
            if happening.at is not None:
                self._tell(events.speech_stopped(name, happening.at))
            self._tell(*events.committed(name, self._names.committed, beta=self._beta))
            self._names.committed = name
            self._ended[happening.item] = time.monotonic()
        elif isinstance(happening, Completed):
            took_s = time.monotonic() - self._ended.pop(happening.item)
            audio_s = happening.end - happening.start
            self._service.metrics.transcribed(Priority.LIVE, audio_s, took_s)
            if "stt.words" in self._config.include:
                self._tell(events.words(name, happening))
            self._tell(events.completed(name, happening, self._config.include))
        else:
            self._ended.pop(happening.item)
            self._tell(events.failed(name, self._problem(happening.error)))

    def _problem(self, error: Exception) -> EventObject:
        problem = problem_of(error)
        self._service.metrics.failed(problem)
        return problem.error()

    # --- from the client --------------------------------------------------------------------

    async def _take(self, hearing: SocketSession) -> _Close | None:
        """Do what the client asks for; returns why to close, or None where it has left."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            event: Any = None
            try:
                event = await self._unless_large(message.get("text"), _parsed)
                await self._follow(event, hearing)
            except BadEvent as error:
                event_id = event.get("event_id") if isinstance(event, dict) else None
                about = event_id if isinstance(event_id, str) else None
                self._tell(events.bad_event(str(error), error.code, error.param, about))
            if self._taken_s > self._service.options.max_audio_s:
                limit = self._service.options.max_audio_s
                told = f"a session takes {limit:g} s of audio; begin another"
                self._tell(events.bad_event(told, "session_expired", None, None))
                return _Close(_OVER_LIMIT, "the session has had all its audio")

    async def _follow(self, event: EventObject, hearing: SocketSession) -> None:
        kind = event.get("type")
        if not isinstance(kind, str):
            raise BadEvent("an event has a type", code="invalid_type", param="type")
        if kind == "input_audio_buffer.append":
            await self._append(event.get("audio"), hearing)
        elif kind == "input_audio_buffer.commit":
            if not self._appended:
                raise BadEvent(
                    "there is no audio to commit", code="input_audio_buffer_commit_empty"
                )
            self._appended = False
            self._decoder.forget()
            await hearing.commit()
        elif kind == "input_audio_buffer.clear":
            self._appended = False
            self._decoder.forget()
            await hearing.clear()
            self._tell(events.cleared())
        elif kind in {"session.update", "transcription_session.update"}:
            self._beta = self._beta or kind == "transcription_session.update"
            await self._update(event.get("session"), hearing)
        else:
            raise BadEvent(
                f"{kind[:80]}: a transcription session knows {', '.join(_KNOWN)}", param="type"
            )

    async def _append(self, audio: Any, hearing: SocketSession) -> None:
        if not isinstance(audio, str):
            raise BadEvent("audio must be base64 text", code="invalid_type", param="audio")
        try:
            samples = await self._unless_large(audio, self._decoder)
        except NotAudio as error:
            raise BadEvent(str(error), param="audio") from error
        if len(samples):
            self._appended = True
            self._taken_s += len(samples) / self._decoder.form.rate
            await hearing.append(samples, self._decoder.form.rate)

    async def _unless_large(self, given: Sent, work: Callable[[Sent], R]) -> R:
        """Do it here; what is large in a thread, that others are not kept waiting."""
        if given is None or len(given) < _LARGE:
            return work(given)
        pool = self._service.readers.of(Priority.LIVE)
        return await asyncio.get_running_loop().run_in_executor(pool, work, given)

    async def _update(self, session: Any, hearing: SocketSession) -> None:
        served = self._service.engine.served
        language = served.language if served else None
        before, self._config = (
            self._config,
            updated(self._config, session, beta=self._beta, language=language),
        )
        if self._config.form != before.form:
            self._decoder = AudioDecoder(self._config.form)
        if self._config.ends != before.ends:
            await hearing.endpoint(self._config.ends)
        self._tell_session("updated")


def _parsed(text: str | None) -> EventObject:
    """Return a client's event; None: it was no text.

    Raises:
        BadEvent: it is none.
    """
    if text is None:
        raise BadEvent("events are JSON texts; audio goes into input_audio_buffer.append as base64")
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent("this is not JSON", code="invalid_json") from error
    if not isinstance(event, dict):
        raise BadEvent("an event is a JSON object", code="invalid_type")
    return event
