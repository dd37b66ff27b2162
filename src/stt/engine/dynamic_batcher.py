"""Utterances that several threads hand over, recognised together.

Nobody waits for a batch to fill: whoever comes first recognises what there is, and what comes
meanwhile is the next batch. So batches are as large as the recogniser is slow.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from stt.engine.recognizer import Recognizer, Speech
from stt.errors import NonFiniteOutput
from stt.transcript import Segment
from stt.types import Samples


@dataclass(frozen=True, slots=True)
class _Request:
    batch: Sequence[Samples]
    speech: Sequence[Speech]
    """Of each utterance; empty where it is not known."""
    answer: Future[list[list[Segment]]]


class DynamicBatcher:
    """A `Recognizer` for many threads, over one that works best on many utterances at once."""

    def __init__(self, inner: Recognizer, most: int) -> None:
        """`most`: utterances recognised together; a caller's own batch is never cut."""
        self._inner, self._most = inner, most
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._busy = False

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
        """See Recognizer: one caller for each utterance of a batch."""
        return self._most

    def hasty(self, _: Callable[[], bool]) -> DynamicBatcher:
        """Return this one; see Recognizer."""
        return self

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise, with what other threads hand over; see Recognizer."""
        request = _Request(batch, speech or [()] * len(batch), Future())
        with self._lock:
            self._waiting.append(request)
            leads, self._busy = not self._busy, True
        while leads:
            with self._lock:
                together = self._next()
                self._busy = leads = bool(together)
            if together:
                self._answer(together)
        return request.answer.result()

    def _next(self) -> list[_Request]:
        """Take requests off the queue, as many as may go together."""
        taken: list[_Request] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].batch) <= self._most):
            taken.append(self._waiting.popleft())
            size += len(taken[-1].batch)
        return taken

    def _answer(self, together: list[_Request]) -> None:
        """Hand the results out; one that collapses has its error, the others go on."""
        try:
            found = self._inner.recognize(
                [one for request in together for one in request.batch],
                [one for request in together for one in request.speech],
            )
        except NonFiniteOutput as error:
            owner, error.index = _owner(together, error.index)
            together[owner].answer.set_exception(error)
            if rest := together[:owner] + together[owner + 1 :]:
                self._answer(rest)
            return
        except BaseException as error:  # noqa: BLE001 - raised by every caller, from its own future
            for request in together:
                request.answer.set_exception(error)
            return
        for request in together:
            request.answer.set_result(found[: len(request.batch)])
            found = found[len(request.batch) :]


def _owner(together: list[_Request], index: int) -> tuple[int, int]:
    """Whose utterance has this place in the whole batch, and its place in its own."""
    for owner, request in enumerate(together):
        if index < len(request.batch):
            return owner, index
        index -= len(request.batch)
    raise IndexError(index)
