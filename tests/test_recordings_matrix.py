"""200 recordings: containers x damage x levels x channels x rates, every pair of values together.

The same sentence lies in each. What must come out is its words, however it was stored, and of what
is cut off the rest, with a word that it is cut off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
from allpairspy import AllPairs

import stt
from stt.errors import AudioError
from stt.transcriber import Transcriber
from stt.types import Samples
from support.media import encode, write
from support.paths import SAMPLES

pytestmark = pytest.mark.slow

SENTENCE = "the evening train to bristol is running a few minutes late"
SENTENCE_S = 3.9
"""Seconds of samples/train.flac that hold it."""
COUNT = 200


@dataclass(frozen=True)
class Store:
    """A container and what is in it."""

    suffix: str
    codec: str
    """PyAV's name, or soundfile's subtype."""
    library: str = "av"
    most_channels: int = 6
    rates: tuple[int, ...] = (8_000, 16_000, 44_100, 48_000)
    knows_its_length: bool = True
    """Whether a broken-off copy can be distinguished from a short recording."""


STORES = {
    "wav": Store("wav", "PCM_16", "soundfile"),
    "wav 24": Store("wav", "PCM_24", "soundfile"),
    "wav float": Store("wav", "FLOAT", "soundfile"),
    "wav ulaw": Store("wav", "ULAW", "soundfile"),
    "flac": Store("flac", "PCM_16", "soundfile"),
    "aiff": Store("aiff", "PCM_16", "soundfile"),
    "au": Store("au", "PCM_16", "soundfile"),
    "w64": Store("w64", "PCM_16", "soundfile"),
    "caf": Store("caf", "PCM_16", "soundfile"),
    "vorbis": Store("ogg", "VORBIS", "soundfile"),
    "mp3": Store("mp3", "mp3", most_channels=2),
    "m4a": Store("m4a", "aac"),
    "mov": Store("mov", "aac"),
    "adts": Store("aac", "aac", knows_its_length=False),
    "opus": Store("opus", "libopus", most_channels=2, rates=(48_000,)),
    "webm": Store("webm", "libopus", most_channels=2, rates=(48_000,)),
    "mka": Store("mka", "flac"),
    "ts": Store("ts", "aac", knows_its_length=False),
    # FFmpeg counts the frames of a cut one anew
    "avi": Store(
        *("avi", "mp3", "av", 2, (16_000, 44_100, 48_000)),
        knows_its_length=False,
    ),
    "wv": Store("wv", "wavpack"),
}


def _quiet(dbfs: float) -> Callable[[Samples, int], Samples]:
    """Return what brings the peak to `dbfs`."""
    gain = 10 ** (dbfs / 20)
    return lambda samples, _: samples / np.abs(samples).max() * gain


def _with_offset(samples: Samples, _: int) -> Samples:
    return _quiet(-26.0)(samples, 0) + np.float32(0.3)


def _with_rumble(samples: Samples, rate: int) -> Samples:
    """Add tones of 20 to 90 Hz, 12 dB above the speech."""
    time = np.arange(len(samples)) / rate
    tones = sum(np.sin(2 * np.pi * hertz * time + hertz) for hertz in (20, 35, 50, 70, 90))
    speech = _quiet(-20.0)(samples, 0)
    loud = np.std(speech) * 4.0 / np.std(tones)
    return np.asarray(speech + loud * tones, np.float32)


def _clipped(samples: Samples, _: int) -> Samples:
    return np.clip(_quiet(8.0)(samples, 0), -1.0, 1.0)


LEVELS: dict[str, Callable[[Samples, int], Samples]] = {
    "-1 dB": _quiet(-1.0),
    "-20 dB": _quiet(-20.0),
    "-40 dB": _quiet(-40.0),
    "-55 dB": _quiet(-55.0),
    "offset": _with_offset,
    "rumble": _with_rumble,
    "clipped": _clipped,
}


def _planes(*parts: Samples) -> Samples:
    return np.stack(parts, axis=1)


CHANNELS: dict[str, Callable[[Samples, int], Samples]] = {
    "mono": lambda s, _: s,
    "both": lambda s, _: _planes(s, s),
    "left": lambda s, _: _planes(s, 0 * s),
    "right": lambda s, _: _planes(0 * s, s),
    "against": lambda s, _: _planes(s, -s),
    "delayed": lambda s, rate: _planes(s, np.roll(s, rate // 400)),
    "centre": lambda s, _: _planes(0 * s, 0 * s, s, 0 * s, 0 * s, 0 * s),
}

DAMAGE = ("none", "cut", "some bytes short", "hole", "junk behind", "padded with zeros")


@dataclass(frozen=True)
class Case:
    """One recording of the matrix."""

    store: str
    damage: str
    level: str
    channels: str
    rate: int

    def __str__(self) -> str:
        """Name the test."""
        return "-".join(str(getattr(self, one.name)).replace(" ", "_") for one in fields(self))


def _possible(row: list[object]) -> bool:
    """Whether a container can hold it; rows come in growing, value by value."""
    values = dict(zip((one.name for one in fields(Case)), row, strict=False))
    store = STORES[str(values["store"])]
    wide = {"mono": 1, "centre": 6}.get(str(values.get("channels", "mono")), 2)
    if wide > store.most_channels or values.get("rate", store.rates[0]) not in store.rates:
        return False
    # 8 bits leave nothing of it: on an offset it is two of their steps
    return not (store.codec == "ULAW" and values.get("level") in ("-55 dB", "offset"))


def _cases() -> list[Case]:
    """Every pair of values, and some more rows for the round number."""
    values = [list(STORES), DAMAGE, list(LEVELS), list(CHANNELS), (8_000, 16_000, 44_100, 48_000)]
    found = [Case(*row) for row in AllPairs(values, filter_func=_possible)]
    dice = random.Random(13)
    while len(found) < COUNT:
        row: list[object] = [dice.choice(column) for column in values]
        if _possible(row) and (case := Case(*row)) not in found:
            found.append(case)
    return found


@cache
def _speech(rate: int) -> Samples:
    values, own = soundfile.read(SAMPLES / "train.flac", dtype="float32")
    mono = values.mean(axis=1)[: round(SENTENCE_S * own)]
    return np.asarray(soxr.resample(mono, own, rate), np.float32)


def _made(case: Case, folder: Path) -> Path:
    """Write the recording of a case."""
    store = STORES[case.store]
    samples = LEVELS[case.level](_speech(case.rate), case.rate)
    wide = np.asarray(CHANNELS[case.channels](samples, case.rate), np.float32)
    path = folder / f"recording.{store.suffix}"
    if store.library == "soundfile":
        write(path, wide, case.rate, store.codec)
    else:
        encode(path, wide, case.rate, store.codec)
    whole = path.read_bytes()
    path.write_bytes(_damaged(whole, case.damage))
    return path


def _damaged(whole: bytes, damage: str) -> bytes:
    if damage == "cut":
        return whole[: round(len(whole) * 0.7)]
    if damage == "some bytes short":
        return whole[:-3]
    if damage == "hole":
        at = round(len(whole) * 0.6)
        return whole[:at] + bytes(600) + whole[at + 600 :]
    if damage == "junk behind":
        return whole + b"This is no sound at all, but a note. " * 40
    if damage == "padded with zeros":
        return whole + bytes(8_192)
    return whole


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return stt.load("starter")


def _words(text: str) -> list[str]:
    return "".join(c for c in text.lower() if c.isalpha() or c == " ").split()


def _errors(text: str) -> int:
    measured = jiwer.process_words(SENTENCE, " ".join(_words(text)) or "nothing")
    return measured.substitutions + measured.deletions + measured.insertions


def _allowed(case: Case) -> int:
    """Return the words of eleven that may be misheard: what the model itself does to such sound."""
    hard = case.level in ("-55 dB", "rumble", "clipped") or case.rate == 8_000
    return 3 if hard else 1


def _is_there(case: Case, text: str) -> Iterator[tuple[str, bool]]:
    """What must hold of the text."""
    found = _words(text)
    if case.damage == "cut":
        yield "its beginning is there", _errors(text) <= 7 and "train" in found[:4]
    elif case.damage == "hole":
        yield "what lies around the hole is there", _errors(text) <= 6
    else:
        yield f"at most {_allowed(case)} words are wrong", _errors(text) <= _allowed(case)


def test_the_matrix_has_two_hundred_recordings_and_every_pair() -> None:
    cases = _cases()
    assert len(cases) == len(set(cases)) == COUNT
    pairs = {(case.store, case.damage) for case in cases}
    assert len(pairs) == len(STORES) * len(DAMAGE)


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_a_recording(case: Case, transcriber: Transcriber, tmp_path: Path) -> None:
    path = _made(case, tmp_path)
    try:
        transcript = transcriber.transcribe(path)
    except AudioError as error:
        # an index that lies at the end is lost with it: nothing can be read, and the error says so
        assert case.damage in ("cut", "some bytes short", "hole"), error
        # and a hole in the only block of a short WavPack takes all of it
        assert case.store in ("m4a", "mov") or (case.store, case.damage) == ("wv", "hole"), error
        assert "truncated" in str(error) or "damaged" in str(error) or "ffmpeg" in str(error)
        return
    assert transcript.coverage is not None
    failures = transcript.coverage.failures
    wrong = [what for what, held in _is_there(case, transcript.text) if not held]
    assert not wrong, f"{wrong}: {transcript.text!r} {failures} {transcript.coverage.notes}"
    if case.damage == "cut" and STORES[case.store].knows_its_length:
        assert failures, f"silently cut: {transcript.text!r} {transcript.coverage.notes}"
    if case.damage == "none":
        assert failures == ()
