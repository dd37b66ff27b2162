"""A live session in simulated time: `stt live --input FILE --fast`, tests and measurements.

The clock is the audio's; recognising takes it as long as it really took, or as long as told. Given
the costs of the jobs, everything is determined.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from stt.audio.microphone import Block
from stt.audio.samples import finite, resampled
from stt.audio.vad import SpeechProbability
from stt.events import Event, Problem
from stt.streaming.jobs import Job
from stt.streaming.session import LiveSession
from stt.streaming.stream import RecognizerLike, guarded_for, pace_for
from stt.transcriber import ModelTranscriber
from stt.transcript import Segment
from stt.types import SAMPLE_RATE, Samples

Cost = Callable[[Job, float], float]
"""(job, seconds it really took) -> seconds it is to take."""


def as_measured(_: Job, took: float) -> float:
    """Let a job take as long as it really took."""
    return took


class Replay:
    """Drives a session with blocks at 16 kHz."""

    def __init__(
        self, session: LiveSession, recognizer: RecognizerLike, cost: Cost = as_measured
    ) -> None:
        self._session = session
        self._recognizer = recognizer
        self._cost = cost
        self._running: tuple[Job, Sequence[Sequence[Segment]], float] | None = None
        self.now = 0.0
        """The simulated clock: seconds since the stream began."""
        self.busy = 0.0
        """Seconds that the recogniser has worked."""

    def events(self, blocks: Iterable[Samples]) -> Iterator[Event]:
        """Yield the events of float32 [n] mono blocks at 16 kHz."""
        samples = 0
        for block in blocks:
            samples += len(block)
            arrives = samples / SAMPLE_RATE
            yield from self._work_until(arrives)
            self.now = arrives
            yield from self._session.feed(block, arrives)
            self._start()
        yield from self._session.finish(self.now)
        yield from self._work_until(float("inf"))

    def _work_until(self, then: float) -> Iterator[Event]:
        self._start()
        while self._running and self._running[2] <= then:
            job, results, ends = self._running
            self._running, self.now = None, ends
            yield from self._session.done(job, results, ends)
            self._start()

    def _start(self) -> None:
        job = self._session.next_job(self.now) if self._running is None else None
        if job is None:
            return
        began = time.perf_counter()
        results = self._recognizer.recognize(job.utterances)
        cost = self._cost(job, time.perf_counter() - began)
        self.busy += cost
        self._running = job, results, self.now + cost


def replayed(
    source: Iterable[Block | Problem], transcriber: ModelTranscriber, sample_rate: int
) -> Iterator[Event]:
    """Recognise sound that is there already as if it were spoken now, in less time.

    The clock is the audio's, and recognising takes of it what it really takes: the events, their
    times and latencies are those that `stt.streaming.stream.live` gives on this machine.

    Args:
        source: blocks of mono audio in order, as `Playback.blocks` gives them; it ends.
        transcriber: the loaded model, from `stt.load`.
        sample_rate: Hz of the source.
    """
    session = LiveSession(SpeechProbability(), pace_for(transcriber))
    guarded = guarded_for(transcriber, session)
    problems: deque[Problem] = deque()
    fallback_reported = False

    def sound() -> Iterator[Samples]:
        for item in source:
            if isinstance(item, Block):
                yield finite(item.samples)
            else:
                problems.append(item)

    for event in Replay(session, guarded).events(resampled(sound(), sample_rate)):
        if guarded.fallback and not fallback_reported:
            fallback_reported = True
            yield Problem(guarded.fallback.at, "fallback", str(guarded.fallback))
        while problems:
            yield problems.popleft()
        yield event
    yield from problems
