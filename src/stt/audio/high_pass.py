"""What of a sound lies above 100 Hz, and whether anything lies below it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from stt.audio.vad import FRAME
from stt.types import SAMPLE_RATE, Samples

CORNER = 100.0
"""Hz, at which the level is 3 dB lower; 24 dB less an octave below."""
_TAPS = 1024
"""Length of the impulse response in samples (0.064 s): what is cut off is below 1e-6."""
MEMORY = _TAPS - 1
"""Samples that the filter looks back."""
_QUALITIES = (0.541196100146197, 1.3065629648763766)
"""Q of the two second-order sections of a Butterworth filter of the fourth order."""
_LITTLE, _LOUD_ENOUGH, _ENOUGH_FRAMES = 0.05, 10**-2.5, 16
"""Where so small a share lies below 100 Hz of sound so loud (mean square), in so many frames, its
power is taken for that of what lies above, at most 0.2 dB lower: filtering would cost most of all
that is done to a sound."""
_DECIMATION = 16
_MEAN = np.full(_DECIMATION, 1 / _DECIMATION, np.float32)


class Stretch:
    """Frames, float32 [n, 512], and what of them lies above 100 Hz."""

    def __init__(self, frames: Samples, before: Samples) -> None:
        """`before`: the samples before them that the filter looks back on."""
        self.frames, self._before = frames, before
        self._above: Samples | None = None

    @property
    def above(self) -> Samples:
        """Filtered when it is first asked for."""
        if self._above is None:
            found = filtered(self._before, self.frames.reshape(-1))
            self._above = found.reshape(self.frames.shape)
        return self._above

    @property
    def powers(self) -> tuple[Samples, Samples]:
        """Mean square of each frame, and of what of it lies above 100 Hz, float32 [n]."""
        all_of_it = _powers(self.frames)
        loud = len(all_of_it) >= _ENOUGH_FRAMES and all_of_it.max() > _LOUD_ENOUGH
        if loud and low_share(self.frames.reshape(-1)) <= _LITTLE:
            return all_of_it, all_of_it
        return all_of_it, _powers(self.above)


def at_rest(samples: Samples) -> Samples:
    """Return what is taken to have been before the first samples of a stream: its first for ever.

    So an offset is no step.
    """
    return np.full(MEMORY, samples[0], np.float32)


def remembered(before: Samples, samples: Samples) -> Samples:
    """Return the last MEMORY samples of a stream, `samples` behind `before`."""
    if len(samples) >= MEMORY:
        return samples[len(samples) - MEMORY :]
    return np.concatenate([before, samples])[-MEMORY:]


def filtered(before: Samples, samples: Samples) -> Samples:
    """Return samples, float32 [n], without what is below 100 Hz; `before`: the MEMORY before them.

    A causal Butterworth high-pass of the fourth order, applied as its impulse response by FFT
    (overlap-save), as NumPy has no recursive filter. Telephones pass nothing below 300 Hz, and
    models and VAD hear them: the lowest harmonic of a deep voice is not missed.
    """
    whole = np.concatenate([before, samples])
    size = 1 << (len(whole) - 1).bit_length()
    found = np.fft.irfft(np.fft.rfft(whole, size) * _response(size), size)
    return np.asarray(found[MEMORY : len(whole)], np.float32)


def low_share(samples: Samples) -> float:
    """Estimate the share of the power of samples, float32 [n], that lies below 100 Hz: 0 to 1.

    Of a second or so. They are looked at at 1 kHz, as means of 16: what lies around 1 kHz, of which
    100 Hz are made then, is lower by 20 dB or more.
    """
    power = float(np.dot(samples, samples))
    if not power:
        return 0.0
    whole = len(samples) // _DECIMATION * _DECIMATION
    means = samples[:whole].reshape(-1, _DECIMATION) @ _MEAN
    spectrum = np.fft.rfft(means)
    low = spectrum[: 1 + math.ceil(CORNER * whole / SAMPLE_RATE)]
    below = 2 * float(np.vdot(low, low).real) - abs(complex(low[0])) ** 2
    return min(1.0, below * _DECIMATION / len(means) / power)


def _powers(frames: Samples) -> Samples:
    """Return the mean square of each of float32 frames [n, 512], float32 [n]."""
    return np.asarray(np.einsum("ij,ij->i", frames, frames) / FRAME)


@cache
def _response(size: int) -> npt.NDArray[np.complex64]:
    return np.asarray(np.fft.rfft(_impulse_response(), size), np.complex64)


@cache
def _impulse_response() -> npt.NDArray[np.float64]:
    """The two sections by the bilinear transform, as in the Audio EQ Cookbook."""
    size = 32 * _TAPS  # so long that nothing of its end folds back
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    angle = 2 * math.pi * CORNER / SAMPLE_RATE
    response = np.ones_like(delay)
    for quality in _QUALITIES:
        alpha, cosine = math.sin(angle) / (2 * quality), math.cos(angle)
        below = 1 + alpha - 2 * cosine * delay + (1 - alpha) * delay**2
        response *= (1 + cosine) / 2 * (1 - delay) ** 2 / below
    taps = np.asarray(np.fft.irfft(response, size)[:_TAPS], np.float64)
    taps[0] -= taps.sum()  # nothing of an offset is left
    return taps
