"""Utterances of a live session: the one being spoken, and those that wait for their final text."""

from __future__ import annotations

from dataclasses import dataclass

from stt.audio.utterances import Utterance
from stt.streaming.agreement import Agreement
from stt.streaming.endpoint import Ended


@dataclass(slots=True)
class Waiting:
    """An utterance that has ended and has no final text yet."""

    number: int
    ended: Ended
    utterance: Utterance
    agreement: Agreement
    wall: float
    """The driver's clock at the endpoint."""
    skipped: float
    """Seconds of the stream that were lost before it."""


@dataclass(slots=True)
class Spoken:
    """The utterance being spoken."""

    number: int
    agreement: Agreement
    due: float
    """When, on the driver's clock, the next partial may begin."""
    tried: tuple[int, int] | None = None
    """Frames [start, end) of the last trial asked for."""
    shown: bool = False
    """Whether there was a draft of it."""


@dataclass(frozen=True, slots=True)
class Speaking:
    """The utterance being spoken."""

    number: int
    start: float
    """Seconds, pre-roll included."""
    is_speech: bool
    """Whether it is more than a click already."""
    goes_on: bool
    """Whether the one before was cut where it begins, because it was long."""
