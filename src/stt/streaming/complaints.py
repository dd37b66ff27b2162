"""What is told of the recognising of a live session, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stt.engine.fallback import Fallback
from stt.events import Event, Final, Problem
from stt.text.hallucination import NOT_ENGLISH, Likelihood

_ENOUGH_WORDS = 20
"""Words of finals from which on it is told that they are improbable."""


class Complaints:
    """Of one session."""

    def __init__(self, *, english_only: bool) -> None:
        """`english_only`: the model writes English whatever is spoken."""
        self._likelihood = Likelihood() if english_only else None  # None too once told
        self._fell_back = False

    def about(self, fallback: Fallback | None, events: Iterable[Event]) -> Iterator[Problem]:
        """Yield what is to be told behind these events; `fallback` is the recogniser's."""
        if fallback is not None and not self._fell_back:
            self._fell_back = True
            yield Problem(fallback.at, "fallback", str(fallback))
        for event in events:
            if isinstance(event, Final) and self._likelihood is not None:
                self._likelihood.take(event.segments)
                if self._likelihood.words >= _ENOUGH_WORDS and self._likelihood.is_improbable:
                    self._likelihood = None
                    yield Problem(event.end, "improbable", NOT_ENGLISH)
