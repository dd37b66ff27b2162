"""What is said, in items: from the utterances of a live session to turns that clients know.

An item is what lies between the beginning of speech and its end, or between two commits of the
client. It has as many utterances as fall into it: one where the server finds the end of speech and
nobody speaks for long; several where long speech was cut, so that words carried over a cut stay
in one item, or where a client commits two sentences at once. Its text only grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from stt.audio.segmenter import DOUBT
from stt.events import Committed, Draft, Final
from stt.streaming.jobs import Pace
from stt.streaming.session import LiveSession
from stt.transcript import Segment


@dataclass(frozen=True, slots=True)
class Endpointing:
    """Who ends items, and how."""

    by_client: bool = False
    """Whether the client does; else silence."""
    threshold: float = 0.5
    patience_s: float | None = None
    """See `Pace`."""

    def pace(self, pace: Pace) -> Pace:
        """Return a pace with it.

        Where the client says what is an utterance it has heard something there: what is no certain
        silence is speech.
        """
        share = DOUBT if self.by_client else 1.0
        return replace(pace, threshold=self.threshold * share, patience_s=self.patience_s)


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody speaks."""

    item: int
    at: float
    """Seconds, pre-roll included."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An item has all its audio."""

    item: int
    at: float | None
    """Where speech ended, in seconds, tail included; None: the client ended the item."""


@dataclass(frozen=True, slots=True)
class Said:
    """More words of an item, that will not change; with the space before them."""

    item: int
    text: str


@dataclass(frozen=True, slots=True)
class Drafted:
    """Words behind those, that may."""

    item: int
    said: str
    draft: str


@dataclass(frozen=True, slots=True)
class Completed:
    """All of an item is known."""

    item: int
    text: str
    """All of its `Said`."""
    start: float
    end: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """Not all of an item can be known."""

    item: int
    error: Exception


TurnEvent: TypeAlias = Began | Ended | Said | Drafted | Completed | Failed


@dataclass(slots=True)
class _Item:
    number: int
    first: int
    """Number of its first utterance."""
    start: float
    end: float = 0.0
    last: int | None = None
    """Number of its last utterance, less than `first` where it has none; None: it goes on."""
    settled: str = ""
    """The finals' text so far."""
    said: str = ""
    segments: list[Segment] = field(default_factory=list)
    error: Exception | None = None
    dropped: bool = False


class Turns:
    """Of one live session, which `look`, `commit` and `drop` are told of after each feed."""

    def __init__(self) -> None:
        self.by_client = False
        """Whether the client ends items, and not the end of speech."""
        self._items: deque[_Item] = deque()
        self._count = 0
        self._given = 0  # number of the last utterance of the last item that has ended
        self._settled = 0  # number of the last final

    @property
    def is_open(self) -> bool:
        """Whether an item goes on."""
        return self._open is not None

    @property
    def _open(self) -> _Item | None:
        return self._items[-1] if self._items and self._items[-1].last is None else None

    def begin(self, at: float) -> None:
        """Have an item go on that the client will end; `at`: where it begins."""
        if self._open is None:
            self._new(at)

    def look(self, session: LiveSession) -> Iterator[TurnEvent]:
        """Yield what begins and ends with what was just fed, less than half a second."""
        if self.by_client:
            return
        speaking, item = session.speaking, self._open
        if item is not None:
            ended = session.utterances >= item.first and not (speaking and speaking.goes_on)
            if speaking is None or (ended and speaking.number > item.first):
                yield from self._end(item, session, session.ended_s)
                item = None
        if item is None and speaking is not None and speaking.is_speech:
            yield Began(self._new(speaking.start).number, speaking.start)

    def commit(self, session: LiveSession, start: float, end: float) -> Iterator[TurnEvent]:
        """End the item that goes on, after a flush, or one without speech, between these."""
        item = self._open or self._new(start)
        item.end = end
        yield from self._end(item, session, None)

    def finish(self, session: LiveSession, end: float) -> Iterator[TurnEvent]:
        """End what goes on at the end of the stream, `end`, after a flush."""
        if item := self._unended(session):
            item.end = end
            yield from self._end(item, session, None if self.by_client else session.ended_s)

    def drop(self, session: LiveSession) -> None:
        """Forget the item that goes on, after a flush."""
        if item := self._unended(session):
            item.dropped = True
            list(self._end(item, session, None))

    def take(self, event: Draft | Committed | Final) -> Iterator[TurnEvent]:
        """Yield what an event says of its item."""
        item = self._of(event.number)
        assert item is not None, "every utterance is of an item"
        if isinstance(event, Final):
            self._settled = event.number
            item.segments += event.segments
            item.settled = _joined(item.settled, event.text)
            yield from self._say(item, _joined(item.settled, event.carried))
            yield from self._completed()
        elif isinstance(event, Committed):
            yield from self._say(item, _joined(item.said, event.text))
        elif not item.dropped:
            yield Drafted(item.number, item.said, event.text)

    def fail(self, number: int, error: Exception) -> None:
        """Note, before its final, that an utterance could not be recognised."""
        if item := self._of(number):
            item.error = error

    def _unended(self, session: LiveSession) -> _Item | None:
        if self._open is None and session.utterances > self._given:
            return self._new(session.ended_s)
        return self._open

    def _new(self, at: float) -> _Item:
        self._count += 1
        self._items.append(_Item(self._count, self._given + 1, at))
        return self._items[-1]

    def _end(self, item: _Item, session: LiveSession, at: float | None) -> Iterator[TurnEvent]:
        item.last = self._given = session.utterances
        if at is not None:
            item.end = max(at, item.start)
        if not item.dropped:
            yield Ended(item.number, at)
        yield from self._completed()

    def _of(self, number: int) -> _Item | None:
        for item in self._items:
            if item.first <= number and (item.last is None or number <= item.last):
                return item
        return None

    def _say(self, item: _Item, whole: str) -> Iterator[Said]:
        assert whole.startswith(item.said)
        more, item.said = whole[len(item.said) :], whole
        if more and not item.dropped:
            yield Said(item.number, more)

    def _completed(self) -> Iterator[TurnEvent]:
        while self._items:
            item = self._items[0]
            if item.last is None or item.last > self._settled:
                return
            self._items.popleft()
            if item.dropped:
                continue
            if item.error is not None:
                yield Failed(item.number, item.error)
            else:
                segments = tuple(item.segments)
                yield Completed(item.number, item.said, item.start, item.end, segments)


def _joined(before: str, behind: str) -> str:
    return f"{before} {behind}" if before and behind else before or behind
