"""Turn clean speech into what a microphone would deliver: noise, rooms, filters, levels, pauses.

All functions take and return float32 mono samples at 16 kHz in [-1, 1] and draw from a given
random generator, so that a seed reproduces every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
from bank import SAMPLE_RATE, read_audio
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import fftconvolve, lfilter

# Kept out of training, for the held-out test sets.
HELD_OUT_NOISES = ("noise3", "exercise_bike")


def seconds(duration_s: float) -> int:
    """Number of samples in a duration."""
    return round(duration_s * SAMPLE_RATE)


def power(samples: np.ndarray) -> float:
    """Mean square of the samples."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0


def active_power(samples: np.ndarray, block_s: float = 0.02) -> float:
    """Mean power of the blocks within 20 dB of the loudest: of the speech, without its pauses."""
    size = seconds(block_s)
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    powers = np.mean(blocks**2, axis=1)
    return float(powers[powers >= 0.01 * powers.max()].mean()) if powers.size else 0.0


def from_db(decibels: float) -> float:
    """Amplitude ratio of a level in dB."""
    return float(10.0 ** (decibels / 20.0))


class NoiseSource:
    """Noise of many kinds: coloured, mains hum, and cuts of recordings where a folder is given."""

    def __init__(self, recordings: Sequence[np.ndarray] = ()) -> None:
        """Use these recordings (16 kHz) besides the generated kinds."""
        self.recordings = list(recordings)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return `size` samples of one random kind of noise at unit power."""
        kind = rng.choice(["coloured", "hum", "recorded"], p=[0.5, 0.12, 0.38])
        if kind == "recorded" and self.recordings:
            noise = self._cut(size, rng)
        elif kind == "hum":
            noise = mains_hum(size, rng)
        else:
            noise = coloured_noise(size, rng)
        return (noise / np.sqrt(max(power(noise), 1e-12))).astype(np.float32)

    def _cut(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Cut a stretch from a random recording, repeating it where it is too short."""
        recording = self.recordings[rng.integers(len(self.recordings))]
        start = int(rng.integers(len(recording)))
        return np.resize(np.roll(recording, -start), size)


def load_noise(folder: Path | None, *, held_out: bool) -> NoiseSource:
    """Load the `*.flac` noises of a folder (not its `rir*` files) for training or for testing."""
    if folder is None:
        return NoiseSource()
    paths = [path for path in sorted(folder.glob("*.flac")) if not path.stem.startswith("rir")]
    chosen = [path for path in paths if (path.stem in HELD_OUT_NOISES) == held_out]
    return NoiseSource([read_audio(path) for path in chosen])


def coloured_noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with a power spectrum of f**-slope: white (0), pink (1), brown (2) and between."""
    slope = rng.uniform(-0.3, 2.2)
    fast_size = next_fast_len(size, real=True)
    spectrum = rfft(rng.standard_normal(fast_size, dtype=np.float32))
    frequencies = np.maximum(rfftfreq(fast_size, 1 / SAMPLE_RATE), 30.0).astype(np.float32)
    return irfft(spectrum * frequencies ** (-slope / 2), fast_size)[:size]


def mains_hum(size: int, rng: np.random.Generator) -> np.ndarray:
    """50 or 60 Hz with falling harmonics over a weak noise floor."""
    base = rng.choice([50.0, 60.0]) * rng.uniform(0.995, 1.005)
    turns = base * np.arange(size) / SAMPLE_RATE % 1.0
    hum = 10.0 ** rng.uniform(-3.0, -0.7) * rng.standard_normal(size, dtype=np.float32)
    for harmonic in range(1, int(rng.integers(2, 9))):
        cycle = np.sin(2 * np.pi * (harmonic * turns + rng.random())).astype(np.float32)
        hum += rng.uniform(0.2, 1.0) / harmonic * cycle
    return hum


def add_noise(
    samples: np.ndarray, speech_power: float, snr_db: float, noise: np.ndarray
) -> np.ndarray:
    """Add unit-power noise at an SNR against the mean power of the spoken parts."""
    return samples + noise * np.float32(np.sqrt(max(speech_power, 1e-10)) * from_db(-snr_db))


def resample_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times as fast: pitch and formants move with the speed."""
    return soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="MQ")


def band_limit(samples: np.ndarray, rate: int = 8000) -> np.ndarray:
    """Keep only what a recording at a lower rate would have kept."""
    narrow = soxr.resample(samples, SAMPLE_RATE, rate)
    wide = soxr.resample(narrow, rate, SAMPLE_RATE)[: len(samples)]
    return np.pad(wide, (0, len(samples) - len(wide)))


def tilt_spectrum(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighten or darken with a random first-order filter, as microphones do."""
    zero = rng.uniform(-0.6, 0.8)
    return lfilter([1.0, -zero], [1.0], samples).astype(np.float32)


def add_reverb(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a made-up small room: a direct path and exponentially decaying noise."""
    decay_s = rng.uniform(0.08, 0.45)
    tail = rng.standard_normal(seconds(decay_s), dtype=np.float32)
    tail *= np.exp(-6.9 * np.arange(len(tail)) / len(tail))
    tail *= from_db(rng.uniform(-18.0, -4.0)) / np.sqrt(np.sum(tail**2))
    delay = int(rng.integers(16, 160))
    response = np.concatenate([[1.0], np.zeros(delay), tail]).astype(np.float32)
    return fftconvolve(samples, response)[: len(samples)].astype(np.float32)


def fade_edges(samples: np.ndarray, fade_s: float = 0.004) -> np.ndarray:
    """Fade both ends over a few milliseconds so that joins do not click."""
    faded = samples.copy()
    ramp = np.linspace(0, 1, min(seconds(fade_s), len(samples) // 2), dtype=np.float32)
    faded[: len(ramp)] *= ramp
    faded[len(faded) - len(ramp) :] *= ramp[::-1]
    return faded


def silence(low_s: float, high_s: float, rng: np.random.Generator) -> np.ndarray:
    """Digital zero for a random time."""
    return np.zeros(seconds(rng.uniform(low_s, high_s)), dtype=np.float32)


def set_peak_db(samples: np.ndarray, peak_dbfs: float) -> np.ndarray:
    """Scale to a peak level in dBFS; all-zero input stays zero."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(from_db(peak_dbfs) / peak) if peak > 0 else samples


def quantise(samples: np.ndarray) -> np.ndarray:
    """Round to 16-bit steps, clipping at full scale, as a sound card does."""
    return (np.round(np.clip(samples, -1.0, 1.0) * 32767) / 32767).astype(np.float32)
