"""A bank of labelled utterances: the raw material that training and test audio is mixed from.

One `.npz` file holds all samples end to end, so that a bank of some hours loads in a second and is
shared between data-loading processes through the page cache.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Everything quieter than this fraction of the peak counts as silence around an utterance.
SILENCE_RATIO = 0.01
KEPT_MARGIN_S = 0.02


@dataclass(frozen=True)
class Utterance:
    """Speech without silence around it: `samples` float32 in [-1, 1] at 16 kHz, its words."""

    samples: np.ndarray
    text: str
    voice: str

    @property
    def word_count(self) -> int:
        """Number of digits spoken."""
        return len(self.text.split())


def to_mono_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return `samples` ([n] or [n, channels], any rate in Hz) as float32 mono at 16 kHz."""
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    mono = mono.astype(np.float32)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)


def read_audio(path: Path) -> np.ndarray:
    """Read a sound file as float32 mono samples at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32")
    return to_mono_16k(samples, rate)


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """Cut silence off both ends but keep 20 ms of what was there."""
    peak = float(np.abs(samples).max(initial=0.0))
    loud = np.flatnonzero(np.abs(samples) > SILENCE_RATIO * peak)
    if peak == 0.0 or loud.size == 0:
        return samples
    margin = int(KEPT_MARGIN_S * SAMPLE_RATE)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def scale_peak(samples: np.ndarray, peak: float = 0.9) -> np.ndarray:
    """Scale to the given absolute peak (0 to 1); silence stays silence."""
    return samples * (peak / max(float(np.abs(samples).max(initial=0.0)), 1e-9))


def random_digits(count: int, rng: np.random.Generator) -> str:
    """Draw `count` digit words, independently and uniformly."""
    return " ".join(rng.choice(DIGITS, size=count))


def save_bank(path: Path, utterances: Sequence[Utterance]) -> None:
    """Write utterances to one `.npz`: int16 samples end to end, boundaries, texts, voices."""
    sizes = [len(utterance.samples) for utterance in utterances]
    flat = np.concatenate([utterance.samples for utterance in utterances])
    labels = json.dumps([(utterance.text, utterance.voice) for utterance in utterances])
    np.savez(
        path,
        samples=np.round(np.clip(flat, -1.0, 1.0) * 32767).astype(np.int16),
        bounds=np.concatenate([[0], np.cumsum(sizes)]),
        labels=np.frombuffer(labels.encode(), dtype=np.uint8),
    )


class Bank:
    """Read access to a saved bank, by index and by voice."""

    def __init__(self, path: Path) -> None:
        """Load the bank written by `save_bank`."""
        with np.load(path) as stored:
            self._samples = stored["samples"]
            self._bounds = stored["bounds"]
            self._labels = json.loads(stored["labels"].tobytes())
        self.by_voice: dict[str, list[int]] = defaultdict(list)
        self.word_counts = np.array([len(text.split()) for text, _ in self._labels])
        for index, (_, voice) in enumerate(self._labels):
            self.by_voice[voice].append(index)

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self._labels)

    def __getitem__(self, index: int) -> Utterance:
        """Return one utterance with its samples as float32."""
        text, voice = self._labels[index]
        stored = self._samples[self._bounds[index] : self._bounds[index + 1]]
        return Utterance(stored.astype(np.float32) / 32767, text, voice)

    def voices(self, families: Iterable[str]) -> list[str]:
        """Voices whose name begins with one of the given families (the part before the slash)."""
        wanted = set(families)
        return sorted(voice for voice in self.by_voice if voice.split("/")[0] in wanted)

    def hours(self, family: str) -> float:
        """Hours of speech of one family."""
        indices = [i for voice in self.voices([family]) for i in self.by_voice[voice]]
        total = sum(int(self._bounds[i + 1] - self._bounds[i]) for i in indices)
        return total / SAMPLE_RATE / 3600
