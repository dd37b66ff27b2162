"""Live recognition in real time: one thread hears, one recognises, the caller gets the events.

    with Microphone() as microphone, Live(microphone.blocks(), transcriber, rate) as live:
        for event in live: ...

Hearing never waits for recognising: while a final text is worked out, audio piles up in the session
and partials are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Condition
from typing import Protocol

import numpy as np

from stt.audio.microphone import Block, Microphone
from stt.audio.samples import finite, resampled
from stt.audio.utterances import Utterance
from stt.audio.vad import SpeechProbability
from stt.engine.fallback import GuardedRecognizer
from stt.engine.recognizer import Interrupted
from stt.events import Event, Level, Problem
from stt.streaming.complaints import Complaints
from stt.streaming.jobs import Job, Pace
from stt.streaming.session import LiveSession
from stt.transcriber import ModelTranscriber, Transcriber
from stt.transcript import Segment
from stt.types import Samples

_LONGEST_GAP_S = 2.0
"""Of a longer stretch of lost audio only this much is heard, as silence: it ends any utterance."""
_MOST_WAITING = 200
"""Events waiting for the caller from which on levels are left out; nothing else ever is."""
_LONGEST_GOODBYE_S = 1.0
"""How long an abandoned session waits for a source to give its next block."""


Source = Iterable["Block | Problem | Samples"]


class RecognizerLike(Protocol):
    """What recognises: `stt.engine.fallback.GuardedRecognizer`, or a test's."""

    def recognize(self, batch: Sequence[Utterance]) -> Sequence[Sequence[Segment]]:
        """Return for each utterance its segments, in seconds from its own start."""
        ...


class Live:
    """Events of a source of audio, in order; an iterator to be used once, and a context manager.

    It ends when the source does: what is being said then is finished first. Leaving the `with`
    block, or the loop, without that drops it. A source that is stuck keeps one thread until it
    gives or ends, so close a microphone behind this.
    """

    def __init__(
        self,
        source: Source,
        recognizer: RecognizerLike,
        sample_rate: int,
        session: LiveSession,
        *,
        english_only: bool = False,
    ) -> None:
        """`source` gives mono audio at `sample_rate` Hz as it is captured; see also `live`.

        `english_only`: the model writes English whatever is spoken; improbable text is reported.
        """
        self._source = source
        self._recognizer = recognizer
        self._rate = sample_rate
        self._session = session
        self._changed = Condition()  # guards the session
        self._ended = False  # no more is to be heard
        self._finished = False  # all that was heard is in the session
        self._abandoned = False
        self._events: SimpleQueue[Event | None] = SimpleQueue()  # None: a thread has ended
        self._complaints = Complaints(english_only=english_only)
        self._captured: float | None = None  # when the block being heard was, where that is known

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def stop(self) -> None:
        """Take no more from the source: finish what is being said, then end.

        From any thread or signal handler. `Microphone.stop` is better where the source is one:
        what it has captured by then is still heard.
        """
        self._ended = True

    def abandon(self) -> None:
        """End as soon as possible, whatever is unfinished."""
        self._abandoned = self._ended = True

    def __iter__(self) -> Iterator[Event]:
        """Yield the events.

        Raises:
            AudioError: from the source.
            ModelError: the model gives nothing usable, and no FP32 takes over.
        """
        pool = ThreadPoolExecutor(2, "stt-live")
        hears, recognizes = pool.submit(self._hear), pool.submit(self._recognize)
        for thread in (hears, recognizes):
            thread.add_done_callback(self._thread_ended)
        pool.shutdown(wait=False)  # takes no more work; the two go on
        try:
            yield from self._until_ended(hears, recognizes)
        finally:
            self.abandon()
            wait([recognizes])
            wait([hears], timeout=_LONGEST_GOODBYE_S)

    def _until_ended(self, hears: Future[None], recognizes: Future[None]) -> Iterator[Event]:
        while not (hears.done() and recognizes.done() and self._events.empty()):
            try:
                event = self._events.get(timeout=0.2)  # Windows hears Ctrl-C between two waits
            except Empty:
                continue
            if event is not None:
                yield event
            elif recognizes.done():  # in order, or with an error: then nobody is to hear more
                self.abandon()
                recognizes.result()
        hears.result()  # last: what was heard before an error of the source is finished first

    def _thread_ended(self, _: Future[None]) -> None:
        self._events.put(None)

    def _tell(self, events: Sequence[Event]) -> None:
        fallback = getattr(self._recognizer, "fallback", None)
        for event in (*events, *self._complaints.about(fallback, events)):
            if not isinstance(event, Level) or self._events.qsize() < _MOST_WAITING:
                self._events.put(event)

    # --- the hearing thread -----------------------------------------------------------------

    def _hear(self) -> None:
        try:
            for block in resampled(self._blocks(), self._rate):
                with self._changed:
                    now = time.monotonic()
                    self._tell(self._session.feed(block, now, self._captured or now))
                    if not self._session.resting:  # waking the other thread costs something
                        self._changed.notify()
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify()
                self._tell(self._session.flush(time.monotonic()))

    def _blocks(self) -> Iterator[Samples]:
        for item in self._source:
            if self._ended:
                return
            if isinstance(item, np.ndarray):
                yield finite(item)
            elif isinstance(item, Block):
                yield from self._gap(item.lost)
                self._captured = item.at
                yield finite(item.samples)
            else:
                with self._changed:
                    self._tell([item])

    def _gap(self, lost: int) -> Iterator[Samples]:
        """Make up for lost samples, so that no time drifts."""
        silent = min(lost, int(_LONGEST_GAP_S * self._rate))
        if silent:
            yield np.zeros(silent, np.float32)
        if lost > silent:
            with self._changed:
                self._session.skip((lost - silent) / self._rate)

    # --- the recognising thread -------------------------------------------------------------

    def _recognize(self) -> None:
        while True:
            with self._changed:
                job = self._next_job()
            if job is None:
                return
            try:
                results = self._recognizer.recognize(job.utterances)
            except Interrupted:
                with self._changed:
                    self._session.given_up(job, time.monotonic())
                continue
            with self._changed:
                self._tell(self._session.done(job, results, time.monotonic()))

    def _next_job(self) -> Job | None:
        """Wait for something to recognise; None: there will be nothing more."""
        while not self._abandoned:
            if job := self._session.next_job(time.monotonic()):
                return job
            if self._finished and self._session.idle:
                return None
            self._changed.wait(timeout=0.5)  # not for ever: `abandon` takes no lock to notify
        return None


def live(
    source: Source, transcriber: ModelTranscriber, sample_rate: int, *, pace: Pace | None = None
) -> Live:
    """Recognise speech as it is spoken; iterate over the result for typed events.

    Args:
        source: blocks of mono audio as they are captured, e.g. `Microphone.blocks()`, or float32
            [n] arrays; problems among them become events.
        transcriber: the loaded model, from `stt.load`.
        sample_rate: Hz of the source.
        pace: other than what suits the transcriber's settings.
    """
    session = LiveSession(SpeechProbability(), pace or pace_for(transcriber))
    guarded, english = guarded_for(transcriber, session), transcriber.english_only
    return Live(source, guarded, sample_rate, session, english_only=english)


def guarded_for(transcriber: ModelTranscriber, session: LiveSession) -> GuardedRecognizer:
    """Return the transcriber's recogniser, which falls back, as a session needs it."""
    recognizer = transcriber.recognizer.hasty(lambda: session.in_vain)
    return transcriber.guarded(recognizer)


def pace_for(transcriber: ModelTranscriber) -> Pace:
    """Return the pace that suits a model and its settings.

    A model without word times needs more before a word may stand: where a word ends is a guess
    then, and of ten speakers' 13 minutes 80 words of 1,459 were heard otherwise in the end, as
    against 25 of 1,051 (docs/measurements/live.md).
    """
    cutting = transcriber.cutting
    window_s = min(Pace().window_s, cutting.max_utterance_s)
    pace = Pace(window_s=window_s, threshold=cutting.vad_threshold, batch_size=cutting.batch_size)
    if not transcriber.recognizer.tells_words:
        pace = replace(pace, needed=3, margin_s=2.0)
    return pace


class Listening:
    """The events of one microphone; iterate over it once. Made by `stt.live`."""

    def __init__(
        self, loaded: ModelTranscriber, device: str | int | None, record: Path | None
    ) -> None:
        self.transcriber = Transcriber(loaded)
        """The loaded model, with its name and the precision chosen."""
        self._loaded = loaded
        self._microphone = Microphone(device, keep=record)

    def __iter__(self) -> Iterator[Event]:
        """Open the microphone and yield what is heard, until `stop`. Leaving the loop closes it.

        Raises:
            AudioError: the microphone cannot be opened.
            ModelError: the model gives nothing usable, and no FP32 takes over.
            OutputError: the recording cannot be made or kept.
        """
        with self._microphone as microphone:
            try:
                yield from live(microphone.blocks(), self._loaded, microphone.rate)
            except GeneratorExit:  # the caller has heard enough: no failure, so nothing is kept
                return

    def stop(self) -> None:
        """Hear no more: what is being said is finished, then the events end. For any thread."""
        self._microphone.stop()
