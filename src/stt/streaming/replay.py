"""A recording in the microphone's place, and a live session in simulated time.

`Replay` serves `stt live --input FILE --fast`, tests and measurements. Its clock is the audio's;
recognising takes of it what it really took, or a cost that is given: then everything is determined.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

from stt.audio.files import open_audio
from stt.audio.microphone import Block
from stt.audio.samples import finite, resampled
from stt.audio.vad import SpeechProbability
from stt.events import Event, Problem
from stt.streaming.jobs import Job
from stt.streaming.session import LiveSession
from stt.streaming.stream import RecognizerLike, guarded_for, pace_for
from stt.system.files import printable
from stt.transcriber import ModelTranscriber
from stt.transcript import Segment
from stt.types import SAMPLE_RATE, Samples

BLOCK_S = 0.05
"""Seconds in a block, as a microphone gives them."""
Cost = Callable[[Job, float], float]
"""(job, seconds it really took) -> seconds it is to take."""


def as_measured(_: Job, took: float) -> float:
    """Let a job take as long as it really took."""
    return took


class Playback:
    """What `stt.audio.microphone.Microphone` is to `stt live`, of a file; a context manager."""

    recording = None
    """Nothing is recorded: the sound is in the file."""
    lost = 0

    def __init__(
        self,
        path: Path,
        *,
        real_time: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Choose the file; it is opened by `with`.

        Args:
            path: any recording that `stt transcribe` reads.
            real_time: give each block when it would have been spoken; else as fast as it is taken.
            clock: seconds of the wall clock.
        """
        self.path = path
        self.device = SimpleNamespace(name=printable(str(path)))
        self.damaged = False
        """Whether something of the file could not be read."""
        self._real_time, self._clock = real_time, clock
        self._stopping = threading.Event()
        self._stack = ExitStack()
        self._given = 0  # samples

    def __enter__(self) -> Playback:
        """Open the file.

        Raises:
            AudioError: it cannot be opened, or is no recording.
        """
        self._stream = self._stack.enter_context(open_audio(self.path, tolerant=True))
        self.rate = self._stream.sample_rate
        """Hz of the blocks."""
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._stack.close()

    def stop(self) -> None:
        """Give no more; for any thread or signal handler."""
        self._stopping.set()

    def keep_recording(self) -> None:
        """Do nothing: the file is there."""

    @property
    def seconds(self) -> float:
        """Seconds given so far."""
        return self._given / self.rate

    def blocks(self) -> Iterator[Block | Problem]:
        """Yield the file's sound, mono, and a Problem for each place that cannot be read.

        Raises:
            AudioError: there is no sound in it.
        """
        began = self._clock()
        for samples in self._pieces():
            at = None
            if self._real_time:
                at = began + (self._given + len(samples)) / self.rate
                self._stopping.wait(max(0.0, at - self._clock()))
            if self._stopping.is_set():
                return
            start, self._given = self._given, self._given + len(samples)
            yield Block(samples, start, at=at)
        for line in self._stream.damage.failures:
            self.damaged = True
            yield Problem(self.seconds, "damaged", f"{self.device.name}: {line}")
        for line in self._stream.damage.notes:
            yield Problem(self.seconds, "note", f"{self.device.name}: note: {line}")

    def _pieces(self) -> Iterator[Samples]:
        size = max(1, round(BLOCK_S * self.rate))
        for block in self._stream.blocks:
            for at in range(0, len(block), size):
                yield block[at : at + size]


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
        yield from self._session.flush(self.now)
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
