"""What of a recording is heard: its tracks, its channels, a stretch of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stt.audio.files import open_audio
from stt.audio.selection import Selection, clock
from stt.errors import AudioError, UsageError
from support.media import Samples, encode, tone, tracks, write

RATE = 48_000


def heard(path: Path, **wanted: object) -> tuple[Samples, list[str]]:
    """What is read of a selection, and the notes."""
    selection = Selection.of(**wanted)  # type: ignore[arg-type]
    with open_audio(path, selection=selection) as stream:
        samples = np.concatenate(list(stream.blocks))
    assert stream.start == selection.start
    return samples, stream.damage.notes


def pitch(samples: Samples, rate: int = RATE) -> float:
    """The strongest frequency, in Hz."""
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle))) * rate / len(middle))


def stored(path: Path, samples: Samples, codec: str) -> Path:
    return encode(path, samples, RATE, codec) if codec else write(path, samples, RATE)


def three(path: Path, default: int | None, codec: str = "libopus") -> Path:
    sounds = [tone(0.6, RATE, hertz) for hertz in (300, 500, 700)]
    return tracks(path, sounds, RATE, codec, languages=("eng", "ger", ""), default=default)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tracks, the last by default."""
    return three(tmp_path_factory.mktemp("film") / "a.mkv", 2)


# --- tracks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libopus"), ("a.mp4", "aac")])
@pytest.mark.parametrize("default", [None, 0, 1, 2])
def test_the_default_track_is_heard_as_players_choose(
    tmp_path: Path, name: str, codec: str, default: int | None
) -> None:
    path = three(tmp_path / name, default, codec)
    assert pitch(heard(path)[0]) == pytest.approx((300, 500, 700)[default or 0], abs=5)
    with open_audio(path) as stream:
        assert stream.track == (default or 0) + 1
        assert len(stream.tracks) == 3


@pytest.mark.parametrize(
    ("wanted", "hertz"),
    [
        *((1, 300), ("2", 500), (3, 700), ("eng", 300), ("EN", 300), ("en-GB", 300)),
        *(("de", 500), ("deu", 500), ("ger", 500)),
    ],
)
def test_a_track_is_chosen_by_number_or_language(film: Path, wanted: int | str, hertz: int) -> None:
    assert pitch(heard(film, track=wanted)[0]) == pytest.approx(hertz, abs=5)


@pytest.mark.parametrize("wanted", [4, "fr", "fra"])
def test_a_track_that_is_not_there_is_an_error_that_lists_them(
    film: Path, wanted: int | str
) -> None:
    there = "track 1 (eng, mono), track 2 (ger, mono), track 3 (mono, default)"
    with pytest.raises(AudioError) as caught:
        heard(film, track=wanted)
    assert str(caught.value) == f"{film}: has no sound track {wanted}; choose from {there}"


def test_a_wav_has_one_track(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0, RATE), RATE)
    assert len(heard(path, track=1)[0]) == RATE
    with pytest.raises(AudioError, match="has no sound track 2; choose from"):
        heard(path, track=2)


# --- channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("a.wav", ""), ("a.flac", ""), ("a.m4a", "aac")])
def test_one_channel(tmp_path: Path, name: str, codec: str) -> None:
    samples = np.stack([tone(0.6, RATE, 300), tone(0.6, RATE, 500)], 1)
    path = stored(tmp_path / name, samples, codec)
    for wanted, hertz in (("left", 300), ("right", 500), (1, 300), ("2", 500), ("each", 300)):
        found, _ = heard(path, channel=wanted)
        assert pitch(found) == pytest.approx(hertz, abs=5)
        assert np.abs(found).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("channels", "has"), [(1, "1 channel (mono)"), (2, "2 channels")])
def test_a_channel_that_is_not_there(tmp_path: Path, channels: int, has: str) -> None:
    samples = np.repeat(tone(1.0, RATE)[:, None], channels, 1)
    path = write(tmp_path / "a.wav", samples, RATE)
    with pytest.raises(AudioError, match=rf"has no channel 3, it has {re.escape(has)}; "):
        heard(path, channel=3)


# --- from when to when --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.wav", ""), ("a.flac", ""), ("a.mp3", "mp3"), ("a.m4a", "aac")),
        *(("a.mkv", "libopus"), ("a.opus", "libopus"), ("a.ts", "aac")),
    ],
)
def test_a_stretch_is_what_lies_there(tmp_path: Path, name: str, codec: str) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 8 * RATE).astype(np.float32)
    smooth = np.convolve(noise, np.hanning(33) / 16, "same").astype(np.float32)
    path = stored(tmp_path / name, smooth, codec)
    whole, _ = heard(path)
    for start, end in (("5", 6.5), (0.25, "0:01"), ("0:7.25", None)):
        found, notes = heard(path, start=start, end=end)
        made = Selection.of(start=start, end=end)
        last = len(whole) if made.end is None else round(made.end * RATE)
        wanted = whole[round(made.start * RATE) : last]
        assert not notes
        assert len(found) == pytest.approx(len(wanted), abs=RATE // 50)
        likeness, lag = best_fit(found, wanted)
        assert likeness > 0.98
        assert abs(lag) <= (RATE // 100 if name.endswith("mkv") else 0)  # it counts milliseconds


def best_fit(one: Samples, other: Samples) -> tuple[float, int]:
    """The correlation of two stretches, but for their first 0.1 s, at its best, and where."""
    count = min(len(one), len(other))
    a, b = (part[RATE // 10 : count] - part[RATE // 10 : count].mean() for part in (one, other))
    size = 1 << (2 * count).bit_length()
    fits = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    lag = int(np.argmax(fits))
    return float(fits[lag] / np.sqrt((a @ a) * (b @ b))), lag - size if lag > size // 2 else lag


def test_beyond_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(3.0, RATE), RATE)
    message = r"the start \(0:10\) lies beyond its end \(0:03\)"
    with pytest.raises(AudioError, match=message):
        heard(path, start=10)
    with pytest.raises(AudioError, match=message):
        heard(encode(tmp_path / "a.mka", tone(3.0, RATE), RATE, "flac"), start="0:10")
    found, notes = heard(path, start=2, end=5)
    assert len(found) == RATE
    assert notes == ["ends at 0:03, before the end that was asked for"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        *(({"start": 5, "end": 5}, "must lie after"), ({"start": "0:10", "end": 9}, "must lie")),
        *(({"start": -1}, "the start is not a time"), ({"end": "soon"}, "the end is not a time")),
        *(({"start": float("nan")}, "is not a time"), ({"start": "1:2:3:4"}, "is not a time")),
        *(({"end": 0}, "must lie after"), ({"track": 0}, "track 0: give a number from 1")),
        *(({"track": "first!"}, "give a number"), ({"channel": 0}, "channel 0: give left")),
        *(({"channel": "middle"}, "give left"), ({"track": "all", "channel": "each"}, "choose")),
        *(
            ({what: text}, f"the {what} {text} is not a time: .* only 0 to 59")
            for what in ("start", "end")
            for text in ("1:99", "1:60", "1:60:00", "1:00:75", "0:0:60.0")
        ),
    ],
)
def test_what_cannot_be_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Selection.of(**wanted)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1:30", 90),
        ("159", 159),
        ("90:59.9", 5459.9),
        ("1:02:03.5", 3723.5),
        ("0.5", 0.5),
        (7, 7),
    ],
)
def test_times_are_seconds_or_hours_minutes_seconds(text: str | float, seconds: float) -> None:
    assert Selection.of(start=text).start == seconds
    assert Selection.of(end=text).end == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (3.6, "0:03.6"), (59.96, "1:00"), (3723.5, "1:02:03.5")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
