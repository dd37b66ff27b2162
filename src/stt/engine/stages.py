"""Batches on their way through a model, one in each stage.

While a card computes the encoder of one batch, the batch before is decoded and made words, and the
features of the next are computed: ONNX Runtime lets other threads work while a graph runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from stt.engine.recognizer import Recognizer, Speech
from stt.transcript import Segment
from stt.types import Samples

STAGES = 3
"""Features; encoder; decoding and words."""

T = TypeVar("T")
Stages = Generator[None, None, T]
"""A piece of work that yields after each of its first `STAGES - 1` stages."""


@runtime_checkable
class Staged(Protocol):
    """A recogniser of which several threads may be at work at once, each in another stage."""

    def in_stages(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> Stages[list[list[Segment]]]:
        """Recognise stage by stage; arguments, result and errors are those of `recognize`."""
        ...


def finished(stages: Stages[T]) -> T:
    """Go through all stages at once."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            found: T = end.value
            return found


class Line:
    """Takes batches through a recogniser, each in its caller's thread, never two in one stage.

    A batch stays in its stage until the next one is free. One that is not `Staged` is one stage.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        """`recognizer`: nobody else is to call it."""
        self._recognizer = recognizer
        self._stages = [threading.Lock() for _ in range(STAGES if self._is_staged else 1)]

    @property
    def _is_staged(self) -> bool:
        return isinstance(self._recognizer, Staged)

    @property
    def length(self) -> int:
        """How many batches it holds."""
        return len(self._stages)

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech], went_on: Callable[[], None]
    ) -> list[list[Segment]]:
        """Recognise; see Recognizer.

        `went_on` is called once, when the first stage is free for another, or nothing came of it.
        """
        here, *others = self._stages
        here.acquire()
        try:
            work = self._begun(batch, speech)
            for stage in others:
                next(work)
                stage.acquire()
                here.release()
                if here is self._stages[0]:
                    went_on()
                here = stage
            return finished(work)
        finally:
            here.release()
            if here is self._stages[0]:
                went_on()

    def _begun(
        self, batch: Sequence[Samples], speech: Sequence[Speech]
    ) -> Stages[list[list[Segment]]]:
        if isinstance(self._recognizer, Staged):
            return self._recognizer.in_stages(batch, speech)
        return self._whole(batch, speech)

    def _whole(
        self, batch: Sequence[Samples], speech: Sequence[Speech]
    ) -> Stages[list[list[Segment]]]:
        yield from ()
        return self._recognizer.recognize(batch, speech)
