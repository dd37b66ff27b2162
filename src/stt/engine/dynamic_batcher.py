"""Utterances that several threads hand over, recognised together.

Nobody waits for a batch to fill: as soon as the recogniser's first stage is free, it takes what
there is, and what comes meanwhile is the next batch. So batches are as large as the recogniser is
slow.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from stt.engine.recognizer import Recognizer, Speech
from stt.engine.stages import Line
from stt.errors import NonFiniteOutput
from stt.transcript import Segment
from stt.types import Samples


@dataclass(frozen=True, slots=True)
class _Request:
    batch: Sequence[Samples]
    speech: Sequence[Speech]
    """Of each utterance; empty where it is not known."""
    leads: Future[bool] = field(default_factory=Future)
    """Whether its thread is to recognise a batch, this request first; else another's does."""
    answer: Future[list[list[Segment]]] = field(default_factory=Future)


class DynamicBatcher:
    """A `Recognizer` for many threads, over one that works best on many utterances at once."""

    def __init__(self, inner: Recognizer, most: int, streams: int | None = None) -> None:
        """Stand before `inner`, which nobody else is to call.

        Args:
            inner: the recogniser.
            most: utterances recognised together; a caller's own batch is never cut.
            streams: threads that call it for one recording; None: as many as `most`.
        """
        self._inner, self._most = inner, most
        self._streams = streams or most
        self._line = Line(inner)
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._entered = False  # whether a batch is led, or in the first stage
        self._withdrawn: Exception | None = None

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._inner.provider

    @property
    def tells_words(self) -> bool:
        """See Recognizer."""
        return self._inner.tells_words

    @property
    def streams(self) -> int:
        """See Recognizer."""
        return self._streams

    @property
    def stages(self) -> int:
        """Batches that are under way at once."""
        return self._line.length

    def hasty(self, _: Callable[[], bool]) -> DynamicBatcher:
        """Return this one; see Recognizer."""
        return self

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise, with what other threads hand over; see Recognizer."""
        request = _Request(batch, speech or [()] * len(batch))
        with self._lock:
            if self._withdrawn is not None:
                raise self._withdrawn
            self._waiting.append(request)
            self._call_in()
        if request.leads.result():
            with self._lock:
                together = self._next()
            if together:
                self._answer(together, self._let_in)
        return request.answer.result()

    def withdraw(self, why: Exception) -> None:
        """Recognise no more than is under way; who waits, or comes later, has this error."""
        with self._lock:
            self._withdrawn = why
            waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            if not request.leads.done():
                request.leads.set_result(False)
            request.answer.set_exception(why)

    def _call_in(self) -> None:
        """Have whoever waits longest lead the next batch, where the first stage is free."""
        if self._waiting and not self._entered:
            self._entered = True
            self._waiting[0].leads.set_result(True)

    def _let_in(self) -> None:
        with self._lock:
            self._entered = False
            self._call_in()

    def _next(self) -> list[_Request]:
        """Take requests off the queue, as many as go together; none where they are withdrawn."""
        if not self._waiting:
            return []
        taken = [self._waiting.popleft()]
        size = len(taken[0].batch)
        while self._waiting and size + len(self._waiting[0].batch) <= self._most:
            taken.append(self._waiting.popleft())
            taken[-1].leads.set_result(False)
            size += len(taken[-1].batch)
        return taken

    def _answer(self, together: list[_Request], went_on: Callable[[], None]) -> None:
        """Hand the results out; one that collapses has its error, the others go on."""
        try:
            found = self._line.recognize(
                [one for request in together for one in request.batch],
                [one for request in together for one in request.speech],
                went_on,
            )
        except NonFiniteOutput as error:
            owner, error.index = _owner(together, error.index)
            together[owner].answer.set_exception(error)
            if rest := together[:owner] + together[owner + 1 :]:
                self._answer(rest, lambda: None)
            return
        except BaseException as error:  # noqa: BLE001 - raised by every caller, from its own future
            for request in together:
                request.answer.set_exception(error)
            return
        for request in together:
            request.answer.set_result(found[: len(request.batch)])
            found = found[len(request.batch) :]


def batches_in_stages(recognizer: Recognizer, most: int) -> DynamicBatcher:
    """Return a recogniser for one recording's batches, as many threads as it has stages."""
    return DynamicBatcher(recognizer, most, Line(recognizer).length)


def _owner(together: list[_Request], index: int) -> tuple[int, int]:
    """Whose utterance has this place in the whole batch, and its place in its own."""
    for owner, request in enumerate(together):
        if index < len(request.batch):
            return owner, index
        index -= len(request.batch)
    raise IndexError(index)
