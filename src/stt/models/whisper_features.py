"""Whisper's log-mel features in NumPy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_RATE", "WINDOW_SECONDS", "log_mel"]

SAMPLE_RATE = 16_000
WINDOW_SECONDS = 30
"""Whisper always sees this much; less is filled up with silence."""

_FFT = 400  # samples, 25 ms
_HOP = 160  # samples, 10 ms
_WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
_FRAMES = _WINDOW_SAMPLES // _HOP
_BLOCK = (
    60  # frames a product; small ones stay on one thread, waiting for a busy second one is slow
)
_FLOOR = 1e-10
_RANGE = 8.0  # decades below the loudest that are kept

Float32 = npt.NDArray[np.float32]


def log_mel(samples: Float32, mels: int = 80) -> Float32:
    """Features of one utterance: float32 [n] at 16 kHz, at most 30 s -> float32 [mels, 3000].

    The definition is `audio.py` of OpenAI's Whisper: reflected ends, a periodic Hann window, power
    spectrum, Slaney mel scale, logarithm, 8 decades below the utterance's loudest band, scaled. The
    silence behind the utterance is not transformed but filled in.

    Raises ValueError for more than 30 s.
    """
    if len(samples) > _WINDOW_SAMPLES:
        raise ValueError(f"{len(samples)} samples are more than Whisper's {WINDOW_SECONDS} s")
    half = _FFT // 2
    wave = np.zeros(_WINDOW_SAMPLES, np.float32)
    wave[: len(samples)] = samples
    wave = np.pad(wave, half, mode="reflect")
    touched = -(-(len(samples) + half) // _HOP)  # frames that hold something of the utterance
    sounding = min(_FRAMES, -(-touched // _BLOCK) * _BLOCK)

    frames = np.lib.stride_tricks.sliding_window_view(wave, _FFT)[: sounding * _HOP : _HOP]
    spectrum = np.fft.rfft(frames * _hann())
    power = (spectrum.real**2 + spectrum.imag**2).reshape(-1, _BLOCK, spectrum.shape[1])
    logs = np.full((mels, _FRAMES), np.log10(_FLOOR), np.float32)
    energies = (power @ _mel_bank(mels).T).reshape(sounding, mels)
    logs[:, :sounding] = np.log10(np.maximum(energies, _FLOOR)).T
    features: Float32 = (np.maximum(logs, logs.max() - _RANGE) + 4.0) / 4.0
    return features


@lru_cache(maxsize=1)
def _hann() -> Float32:
    return np.hanning(_FFT + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=2)
def _mel_bank(mels: int) -> Float32:
    """Triangles [mels, 201] of equal area over Slaney's mel scale, 0 to 8 kHz.

    Slaney, "Auditory Toolbox" (1998): linear to 1 kHz, 15 mels there, then 27 mels for each factor
    of 6.4.
    """
    break_mel, step = 15.0, np.log(6.4) / 27.0
    top = break_mel + np.log(SAMPLE_RATE / 2 / 1000.0) / step
    marks = np.linspace(0.0, top, mels + 2)
    edges = np.where(
        marks < break_mel, marks * 200 / 3, 1000.0 * np.exp(step * (marks - break_mel))
    )
    bins = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    widths = np.diff(edges)[:, None]
    slopes = edges[:, None] - bins
    triangles = np.maximum(0.0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    bank: Float32 = (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return bank
