"""A causal high-pass at 100 Hz: offsets, hum and rumble out, speech in.

A Butterworth filter of the fourth order, as its impulse response, which is over after 0.06 s: it is
applied by FFT (overlap-save), as NumPy has no recursive filter. Telephones pass nothing below 300
Hz, and models and VAD hear them: the lowest harmonic of a deep voice is not missed.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from stt.types import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

CORNER = 100.0
"""Hz, at which the level is 3 dB lower; 24 dB less an octave below."""
_TAPS = 1024
"""Length of the impulse response in samples (0.064 s): what is cut off is below 1e-6."""
_QUALITIES = (0.541196100146197, 1.3065629648763766)
"""Q of the two second-order sections of a Butterworth filter of the fourth order."""


class HighPass:
    """The filter with its memory; call it with consecutive samples of one stream at 16 kHz."""

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float64] | None = None

    def __call__(self, samples: Samples) -> Samples:
        """Return float32 [n] filtered, without delay; the stream is taken to begin at rest.

        At rest means that its first sample was there for ever: an offset is no step.
        """
        if not len(samples):
            return samples
        if self._before is None:
            self._before = np.full(_TAPS - 1, samples[0], np.float64)
        whole = np.concatenate([self._before, samples])
        self._before = whole[-(_TAPS - 1) :]
        size = 1 << (len(whole) - 1).bit_length()
        filtered = np.fft.irfft(np.fft.rfft(whole, size) * _response(size), size)
        return np.asarray(filtered[_TAPS - 1 : len(whole)], np.float32)


@cache
def _response(size: int) -> npt.NDArray[np.complex128]:
    return np.asarray(np.fft.rfft(_impulse_response(), size), np.complex128)


@cache
def _impulse_response() -> npt.NDArray[np.float64]:
    """The sections one after the other (bilinear transform, as in the Audio EQ Cookbook)."""
    values = [1.0] + [0.0] * (_TAPS - 1)
    angle = 2 * math.pi * CORNER / SAMPLE_RATE
    for quality in _QUALITIES:
        alpha, cosine = math.sin(angle) / (2 * quality), math.cos(angle)
        ends, middle = (1 + cosine) / (2 * (1 + alpha)), -(1 + cosine) / (1 + alpha)
        back1, back2 = -2 * cosine / (1 + alpha), (1 - alpha) / (1 + alpha)
        x1 = x2 = y1 = y2 = 0.0
        out: list[float] = []
        for x in values:
            y = ends * (x + x2) + middle * x1 - back1 * y1 - back2 * y2
            x1, x2, y1, y2 = x, x1, y, y1
            out.append(y)
        values = out
    taps = np.array(values)
    taps[0] -= taps.sum()  # nothing of an offset is left
    return taps
