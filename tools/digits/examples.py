"""Compose training examples on the fly: strings of digits, long recordings, and non-speech.

Every example is new: strings are joined from the bank with random pauses, then changed in speed
and pitch, filtered, mixed with noise and scaled. A twentieth of the examples have no speech and an
empty text, because a transducer that never saw that invents words over silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bank import Bank, Utterance
from mixing import (
    NoiseSource,
    active_power,
    add_noise,
    add_reverb,
    band_limit,
    fade_edges,
    from_db,
    power,
    quantise,
    resample_speed,
    seconds,
    set_peak_db,
    silence,
    tilt_spectrum,
)
from scipy.signal import lfilter

NO_SPEECH_SHARE = 0.07
LONG_SHARE = 0.04
# Shares of the families among strings; "fsdd" is real speech from few speakers, hence its weight.
FAMILY_SHARES = {"fsdd": 0.45, "espeak": 0.25, "flite": 0.15, "piper": 0.15}
SPEED_RANGE = {
    "fsdd": (0.78, 1.32),
    "espeak": (0.88, 1.14),
    "flite": (0.8, 1.2),
    "piper": (0.8, 1.25),
}
MAX_WORDS = 8
EASY_MAX_WORDS = 2
LONG_RANGE_S = (12.0, 26.0)


@dataclass(frozen=True)
class Example:
    """Samples (float32, 16 kHz) and the words in them."""

    samples: np.ndarray
    text: str


def draw_pause(rng: np.random.Generator) -> np.ndarray:
    """A pause between digits: mostly short, sometimes up to 1.5 s."""
    style = rng.random()
    if style < 0.35:
        return silence(0.0, 0.06, rng)
    return silence(0.04, 0.4, rng) if style < 0.85 else silence(0.4, 1.5, rng)


def join_with_pauses(parts: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Join parts with pauses; one string keeps mostly to one pace."""
    steady = draw_pause(rng)
    joined = [parts[0]]
    for part in parts[1:]:
        joined += [steady if rng.random() < 0.7 else draw_pause(rng), part]
    return np.concatenate(joined)


class Composer:
    """Draws training examples from a bank."""

    def __init__(self, bank: Bank, noise: NoiseSource) -> None:
        """Use the voices of `bank` and the noises of `noise`."""
        self.bank = bank
        self.noise = noise
        self.voices = {family: bank.voices([family]) for family in FAMILY_SHARES}

    def draw(self, rng: np.random.Generator, easy_share: float = 0.0) -> Example:
        """Draw one example of any kind; `easy_share` of them are one or two clean digits."""
        if rng.random() < easy_share:
            return self.clean(self.string(rng, EASY_MAX_WORDS), rng)
        kind = rng.random()
        if kind < NO_SPEECH_SHARE:
            return self.no_speech(rng)
        if kind < NO_SPEECH_SHARE + LONG_SHARE:
            return self.finish(self.long_recording(rng), rng)
        return self.finish(self.string(rng), rng)

    def string(self, rng: np.random.Generator, max_words: int = MAX_WORDS) -> Example:
        """One to eight digits of one voice, at one speed."""
        family = str(rng.choice(list(FAMILY_SHARES), p=list(FAMILY_SHARES.values())))
        voice = self.voices[family][rng.integers(len(self.voices[family]))]
        word_count = int(rng.integers(1, max_words + 1))
        utterances = self._draw_utterances(voice, word_count, rng)
        speed = rng.uniform(*SPEED_RANGE[family])
        parts = [fade_edges(utterance.samples) for utterance in utterances]
        parts = [part * np.float32(from_db(rng.uniform(-4, 4))) for part in parts]
        samples = resample_speed(join_with_pauses(parts, rng), speed)
        return Example(samples, " ".join(utterance.text for utterance in utterances))

    def _draw_utterances(
        self, voice: str, word_count: int, rng: np.random.Generator
    ) -> list[Utterance]:
        """Draw utterances of one voice that hold `word_count` digits together."""
        indices = np.array(self.bank.by_voice[voice])
        counts = self.bank.word_counts[indices]
        chosen: list[Utterance] = []
        while word_count > 0 and np.any(counts <= word_count):
            fitting = indices[counts <= word_count]
            chosen.append(self.bank[fitting[rng.integers(len(fitting))]])
            word_count -= chosen[-1].word_count
        return chosen

    def long_recording(self, rng: np.random.Generator) -> Example:
        """Several strings of several voices with gaps of 0.2 to 2.5 s, 12 to 26 s in all."""
        target = seconds(rng.uniform(*LONG_RANGE_S))
        parts: list[np.ndarray] = []
        texts: list[str] = []
        size = 0
        while size < target:
            string = self.string(rng)
            level = np.float32(
                from_db(rng.uniform(-6, 6)) / max(np.sqrt(power(string.samples)), 1e-5)
            )
            parts += [0.05 * level * string.samples, silence(0.2, 2.5, rng)]
            texts.append(string.text)
            size += len(parts[-1]) + len(parts[-2])
        return Example(np.concatenate(parts[:-1]), " ".join(texts))

    def clean(self, speech: Example, rng: np.random.Generator) -> Example:
        """Speech in near silence at a good level: where learning begins."""
        samples = np.concatenate([silence(0.0, 0.4, rng), speech.samples, silence(0.0, 0.4, rng)])
        samples = set_peak_db(samples, rng.uniform(-15.0, -1.0))
        floor = rng.standard_normal(len(samples), dtype=np.float32)
        return Example(quantise(samples + np.float32(from_db(-65.0)) * floor), speech.text)

    def finish(self, speech: Example, rng: np.random.Generator) -> Example:
        """Add silence around the speech, room, filters, noise and a level."""
        lead, tail = silence(0.0, 1.5, rng), silence(0.0, 1.5, rng)
        if rng.random() < 0.25:
            tail = tail[:0]
        samples = np.concatenate([lead, speech.samples, tail])
        if rng.random() < 0.3:
            samples = add_reverb(samples, rng)
        if rng.random() < 0.6:
            samples = tilt_spectrum(samples, rng)
        limit_before = rng.random() < 0.35
        if limit_before:
            samples = band_limit(samples)
        samples = self._add_noises(samples, rng)
        if not limit_before and rng.random() < 0.3:
            samples = band_limit(samples)
        samples = set_peak_db(samples, rng.uniform(-35.0, 0.5))
        return Example(quantise(self._pad_with_zero(samples, rng)), speech.text)

    def _add_noises(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add nothing (1 in 6), or noise at 5 to 40 dB SNR, sometimes a second kind."""
        if rng.random() < 1 / 6:
            return samples
        speech_power = active_power(samples)
        noise = self.noise.draw(len(samples), rng)
        samples = add_noise(samples, speech_power, rng.uniform(5.0, 40.0), noise)
        if rng.random() < 0.2:
            noise = self.noise.draw(len(samples), rng)
            samples = add_noise(samples, speech_power, rng.uniform(15.0, 45.0), noise)
        return samples

    @staticmethod
    def _pad_with_zero(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Put digital zero before or after the noisy recording, as players and padders do."""
        if rng.random() < 0.15:
            samples = np.concatenate([silence(0.0, 0.8, rng), samples])
        if rng.random() < 0.45:
            samples = np.concatenate([samples, silence(0.1, 0.9, rng)])
        return samples

    def no_speech(self, rng: np.random.Generator) -> Example:
        """Stretches of noise, hum, clicks and digital zero: the text is empty."""
        parts = [self._non_speech_stretch(rng) for _ in range(int(rng.integers(1, 4)))]
        samples = np.concatenate(parts)
        if rng.random() < 0.3:
            samples = band_limit(samples)
        return Example(quantise(self._pad_with_zero(samples, rng)), "")

    def _non_speech_stretch(self, rng: np.random.Generator) -> np.ndarray:
        """0.3 to 6 s of zero, noise at -85 to -8 dBFS, or noise with clicks and bursts."""
        size = seconds(rng.uniform(0.3, 6.0))
        kind = rng.random()
        if kind < 0.15:
            return np.zeros(size, dtype=np.float32)
        samples = self.noise.draw(size, rng) * np.float32(from_db(rng.uniform(-85.0, -12.0)))
        if kind < 0.4:
            for _ in range(int(rng.integers(1, 5))):
                samples = add_burst(samples, rng)
        return samples


def add_burst(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a click, knock or puff of noise (1 to 250 ms, decaying) at a random place."""
    size = min(seconds(float(10 ** rng.uniform(-3.0, -0.6))), len(samples))
    burst = rng.standard_normal(size) * np.exp(-rng.uniform(0, 6) * np.arange(size) / size)
    smoothing = rng.uniform(0.0, 0.97)
    burst = lowpass(burst, smoothing) * from_db(rng.uniform(-60.0, -10.0))
    start = int(rng.integers(0, len(samples) - size + 1))
    mixed = samples.copy()
    mixed[start : start + size] += burst.astype(np.float32)
    return mixed


def lowpass(samples: np.ndarray, smoothing: float) -> np.ndarray:
    """First-order low-pass; `smoothing` 0 (none) to 1, output power kept near the input's."""
    return lfilter([np.sqrt(1 - smoothing**2)], [1.0, -smoothing], samples)
