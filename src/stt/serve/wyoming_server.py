"""Wyoming, the protocol of Home Assistant's voice: a connection, utterance after utterance.

What is spoken is read as it comes, by the path of files: of a long utterance the sentences that are
over are recognised while the rest is spoken. Whoever follows the stream gets them one by one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

from wyoming.asr import (
    Transcribe,
    Transcript,
    TranscriptChunk,
    TranscriptStart,
    TranscriptStop,
)
from wyoming.audio import AudioChunk, AudioFormat, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from stt.audio.stream import RawAudio
from stt.errors import SttError
from stt.serve.problems import Problem, problem_of
from stt.serve.scheduler import LONGEST_COMMAND_S, Priority
from stt.serve.service import Service
from stt.serve.work import Progress, Recording, Work
from stt.serve.wyoming_events import (
    LONGEST_LINE,
    Garbage,
    checked,
    info,
    parsed,
    read_event,
    samples,
)
from stt.types import Samples

LOG = logging.getLogger("stt.serve")
_MOST_WAITING = 4_000_000
"""Samples, of all channels, that have not been read yet, from which on a client is kept waiting."""
_SILENT_S = 60.0
"""Seconds without audio in the middle of an utterance after which a client is taken for gone."""
_MOST_OPEN = 32
"""Utterances under way: each holds a thread of those that read short recordings, HTTP's too."""
_LOOK_S = 0.2
"""Seconds between two looks whether a client that waits for its transcript has left."""
_SLOW = 1.0
"""Seconds of audio recognised in a second, before anything is known."""


class WyomingServer:
    """Answers connections of a listening socket."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connections: set[_Connection] = set()

    @property
    def is_full(self) -> bool:
        """Whether as many utterances are under way as may be."""
        return sum(one.is_speaking for one in self._connections) >= _MOST_OPEN

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it leaves, sends garbage, or the server ends."""
        connection = _Connection(self, self._service, reader, writer)
        self._connections.add(connection)
        try:
            with self._service.sockets.one() as ending:
                await connection.run(ending)
        except (ConnectionError, Garbage) as error:
            LOG.info("wyoming: a client was left: %s", error)
        except asyncio.CancelledError:  # the server ends, and its grace is over
            LOG.warning("cut: wyoming")
        finally:
            await connection.drop()
            self._connections.discard(connection)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def start(self, bound: socket.socket) -> asyncio.Server:
        """Begin to answer; `bound` listens."""
        return await asyncio.start_server(self.connected, sock=bound, limit=LONGEST_LINE)


class _Connection:
    """One client."""

    def __init__(
        self,
        server: WyomingServer,
        service: Service,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._server, self._service = server, service
        self._reader, self._writer = reader, writer
        self._utterance: _Utterance | None = None
        self._unheard: tuple[str, ...] = ()  # what was asked for and cannot be had

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance is under way."""
        return self._utterance is not None

    async def run(self, ending: asyncio.Event) -> None:
        """Follow events; at the end of the server the utterance under way is finished first.

        Raises:
            Garbage: what the client sends is no event.
            ConnectionError: it is gone.
        """
        ends = asyncio.create_task(ending.wait())
        try:
            while True:
                reading = asyncio.create_task(read_event(self._reader))
                if not await self._first(reading, ends):
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                    return
                event = reading.result()
                if event is None:
                    return
                await self._follow(event)
        finally:
            ends.cancel()

    async def _first(self, reading: asyncio.Task[Event | None], ends: asyncio.Task[bool]) -> bool:
        """Wait for an event; where nothing is spoken, for the end of the server too."""
        if self._utterance is not None:
            left = self._utterance.heard_at + _SILENT_S - time.monotonic()
            done, _ = await asyncio.wait({reading}, timeout=max(0.0, left))
            return bool(done)
        await asyncio.wait({reading, ends}, return_when=asyncio.FIRST_COMPLETED)
        return reading.done()

    async def drop(self) -> None:
        """Leave what is under way."""
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            await utterance.leave()

    async def _follow(self, event: Event) -> None:
        try:
            await self._answer(parsed(event))
        except Problem as error:
            await self._fail(error)

    async def _answer(self, asked: Eventable | None) -> None:
        if isinstance(asked, Describe):
            await self._tell(info(self._service.engine.served))
        elif isinstance(asked, Ping):
            await self._tell(Pong(text=asked.text))
        elif isinstance(asked, Transcribe):
            self._ask(asked)
        elif isinstance(asked, AudioStart):
            await self.drop()
            await self._begin(checked(asked))
        elif isinstance(asked, AudioChunk):
            await self._hear(asked)
        elif isinstance(asked, AudioStop):
            await self._end()

    def _ask(self, asked: Transcribe) -> None:
        """Remember, for the log, what cannot be honoured."""
        served = self._service.engine.served
        known = served.language if served else None
        language = str(asked.language or "").lower().split("-")[0]
        said = {
            "language": bool(language) and language != known,
            "transcript_names": bool(asked.transcript_names),
            "transcript_terms": bool(asked.transcript_terms),
            "context": bool(asked.context),
        }
        self._unheard = tuple(name for name, is_said in said.items() if is_said)

    async def _begin(self, form: AudioFormat) -> None:
        if self._server.is_full:
            raise Problem(429, "too many speak at once; try again", code="rate_limit_exceeded")
        self._utterance = _Utterance(self._service, form, self._tell)
        await self._utterance.begin()

    async def _hear(self, chunk: AudioChunk) -> None:
        if self._utterance is None:
            await self._begin(checked(chunk))  # some begin without saying so
        utterance = self._utterance
        if utterance is not None:
            await utterance.hear(checked(chunk), chunk.audio)

    async def _end(self) -> None:
        utterance, self._utterance = self._utterance, None
        text = ""
        if utterance is not None:
            try:
                text = await self._unless_left(utterance.finish(self._unheard))
            finally:
                await utterance.leave()
        served = self._service.engine.served
        await self._tell(Transcript(text, language=served.language if served else None))
        await self._tell(TranscriptStop())

    async def _unless_left(self, work: Coroutine[Any, Any, str]) -> str:
        """Wait for a text; ConnectionError where the client has left."""
        finishing = asyncio.create_task(work)
        try:
            while not finishing.done():
                await asyncio.wait({finishing}, timeout=_LOOK_S)
                if self._reader.at_eof() and not finishing.done():
                    raise ConnectionError("it left before its transcript")
            return finishing.result()
        finally:
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)

    async def _fail(self, problem: Problem) -> None:
        """Tell an error; the next utterance may fare better."""
        self._service.metrics.failed(problem)
        await self.drop()
        await self._tell(Error(problem.message, problem.code))

    async def _tell(self, event: Eventable) -> None:
        await async_write_event(event.event(), self._writer)


class _Utterance:
    """What is spoken between audio-start and audio-stop."""

    def __init__(
        self, service: Service, form: AudioFormat, tell: Callable[[Eventable], Awaitable[None]]
    ) -> None:
        self._service, self._form, self._tell = service, form, tell
        self._chunks: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()
        self._odd, self._taken, self._given = b"", 0, 0  # bytes of a sample cut in two; frames
        self.heard_at = time.monotonic()
        """When the last audio came."""
        sound = RawAudio(form.rate, None, form.channels, self._blocks())
        most_s = service.options.max_audio_s
        recording = Recording(sound, "wyoming", Priority.COMMAND, most_s)
        self._work = Work(service.engine, recording, service.readers)
        self._following: asyncio.Task[str] | None = None

    async def begin(self) -> None:
        """Have it read from now on."""
        await self._work.__aenter__()
        self._following = asyncio.create_task(self._follow())

    async def hear(self, form: AudioFormat, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Problem: they are of another format, or there are more than are taken.
        """
        self.heard_at = time.monotonic()
        self._check()
        if form != self._form:
            raise Problem(
                400, "the format of the audio changed in the middle", code="invalid_audio"
            )
        size = form.width * form.channels
        data = self._odd + data
        whole = len(data) - len(data) % size
        self._odd = data[whole:]
        self._taken += whole // size
        most_s = self._service.options.max_audio_s
        if self._taken > most_s * form.rate:
            raise Problem(
                413, f"more than {most_s:g} s of audio are not taken", code="audio_too_long"
            )
        self._chunks.put(samples(data[:whole], form.width).reshape(-1, form.channels))
        most = _MOST_WAITING // form.channels
        while self._taken - self._given > most and not self._is_over:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # it is a thread without a loop that reads

    def _check(self) -> None:
        """Raise what ended the reading already, in the middle of the utterance."""
        following = self._following
        if following is not None and following.done() and not following.cancelled():
            error = following.exception()
            if isinstance(error, SttError):
                raise problem_of(error)

    async def finish(self, unheard: tuple[str, ...]) -> str:
        """Return all that was said.

        Raises:
            Problem: it cannot be recognised.
        """
        assert self._following is not None
        self._chunks.put(None)
        began = time.monotonic()
        seconds = self._taken / self._form.rate
        if not self._taken:
            await self.leave()
            return ""
        priority = Priority.COMMAND if seconds <= LONGEST_COMMAND_S else Priority.FILE
        admission, speed = self._service.admission, self._service.speed or _SLOW
        with admission.admitted(priority, seconds, speed) as ticket:
            try:
                text = await self._following
            except SttError as error:
                raise problem_of(error) from error
            ticket.heard(seconds)
        took = time.monotonic() - began
        self._service.metrics.transcribed(priority, seconds, took)
        ignored = f"; ignored: {', '.join(unheard)}" if unheard else ""
        LOG.info("wyoming: %.1f s, %.2f s after its end%s", seconds, took, ignored)
        return text

    async def leave(self) -> None:
        """Read no more."""
        self._chunks.put(None)
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            await self._work.__aexit__()

    @property
    def _is_over(self) -> bool:
        return self._following is not None and self._following.done()

    def _blocks(self) -> Iterator[Samples]:
        while (chunk := self._chunks.get()) is not None:
            yield chunk
            self._given += len(chunk)

    async def _follow(self) -> str:
        """Tell each sentence when it is final; returns all of them."""
        begun = False
        async for item in self._work:
            if not isinstance(item, Progress):
                if not begun:
                    await self._tell(TranscriptStart())
                return item.text
            for segment in item.step.segments:
                if segment.text:
                    if not begun:
                        await self._tell(TranscriptStart())
                    await self._tell(TranscriptChunk(f" {segment.text}" if begun else segment.text))
                    begun = True
        raise AssertionError("the last item is the transcript")
