"""What is wrong with a microphone's sound: levels, complaints, and sound that is missing.

Pure functions of what was captured and when; no device is needed to test them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np

from stt.types import Samples


class Trouble(Enum):
    """What can be wrong with the sound; the value is the `kind` of a Problem."""

    SILENCE = "digital silence"
    LOW = "level too low"
    CLIPPING = "clipping"
    OVERRUN = "overrun"
    NOT_A_MICROPHONE = "not a microphone"
    LOST = "device lost"
    BACK = "device back"
    RECORDING = "recording failed"


def message(kind: Trouble, name: str, about: object, rate: int) -> str:
    """One line for a problem of the device called `name`."""
    lost = f"{about / rate:.1f} s of sound" if isinstance(about, int) and about else "some sound"
    other = "or choose another microphone (`stt devices` lists them)"
    return {
        Trouble.SILENCE: f"'{name}' gives nothing but digital silence: it is muted or the wrong "
        f"device; unmute it and allow access to it, {other}",
        Trouble.LOW: f"'{name}' is hardly to be heard (peaks under -60 dB); raise its level in the "
        f"sound settings, come closer, {other}",
        Trouble.CLIPPING: f"'{name}' is too loud and distorts; lower its level in the sound "
        "settings or move away from it",
        Trouble.OVERRUN: f"{lost} was lost because the computer is too busy; close other programs",
        Trouble.NOT_A_MICROPHONE: f"'{name}' carries what the computer plays, not what you say; "
        "choose a microphone with --device (`stt devices` lists them)",
        Trouble.LOST: f"'{name}' is gone or silent; what was said is saved; plug it in again "
        "and go on",
        Trouble.BACK: f"listening again, to '{name}'",
        Trouble.RECORDING: str(about),
    }[kind]


SILENT_DB = -120.0
"""What digital zero is called in dB full scale."""
PATIENCE = 3.0
"""Seconds that something must be wrong before it is said."""
_SHOWN = 0.3
"""Seconds that the level shown looks back."""
_LOW_DB = -60.0
"""Peaks below this: it hears next to nothing."""
GOOD_DB = -45.0
"""Peaks from this on: it hears a voice, or something as loud."""
_CLIPPED = 0.99
_CLIPPED_SHARE = 0.001
"""Share of samples at full scale that can be heard as distortion."""
QUIET_AGAIN = 10.0
"""Seconds without clipping or overrun that end an episode of it."""
_MAX_SILENCES = 3
"""Silences told of: a device with a noise gate gives zeros in every pause."""
SETTLED_S = 5.0
"""Seconds after which sound that is late is taken for lost.

Long, because sound that a busy machine still brings after it was called lost would put the count
ahead of the wall clock for good: none is ever thrown away.
"""


@dataclass(frozen=True, slots=True)
class Level:
    """How loud it was over the last 0.3 s, in dB full scale."""

    rms_db: float = SILENT_DB
    peak_db: float = SILENT_DB


def decibels(value: float) -> float:
    """Return an amplitude in dB full scale."""
    return max(SILENT_DB, 20.0 * math.log10(value)) if value > 0 else SILENT_DB


@dataclass(frozen=True, slots=True)
class _Loudness:
    seconds: float
    power: float
    """Mean square."""
    peak: float
    clipped: float
    """Share of samples at full scale."""


class SoundCheck:
    """Takes the sound block by block; says what is wrong, once per episode."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.restart()

    def restart(self) -> None:
        """Begin anew, as with another device."""
        self._zeros = 0.0  # seconds of one constant value, without a break
        self._constant: float | None = None
        self._silences = 0
        self._low = 0.0
        self._good = False  # whether a voice, or something as loud, has been heard
        self._recent: deque[_Loudness] = deque()
        self._recent_s = 0.0
        self._since_clipping = math.inf
        self._present: set[Trouble] = set()

    @property
    def level(self) -> Level:
        """The level of the last 0.3 s."""
        seconds, power, peak = 0.0, 0.0, 0.0
        for entry in reversed(tuple(self._recent)):
            seconds += entry.seconds
            power += entry.power * entry.seconds
            peak = max(peak, entry.peak)
            if seconds >= _SHOWN:
                break
        rms = math.sqrt(power / seconds) if seconds else 0.0
        return Level(decibels(rms), decibels(peak))

    def push(self, samples: Samples) -> list[Trouble]:
        """Take float32 [n] mono; return what has just gone wrong, most often nothing."""
        if not len(samples):
            return []
        heard = self._measure(samples)
        found = [
            (Trouble.SILENCE, self._silent(samples, heard)),
            (Trouble.LOW, self._too_low(heard)),
            (Trouble.CLIPPING, self._clipping(heard)),
        ]
        new = [trouble for trouble, wrong in found if wrong and trouble not in self._present]
        self._present = {trouble for trouble, wrong in found if wrong}
        return new

    def _measure(self, samples: Samples) -> _Loudness:
        size = np.abs(samples)
        heard = _Loudness(
            seconds=len(samples) / self._rate,
            power=float(np.dot(samples, samples)) / len(samples),
            peak=float(size.max()),
            clipped=float(np.count_nonzero(size >= _CLIPPED)) / len(samples),
        )
        self._recent.append(heard)
        self._recent_s += heard.seconds
        while self._recent_s - self._recent[0].seconds >= PATIENCE:
            self._recent_s -= self._recent.popleft().seconds
        return heard

    def _silent(self, samples: Samples, heard: _Loudness) -> bool:
        """Zero, or any other constant: a converter without a signal may be off centre."""
        first = float(samples[0])
        if first != self._constant or np.any(samples != samples[0]):
            if self._zeros >= PATIENCE:
                self._silences += 1
            self._zeros = 0.0
            self._constant = float(samples[-1])
            if np.any(samples != samples[0]):
                return False
        self._zeros += heard.seconds
        return self._zeros >= PATIENCE and self._silences < _MAX_SILENCES

    def _too_low(self, heard: _Loudness) -> bool:
        """Next to nothing since it was opened; once a voice was heard, low is but a pause."""
        self._good |= decibels(heard.peak) >= GOOD_DB
        faint = decibels(heard.peak) < _LOW_DB and self._zeros == 0
        self._low = self._low + heard.seconds if faint else 0.0
        return self._low >= PATIENCE and not self._good

    def _clipping(self, heard: _Loudness) -> bool:
        self._since_clipping += heard.seconds
        clipped = sum(entry.clipped * entry.seconds for entry in self._recent)
        if self._recent_s >= PATIENCE and clipped / self._recent_s >= _CLIPPED_SHARE:
            self._since_clipping = 0.0
        return self._since_clipping < QUIET_AGAIN


class SampleClock:
    """Counts samples beside the wall clock, and finds those that went missing without a word.

    A block comes late rather than early, so the least lateness of the last seconds is how far the
    count truly lies behind. That grows slowly where two clocks differ; a jump is missing sound.
    """

    _JUMP = 0.25
    """Seconds behind that are called missing."""
    _SLOPE = 500e-6
    """Largest difference of two clocks; crystals differ by less than 100e-6."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.count = 0
        """Samples so far, those lost included."""
        self._began: float | None = None
        self._usual = math.inf  # seconds behind when nothing is missing
        self._usual_at = 0.0
        self._late_since: float | None = None  # since when every block was late
        self._least_late = math.inf  # seconds behind, since then

    def took(self, frames: int, at: float) -> int:
        """Note that `frames` more samples were there at `at` seconds of the wall clock.

        Returns the samples that must have been lost before them, most often 0; they are counted.
        """
        if self._began is None:
            self._began = self._usual_at = at
        behind = self._behind(frames, at)
        self._usual = min(self._usual + self._SLOPE * (at - self._usual_at), behind)
        self._usual_at = at
        lost = self._given_up(behind, at)
        self.count += lost + frames
        return lost

    def lose(self, samples: int) -> None:
        """Count samples that are known to be lost."""
        self.count += samples
        if samples:
            self._late_since = None

    def _given_up(self, behind: float, at: float) -> int:
        """Return the samples that have been late for so long that they are lost."""
        if behind - self._usual <= self._JUMP:
            self._late_since = None
            return 0
        if self._late_since is None:
            self._late_since, self._least_late = at, behind
        self._least_late = min(self._least_late, behind)
        if at - self._late_since < SETTLED_S:
            return 0
        self._late_since = None
        return round((self._least_late - self._usual) * self._rate)

    def missing(self, frames: int, at: float) -> int:
        """Return how many samples the wall clock has before `frames` that end at `at`.

        For after a silence of the device, when there is no sense in waiting for what is late.
        """
        if self._began is None or math.isinf(self._usual):
            return 0
        return max(0, round((self._behind(frames, at) - self._usual) * self._rate))

    def _behind(self, frames: int, at: float) -> float:
        assert self._began is not None
        return (at - self._began) - (self.count + frames) / self._rate
