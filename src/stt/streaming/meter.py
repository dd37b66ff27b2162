"""How loud a live stream is: frames in, a Level about ten times a second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stt.events import Level
from stt.types import Samples

_FRAMES = 3
"""Frames (96 ms) that a Level sums up."""


class Meter:
    """Sums up frames as they were captured."""

    def __init__(self) -> None:
        self._frames: list[tuple[float, float, float]] = []  # dB, peak, speech of a frame each

    def push(
        self, frame: Samples, level: float, speech: float, at: Callable[[], tuple[float, float]]
    ) -> Level | None:
        """Take a frame, float32 [512], its level in dB full scale and its probability of speech.

        Returns a Level with every third; `at` gives its time and lag in seconds.
        """
        self._frames.append((level, float(np.abs(frame).max()), speech))
        if len(self._frames) < _FRAMES:
            return None
        levels, peaks, probabilities = zip(*self._frames, strict=True)
        self._frames.clear()
        power = sum(10 ** (value / 10) for value in levels) / _FRAMES
        seconds, lag_s = at()
        return Level(
            seconds,
            max(10 * float(np.log10(power)), -100.0),
            20 * float(np.log10(max(*peaks, 1e-5))),
            max(probabilities),
            lag_s,
        )
