"""Sets of real speech to measure a converted model on: collected once, saved, used again.

A set holds samples rather than features, so that it serves every model whatever its features are,
and half the bytes: int16 at 16 kHz.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stt.audio.files import AUDIO_SUFFIXES, open_audio
from stt.audio.resample import resampled
from stt.errors import AudioError, SttError
from stt.types import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

_FORMAT = 1
_FULL_SCALE = np.float32(32767)


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a calibration set."""

    source: str
    """Path below the folder it came from, with forward slashes."""
    text: str | None
    """What is said, where a LibriSpeech transcript beside it tells."""
    samples: Samples
    """float32 [n] at 16 kHz, mono, in steps of 1 / 32767."""

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / SAMPLE_RATE


def collect(audio: Path, out: Path, *, seconds: float = 600, longest: float = 30) -> list[Clip]:
    """Make a calibration set from a folder of recordings and save it as one .npz.

    Recordings are spread evenly over the folder and all below it, sorted by name. Transcripts are
    taken from `*.trans.txt` beside them (LibriSpeech's layout: `ID TEXT` in every line), but not
    where the recording was cut.

    Args:
        audio: any folder of audio, or the top of a LibriSpeech tree.
        out: the .npz to write; written under a temporary name and renamed when whole.
        seconds: of audio in all, about; the recording that passes it is the last.
        longest: seconds taken from the beginning of a recording, at most.

    Raises:
        SttError: not a folder, or no recording in it can be read.
        OSError: the set cannot be written.
    """
    if not audio.is_dir():
        raise SttError(f"{audio}: no such folder; name a folder of recordings")
    paths = sorted(p for p in audio.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    clips: list[Clip] = []
    total = 0.0
    for path in _spread(paths):
        try:
            clip = _read(path, audio, longest)
        except AudioError:
            continue  # one damaged recording among many is no reason to have no set
        if len(clip.samples):
            clips.append(clip)
            total += clip.seconds
        if total >= seconds:
            break
    if not clips:
        raise SttError(f"{audio}: holds no recording that can be read; name another folder")
    clips.sort(key=lambda clip: clip.source)
    _save(clips, out)
    return clips


def load(path: Path) -> list[Clip]:
    """Read a set that `collect` saved.

    Raises:
        SttError: not such a file, or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if int(file["format"]) != _FORMAT:
                raise SttError(f"{path}: a calibration set of another version; collect it again")
            ends = np.cumsum(file["lengths"])
            samples = np.split(file["samples"].astype(np.float32) / _FULL_SCALE, ends[:-1])
            rows = zip(file["sources"], file["texts"], file["has_text"], samples, strict=True)
            return [Clip(str(s), str(t) if known else None, x) for s, t, known, x in rows]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SttError(
            f"{path}: not a calibration set ({error}); make one from a folder of audio"
        ) from error


def _spread(paths: list[Path]) -> Iterator[Path]:
    """The same paths in an order whose beginning is spread evenly over them, always the same."""
    golden = (5**0.5 - 1) / 2  # multiples of it fill an interval evenly, however many are taken
    order = sorted(range(len(paths)), key=lambda index: (index * golden) % 1)
    return (paths[index] for index in order)


def _read(path: Path, folder: Path, longest: float) -> Clip:
    limit = round(longest * SAMPLE_RATE)
    parts: list[Samples] = []
    length = 0
    with open_audio(path) as stream:
        for block in resampled(stream.blocks, stream.sample_rate):
            parts.append(block)
            length += len(block)
            if length > limit:
                break
    samples = np.concatenate(parts)[:limit] if parts else np.zeros(0, np.float32)
    text = _transcript(path) if length <= limit else None
    return Clip(path.relative_to(folder).as_posix(), text, _stored(samples) / _FULL_SCALE)


def _stored(samples: Samples) -> npt.NDArray[np.float32]:
    """Samples in whole steps of int16, so that a set is the same before and after saving."""
    clipped: Samples = np.rint(np.clip(samples, -1, 1) * _FULL_SCALE)
    return clipped


def _transcript(path: Path) -> str | None:
    for listing in sorted(path.parent.glob("*.trans.txt")):
        for line in listing.read_text("utf-8", errors="replace").splitlines():
            name, _, text = line.strip().partition(" ")
            if name == path.stem:
                return text.strip()
    return None


def _save(clips: list[Clip], out: Path) -> None:
    partial = out.with_name(f".{out.name}.partial")
    whole = np.concatenate([clip.samples for clip in clips])
    try:
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                format=_FORMAT,
                samples=np.rint(whole * _FULL_SCALE).astype(np.int16),
                lengths=np.array([len(clip.samples) for clip in clips], np.int64),
                sources=np.array([clip.source for clip in clips]),
                texts=np.array([clip.text or "" for clip in clips]),
                has_text=np.array([clip.text is not None for clip in clips]),
            )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
