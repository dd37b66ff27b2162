"""What a live session tells, in order. Frozen; times are seconds since the stream began.

Read as text, the stream only ever grows. It is the finals' texts, then the words committed since:
`Committed` appends to it, and `Final.text` with `Final.carried` begins with all that was committed
and not yet final. `Draft` lies behind it and may change or vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from stt.transcript import Segment


@dataclass(frozen=True, slots=True)
class Level:
    """How loud it is, about ten times a second."""

    at: float
    """End of the stretch measured."""
    rms_db: float
    """dB full scale, -100 for digital silence."""
    peak_db: float
    """dB full scale, -100 for digital silence."""
    speech: float
    """Highest probability of speech in the stretch, 0 to 1."""
    lag_s: float
    """How long the oldest utterance that has ended waits for its final text; 0: none waits."""


@dataclass(frozen=True, slots=True)
class State:
    """What the session is doing, told when it changes."""

    at: float
    name: Literal["listening", "speech", "thinking"]
    """`thinking`: nobody speaks, and a final text is being worked out."""


@dataclass(frozen=True, slots=True)
class Draft:
    """How the utterance being spoken reads now; the next Draft or Final replaces it."""

    at: float
    """End of the audio it is made from."""
    number: int
    """Which utterance, from 1."""
    committed: str
    """All words of this utterance that stand already."""
    text: str
    """The words behind them, which may change."""
    latency_s: float
    """Seconds from the utterance's first moment of speech until this draft was there."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Words that will not change any more."""

    at: float
    """End of the audio they were settled from."""
    number: int
    """Which utterance, from 1."""
    text: str
    """The new words only."""


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance is settled."""

    number: int
    """Which utterance, from 1; they come in order and none is left out."""
    start: float
    end: float
    """The audio recognised, pre-roll and tail included."""
    speech_end: float
    """End of the last moment of speech."""
    endpoint: float
    """When enough silence had passed to call it ended (or the window was full)."""
    segments: tuple[Segment, ...]
    """Its segments; their joined text is `text`."""
    text: str
    """Empty where nothing was said after all."""
    latency_s: float
    """Seconds from `endpoint` until this was there."""
    disagreements: int = 0
    """Committed words that the final decoding hears otherwise; they stand as committed."""
    carried: str = ""
    """Words committed under this number that belong to the next utterance (only at a seam)."""
    seam: bool = False
    """Whether speech went on: it was cut because it was long, not because it ended."""
    suppressed: str = ""
    """What the final decoding made of noise; it was left out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the user should know, told once per episode; the session goes on."""

    at: float
    """Seconds from the first sample."""
    kind: str
    """A short name: one of `stt.audio.sound_check.Trouble`, fallback or improbable."""
    message: str
    """One line: what is wrong and what to do."""


Event: TypeAlias = Level | State | Draft | Committed | Final | Problem
