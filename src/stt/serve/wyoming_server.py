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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import numpy as np
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
from stt.serve.wyoming_events import LONGEST_LINE, Garbage, info, parsed, read_event
from stt.types import Samples

LOG = logging.getLogger("stt.serve")
_LEAST_RATE, _MOST_RATE, _WIDTHS, _CHANNELS = 1000, 768_000, range(1, 5), range(1, 33)
_MOST_WAITING = 100
"""Chunks that have not been read yet, from which on a client is kept waiting."""
_SILENT_S = 60.0
"""Seconds without an event in the middle of an utterance after which a client is taken for gone."""
_SLOW = 1.0
"""Seconds of audio recognised in a second, before anything is known."""


class WyomingServer:
    """Answers connections of a listening socket."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it leaves, sends garbage, or the server ends."""
        connection = _Connection(self._service, reader, writer)
        try:
            with self._service.sockets.one() as ending:
                await connection.run(ending)
        except (ConnectionError, Garbage) as error:
            LOG.info("wyoming: a client was left: %s", error)
        except asyncio.CancelledError:  # the server ends, and its grace is over
            LOG.warning("cut: wyoming")
        finally:
            await connection.drop()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def start(self, bound: socket.socket) -> asyncio.Server:
        """Begin to answer; `bound` listens."""
        return await asyncio.start_server(self.connected, sock=bound, limit=LONGEST_LINE)


class _Connection:
    """One client."""

    def __init__(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._utterance: _Utterance | None = None
        self._unheard: tuple[str, ...] = ()  # what was asked for and cannot be had

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
            done, _ = await asyncio.wait({reading}, timeout=_SILENT_S)
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
            await self._begin(_checked(asked))
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
        self._utterance = _Utterance(self._service, form, self._tell)
        await self._utterance.begin()

    async def _hear(self, chunk: AudioChunk) -> None:
        if self._utterance is None:
            await self._begin(_checked(chunk))  # some begin without saying so
        utterance = self._utterance
        if utterance is not None:
            await utterance.hear(_checked(chunk), chunk.audio)

    async def _end(self) -> None:
        utterance, self._utterance = self._utterance, None
        text = ""
        if utterance is not None:
            try:
                text = await utterance.finish(self._unheard)
            finally:
                await utterance.leave()
        served = self._service.engine.served
        await self._tell(Transcript(text, language=served.language if served else None))
        await self._tell(TranscriptStop())

    async def _fail(self, problem: Problem) -> None:
        """Tell an error; the next utterance may fare better."""
        self._service.metrics.failed(problem)
        await self.drop()
        await self._tell(Error(problem.message, problem.code))

    async def _tell(self, event: Eventable) -> None:
        await async_write_event(event.event(), self._writer)


def _checked(form: AudioFormat) -> AudioFormat:
    """Return a format that there is.

    Raises:
        Problem: 400, there is none of this kind.
    """
    rate, width, channels = form.rate, form.width, form.channels
    whole = all(type(value) is int for value in (rate, width, channels))
    if whole and _LEAST_RATE <= rate <= _MOST_RATE and width in _WIDTHS and channels in _CHANNELS:
        return AudioFormat(rate, width, channels)
    raise Problem(
        400,
        f"audio of {rate} Hz, {width} bytes a sample and {channels} channels cannot be read here",
        code="invalid_audio",
    )


class _Utterance:
    """What is spoken between audio-start and audio-stop."""

    def __init__(
        self, service: Service, form: AudioFormat, tell: Callable[[Eventable], Awaitable[None]]
    ) -> None:
        self._service, self._form, self._tell = service, form, tell
        self._chunks: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()
        self._odd, self._taken = b"", 0  # bytes of a sample cut in two; frames
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
        while self._chunks.qsize() > _MOST_WAITING and not self._is_over:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # it is a thread without a loop that reads

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


def samples(data: bytes, width: int) -> Samples:
    """Return float32 [n] in ±1 of little-endian PCM; 8 bits are unsigned, as in WAV."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        whole = np.zeros((len(data) // 3, 4), np.uint8)
        whole[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return whole.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    kind, scale = ("<i2", 2**15) if width == 2 else ("<i4", 2**31)
    return np.frombuffer(data, kind).astype(np.float32) / np.float32(scale)
