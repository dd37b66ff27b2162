"""What `stt bench` transcribes: WAV files that every engine reads, short enough for each."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stt.audio.files import AUDIO_SUFFIXES, open_audio
from stt.audio.samples import resampled
from stt.errors import UsageError
from stt.types import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

FILE_S = 28.0
"""Seconds of every recording, at most: what Whisper takes at once, and the pipeline's longest
utterance, so that each engine hears a recording in one piece."""
_FEWEST_FILES = 16
"""So many that the last one, which cores do not share, weighs little."""


def recordings(audio: Path | None, at_least: int, folder: Path) -> list[Path]:
    """Write what is transcribed as WAV, which all engines read: mono, 16 kHz, 16 bits.

    Without `audio` it is the bundled clips one after the other, again and again, as `at_least`
    files of 28 s; else every recording of that folder, in files of at most 28 s.
    """
    if audio is None:
        from stt.install.clips import bundled_clips, of_length

        several = max(at_least, _FEWEST_FILES)
        pieces = np.split(of_length(bundled_clips(), several * FILE_S), several)
    else:
        pieces = [piece for path in _audio_files(audio) for piece in _pieces(_read(path))]
    paths = [folder / f"{place:04}.wav" for place in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(np.round(piece.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return paths


def _audio_files(folder: Path) -> list[Path]:
    found = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()
    )
    if not found:
        raise UsageError(f"{folder}: no recordings in it")
    return found


def _read(path: Path) -> Samples:
    with open_audio(path) as stream:
        return np.concatenate(list(resampled(stream.blocks, stream.sample_rate)))


def _pieces(samples: Samples) -> list[Samples]:
    """Cut into as few equal pieces as fit the limit."""
    several = max(1, -(-len(samples) // round(FILE_S * SAMPLE_RATE)))
    return list(np.array_split(samples, several))


def seconds_of(path: Path) -> float:
    """Return how long a WAV file is."""
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / SAMPLE_RATE
