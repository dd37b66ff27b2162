"""The level of the sound, a few frames at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stt.events import Level

Samples = npt.NDArray[np.float32]

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
