"""What a live session asks of the recogniser, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stt.audio.utterances import Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a session cuts, drafts and commits."""

    window_s: float = 15.0
    """Longest utterance: speech that goes on is cut there, in its quietest place."""
    threshold: float = 0.5
    """Probability from which a frame counts as speech."""
    patience_s: float | None = None
    """Seconds of silence that end an utterance; None: as this speaker's pauses ask for."""
    batch_size: int = 4
    """Finals recognised together when several wait."""
    first_s: float = 0.3
    """Seconds into speech of the first partial."""
    every_s: float = 0.3
    """Seconds between the beginnings of two partials, at least."""
    share: float = 0.5
    """Most of the time that partials may take."""
    needed: int = 2
    """Successive hypotheses that must agree on a word to commit it."""
    margin_s: float = 1.0
    """Seconds before the edge of the audio in which no word is committed."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to recognise; `utterances` go to the recogniser together."""

    kind: Literal["final", "trial", "partial"]
    """A trial hears an utterance as it will be if the present silence turns out to be its end."""
    number: int
    """Of the first utterance."""
    utterances: tuple[Utterance, ...]
    began: float
    """When it was asked for, on the driver's clock."""
