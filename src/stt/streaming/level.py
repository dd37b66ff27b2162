"""How loud it is: told a few times a second, and made louder for the live VAD's ears only.

A recording is levelled with a look at what follows (`stt.audio.conditioning`), and live utterances
once they are there; the VAD has to hear speech in its first frame.

Silero misses some quiet speech altogether. Of digits of two speakers joined without pauses (FSDD, 8
kHz, about -38 dB full scale, 138 s) it took 2 % of the frames for speech, and 78 % when they were
raised like this. Level is not all of it: two minutes of LibriSpeech lowered by 30 dB lose little
(75 to 73 % of the frames), and this restores that. Of five minutes of recorded noise it took
nothing either way. Why those digits need it is not known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from stt.audio.segmenter import levels
from stt.events import Level
from stt.types import Samples

_LEVEL_FRAMES = 3
"""Frames (96 ms) a Level tells of."""


@dataclass(slots=True)
class Meter:
    """Sums up the level of a few frames."""

    rms_db: list[float] = field(default_factory=list)
    peak: float = 0.0
    speech: float = 0.0

    def add(self, frame: Samples, rms_db: float, speech: float) -> bool:
        """Take a frame; tell whether there are enough."""
        self.rms_db.append(rms_db)
        self.peak = max(self.peak, float(np.abs(frame).max()))
        self.speech = max(self.speech, speech)
        return len(self.rms_db) == _LEVEL_FRAMES

    def read(self, at: float, lag_s: float) -> Level:
        """Return the level and begin anew."""
        power = sum(10 ** (value / 10) for value in self.rms_db) / len(self.rms_db)
        level = Level(
            at,
            max(10 * float(np.log10(power)), -100.0),
            20 * float(np.log10(max(self.peak, 1e-5))),
            self.speech,
            lag_s,
        )
        self.rms_db, self.peak, self.speech = [], 0.0, 0.0
        return level


_TARGET_DB = -20.0
"""Level (dB full scale, of a frame) to which the loudest frames are raised; none is lowered."""
_MOST_DB = 30.0
"""More would make a quiet room's noise as loud as speech."""
_REMEMBERED = 125
"""Frames (4 s) among which the loudest are looked for: a quiet word follows a loud bang soon."""
_LOUDEST = 0.95
"""Quantile that stands for them: what is shorter than 0.2 s, such as a bang, does not count."""


class Gain:
    """Amplifies consecutive frames of one stream; whatever the size of the batches."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def __call__(self, frames: Samples) -> Samples:
        """Return float32 frames [n, 512] amplified, within ±1."""
        gains = [self._next(float(level)) for level in levels(frames)]
        factors = np.array(gains, np.float32).reshape(-1, 1)
        return np.asarray(np.clip(frames * factors, -1.0, 1.0), np.float32)

    def _next(self, level: float) -> float:
        """Return the factor for a frame of this level; a loud one is never overdriven."""
        self._recent.append(level)
        loudest = sorted(self._recent)[int(_LOUDEST * (len(self._recent) - 1))]
        missing = _TARGET_DB - max(loudest, level)
        return float(10 ** (min(max(missing, 0.0), _MOST_DB) / 20))
