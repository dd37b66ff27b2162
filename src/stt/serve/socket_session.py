"""A live session that is fed from a socket: blocks and commits in, what is said out.

The session of `stt live`, driven by two tasks of the event loop in place of threads: one hears, one
recognises; what computes runs in threads that all sessions share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from stt.audio.capture import Backlog
from stt.audio.samples import Resampler, finite
from stt.audio.utterances import Utterance
from stt.audio.vad import FRAME, SpeechProbability
from stt.engine.recognizer import Interrupted
from stt.events import Committed, Draft, Event, Final, Level, Problem
from stt.serve.engine import Engine, LiveRecognizer
from stt.serve.turns import Endpointing, TurnEvent, Turns
from stt.streaming.complaints import Complaints
from stt.streaming.jobs import Job, Pace
from stt.streaming.session import LiveSession
from stt.transcript import Segment
from stt.types import SAMPLE_RATE, Samples

MOST_IN_MEMORY = 500_000
"""Samples not heard yet that are kept in memory; more are in a temporary file."""
_PIECE_S = 0.25
"""Seconds heard at once."""
_LOOK = 2 * FRAME
"""Samples fed between two looks whether somebody begins or ends to speak."""
_MOST_WAITING = 8
"""Utterances that wait for their final text, from which on no more is heard."""
_RELEASE_S = 30.0
"""Seconds without anything from the client after which the model is given back meanwhile."""


_Control = Literal["commit", "clear", "end"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """The model cannot be had, or the session cannot go on."""

    error: Exception
    is_end: bool


Happening: TypeAlias = "TurnEvent | Level | Problem | Trouble"


class SocketSession:
    """`async with`; then call what a client asks for, in order."""

    def __init__(
        self,
        engine: Engine,
        pool: Executor,
        tell: Callable[[Happening], None],
        endpointing: Endpointing,
    ) -> None:
        """`tell` is called in the event loop with what happens; the model is had when needed."""
        self._engine, self._pool, self._tell = engine, pool, tell
        self._endpointing = endpointing
        self._inputs = Backlog(MOST_IN_MEMORY)  # samples at a rate, or what is to be done
        self._changed = asyncio.Condition()  # guards the session, and tells of all that follows
        self._turns = Turns()
        self._turns.by_client = endpointing.by_client
        self._session: LiveSession | None = None  # None: nothing was heard yet
        self._resampler = Resampler(SAMPLE_RATE)
        self._heard_s = self._began_s = 0.0  # all audio; where the client's next item begins
        self._ended = False
        self._recognizer: LiveRecognizer | None = None
        self._failure: Exception | None = None  # why there is no recogniser
        self._complaints: Complaints | None = None
        self._lending: Future[LiveRecognizer] | None = None
        self._stack = ExitStack()
        self._release: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> SocketSession:
        self._tasks = [asyncio.create_task(one) for one in (self._hear(), self._recognize())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._release is not None:
            self._release.cancel()
        self._inputs.close()
        self._give_back()

    # --- what a client asks for -------------------------------------------------------------

    async def append(self, samples: Samples, rate: int) -> None:
        """Hear float32 [n] at `rate` Hz.

        What is not heard at once waits, so that the socket can always be read: a client whose
        pings are not answered goes away. Waits itself only where the disk is full.
        """
        await self._put(rate, samples)
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._inputs.in_memory < 2 * MOST_IN_MEMORY or self._ended
            )

    async def commit(self) -> None:
        """End the item here."""
        await self._put("commit")

    async def clear(self) -> None:
        """Forget the item that goes on."""
        await self._put("clear")

    async def endpoint(self, endpointing: Endpointing) -> None:
        """End items in another way from here on."""
        await self._put(endpointing)

    async def finish(self) -> None:
        """End what is being said, and wait until all is told."""
        await self._put("end")
        await asyncio.gather(*self._tasks)

    async def _put(
        self, what: int | _Control | Endpointing, samples: Samples | None = None
    ) -> None:
        async with self._changed:
            self._inputs.put(what, samples)
            self._changed.notify_all()
        self._rest_later()

    def _rest_later(self) -> None:
        if self._release is not None:
            self._release.cancel()
        self._release = asyncio.get_running_loop().call_later(_RELEASE_S, self._rest)

    def _rest(self) -> None:
        """Give the model back where nobody has said anything for long."""
        busy = self._changed.locked() or self._inputs.samples
        if busy or self._session is None or not self._session.resting:
            self._rest_later()
        else:
            self._give_back()

    # --- the hearing task -------------------------------------------------------------------

    async def _hear(self) -> None:
        try:
            while not self._ended:
                await self._take(*await self._next_input())
        except Exception as error:  # noqa: BLE001 - told, and the socket is closed
            self._tell(Trouble(error, is_end=True))
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def _next_input(self) -> tuple[int | _Control | Endpointing, Samples | None]:
        async with self._changed:
            while (item := self._inputs.get(0)) is None:
                await self._changed.wait()
            self._changed.notify_all()
            return item

    async def _take(
        self, what: int | _Control | Endpointing, samples: Samples | None = None
    ) -> None:
        if isinstance(what, Endpointing):
            await self._follow(what)
        elif isinstance(what, int):
            assert samples is not None
            await self._hear_block(samples, what)
        else:
            await self._feed(self._resampler.drain())
            await self._control(what)

    async def _hear_block(self, samples: Samples, rate: int) -> None:
        if rate != self._resampler.rate:
            await self._feed(self._resampler.drain())
            self._resampler = Resampler(rate)
        size = max(1, round(_PIECE_S * rate))
        for start in range(0, len(samples), size):
            piece = samples[start : start + size]
            await self._feed(self._resampler.push(finite(piece)))

    async def _feed(self, samples: Samples) -> None:
        """Feed samples at 16 kHz, when not too much waits."""
        if not len(samples):
            return
        session = await self._live()
        async with self._changed:
            await self._changed.wait_for(lambda: session.waiting < _MOST_WAITING)
            if self._turns.by_client:
                self._turns.begin(self._began_s)
            self._heard_s += len(samples) / SAMPLE_RATE
            await self._happens(lambda: self._fed(session, samples))

    def _fed(self, session: LiveSession, samples: Samples) -> Iterator[Happening]:
        now = time.monotonic()
        for start in range(0, len(samples), _LOOK):
            events = session.feed(samples[start : start + _LOOK], now)
            yield from self._turns.look(session)
            yield from self._seen(events)

    async def _control(self, control: _Control) -> None:
        async with self._changed:
            session = self._session or LiveSession(SpeechProbability())  # nothing was heard
            await self._happens(lambda: self._controlled(session, control))
            self._began_s = self._heard_s
            self._ended = control == "end"

    def _controlled(self, session: LiveSession, control: _Control) -> Iterator[Happening]:
        events = session.flush(time.monotonic())
        if control == "commit":
            began_s = max(self._began_s, session.ended_s)
            yield from self._turns.commit(session, began_s, self._heard_s)
        elif control == "clear":
            self._turns.drop(session)
        else:
            yield from self._turns.finish(session, self._heard_s)
        yield from self._seen(events)

    async def _follow(self, asked: Endpointing) -> None:
        if asked.by_client != self._turns.by_client and self._turns.is_open:
            await self._take("commit")
        async with self._changed:
            self._endpointing, self._turns.by_client = asked, asked.by_client
            self._began_s = self._heard_s
            if self._session is not None:
                pace = asked.pace(self._session.pace)
                self._session.endpoint(pace.threshold, pace.patience_s)

    # --- the model --------------------------------------------------------------------------

    async def _live(self) -> LiveSession:
        """Return the session, with the model where it can be had."""
        if self._recognizer is None and self._failure is None:
            self._lending = self._pool.submit(self._lend)
            try:
                self._recognizer = await asyncio.wrap_future(self._lending)
            except Exception as error:  # noqa: BLE001 - told; what is said is answered by it too
                self._failure = error
                self._tell(Trouble(error, is_end=False))
        if self._session is None:  # speech is found all the same
            self._session = LiveSession(SpeechProbability(), self._endpointing.pace(Pace()))
        return self._session

    def _lend(self) -> LiveRecognizer:
        served = self._engine.load()
        if self._session is None:
            pace = self._endpointing.pace(served.pace)
            self._session = LiveSession(SpeechProbability(), pace)
            self._complaints = Complaints(english_only=served.english_only)
        return self._stack.enter_context(self._engine.lent_live(self._session))

    def _give_back(self) -> None:
        lending, self._lending, self._recognizer = self._lending, None, None
        if lending is not None:  # which may be loading still: then it is given back once it is lent
            lending.add_done_callback(lambda _: self._stack.close())

    # --- the recognising task ---------------------------------------------------------------

    async def _recognize(self) -> None:
        try:
            while job := await self._next_job():
                await self._work(job)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell(Trouble(error, is_end=True))

    async def _next_job(self) -> Job | None:
        """Wait for something to recognise; None: there will be nothing more."""
        async with self._changed:
            while True:
                session = self._session
                if session is not None and (job := session.next_job(time.monotonic())):
                    return job
                if self._ended and (session is None or session.idle):
                    return None
                await self._changed.wait()

    async def _work(self, job: Job) -> None:
        session = self._session
        assert session is not None
        results = await self._results(job)
        async with self._changed:
            if results is None:
                session.given_up(job, time.monotonic())
            else:
                await self._happens(lambda: self._done(session, job, results))

    async def _results(self, job: Job) -> list[list[Segment] | Exception] | None:
        """Recognise; what fails is told of finals, each for itself, and else given up: None."""
        try:
            return [*await self._recognized(job.utterances)]
        except Interrupted:
            return None
        except Exception as error:  # noqa: BLE001 - of this utterance alone; told with its item
            if job.kind != "final":
                return None
            if len(job.utterances) == 1:
                return [error]
        results: list[list[Segment] | Exception] = []
        for utterance in job.utterances:
            results += await self._results(replace(job, utterances=(utterance,))) or [[]]
        return results

    async def _recognized(self, utterances: Sequence[Utterance]) -> list[list[Segment]]:
        if self._recognizer is None:
            raise self._failure or RuntimeError("there is a job without a recogniser")
        return await asyncio.wrap_future(self._recognizer.begin(utterances))

    def _done(
        self, session: LiveSession, job: Job, results: Sequence[list[Segment] | Exception]
    ) -> Iterator[Happening]:
        for number, result in enumerate(results, job.number):
            if isinstance(result, Exception):
                self._turns.fail(number, result)
        segments = [[] if isinstance(one, Exception) else one for one in results]
        events = session.done(job, segments, time.monotonic())
        yield from self._turns.look(session)
        yield from self._seen(events)

    # --- what is told -----------------------------------------------------------------------

    def _seen(self, events: Sequence[Event]) -> Iterator[Happening]:
        if self._complaints is not None:
            fallback = self._recognizer.fallback if self._recognizer else None
            yield from self._complaints.about(fallback, events)
        for event in events:
            if isinstance(event, Draft | Committed | Final):
                yield from self._turns.take(event)
            elif isinstance(event, Level):
                yield event

    async def _happens(self, work: Callable[[], Iterable[Happening]]) -> None:
        """Do it in a thread, then tell what happened; under the lock."""
        loop = asyncio.get_running_loop()
        for happening in await loop.run_in_executor(self._pool, lambda: list(work())):
            self._tell(happening)
        self._changed.notify_all()
