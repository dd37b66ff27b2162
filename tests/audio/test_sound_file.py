"""Sound behind the end that a header states is read; what is no sound is noted."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_files import RATE, from_stdin

from stt.audio.files import open_audio
from stt.audio.stream import truncated
from stt.errors import AudioError
from support.media import Samples, encode, tone, wav, write


def heard(path: Path | str) -> tuple[Samples, list[str]]:
    """What is read, and the notes."""
    with open_audio(path) as stream:
        samples = np.concatenate(list(stream.blocks))
    return samples, stream.damage.notes


def voice(seconds: float, seed: int = 1, rate: int = RATE) -> Samples:
    """Noise as low as speech, which no file compares equal by chance."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * rate) + 16)
    return np.asarray(np.convolve(noise, np.hanning(17), "valid") / 40, np.float32)


def as_bytes(samples: Samples, form: str, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=form, subtype=subtype)
    return file.getvalue()


SHORT = voice(0.5)


@pytest.mark.parametrize("said", [0, 32_000, 63_998])
@pytest.mark.parametrize("riff", [None, 36, 32_036])
def test_a_recorder_that_died_leaves_a_stale_size(
    tmp_path: Path, said: int, riff: int | None
) -> None:
    samples, path = voice(4.0), tmp_path / "a.wav"
    path.write_bytes(wav(samples, RATE, riff=riff, data=said))
    found, (note,) = heard(path)
    np.testing.assert_allclose(found, samples, atol=1e-4)
    assert note.startswith(f"its header states {said / 32_000:.1f} s, ")
    assert f"{4.0 - said / 32_000:.1f} s more" in note


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        (form, subtype)
        for form in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU")
        for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT")
        if (form, subtype) != ("AIFF", "FLOAT")  # that is AIFC
    ],
)
def test_stale_sizes_in_other_formats(tmp_path: Path, form: str, subtype: str) -> None:
    samples, path = voice(3.0), tmp_path / "a.bin"
    short = as_bytes(samples[:RATE], form, subtype)
    whole = as_bytes(samples, form, subtype)
    if b"PEAK" in whole[:200] or form == "AIFF":  # chunks behind the samples would be in between
        whole = whole[: len(short)] + whole[len(short) :]
    head = len(whole) - len(samples) * {"PCM_16": 2, "PCM_24": 3}.get(subtype, 4)
    path.write_bytes(short[:head] + whole[head:])
    found, (note,) = heard(path)
    np.testing.assert_allclose(found, samples, atol=1e-4)
    assert "states 1.0 s, 2.0 s more" in note


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "CAF"])
def test_recordings_joined_by_cat(tmp_path: Path, form: str) -> None:
    one, other, path = voice(1.0, 1), voice(1.5, 2), tmp_path / "a.bin"
    path.write_bytes(as_bytes(one, form) + as_bytes(other, form) + as_bytes(one, form))
    found, (note,) = heard(path)
    np.testing.assert_allclose(found, np.concatenate([one, other, one]), atol=1e-4)
    assert note == "3 recordings joined in one file: all of them are read"


@pytest.mark.parametrize(
    "first",
    [
        lambda one: wav(one, RATE, after=b"LIST\x0a\0\0\0INFOISFT\0\0"),
        lambda one: wav(one, RATE, data=16_000),
        lambda one: as_bytes(np.stack([one, one], 1), "WAV"),
    ],
    ids=["a chunk of text behind it", "a stale size", "other channels"],
)
def test_joined_behind_what_is_odd(tmp_path: Path, first: Callable[[Samples], bytes]) -> None:
    one, other, path = voice(1.0, 1), voice(0.5, 2), tmp_path / "a.wav"
    path.write_bytes(first(one) + wav(other, RATE))
    np.testing.assert_allclose(heard(path)[0], np.concatenate([one, other]), atol=1e-4)


def test_a_recording_of_another_rate_behind_it_is_noted(tmp_path: Path) -> None:
    one, path = voice(1.0), tmp_path / "a.wav"
    path.write_bytes(wav(one, RATE) + wav(voice(1.0), 8_000))
    found, (note,) = heard(path)
    assert len(found) == RATE
    assert note == "a recording at 8,000 Hz that lies behind its end is left out: cut it off"


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.flv", "aac"), ("a.wma", "wmav2")]
)
def test_recordings_joined_where_only_the_first_can_be_read(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = encode(tmp_path / name, voice(2.0, rate=44_100), 44_100, codec)
    assert not heard(path)[1]
    path.write_bytes(path.read_bytes() * 2)
    found, (note,) = heard(path)
    assert len(found) / 44_100 == pytest.approx(2.0, abs=0.1)
    assert note == "another recording lies behind its end and is left out: cut it off"


@pytest.mark.parametrize(
    ("after", "noted"),
    [
        (b"\x01" + np.random.default_rng(3).bytes(40_000), ["40,001 bytes behind the end"]),
        *((bytes(70_000), []), (b"TAG" + bytes(125), [])),
        (b"id3 " + struct.pack("<I", 9_000) + bytes(9_000), []),
    ],
    ids=["other data", "padding", "a tag", "a chunk"],
)
def test_what_is_no_sound_behind_the_end_is_left_out(
    tmp_path: Path, after: bytes, noted: list[str]
) -> None:
    one, path = voice(1.0), tmp_path / "a.wav"
    path.write_bytes(wav(one, RATE, after=after))
    found, notes = heard(path)
    np.testing.assert_allclose(found, one, atol=1e-4)
    assert len(notes) == len(noted)
    assert all(part in note for part, note in zip(noted, notes, strict=True))


@pytest.mark.parametrize(
    "said",
    [
        *(2_000_000_000, 1_000_000_000, 2_000_000_036, 100_000_000),
        *(0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0x40000000, 0x7FFFFFFF - 36, 0x80000000),
    ],
)
def test_a_size_that_is_a_placeholder(
    tmp_path: Path, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, path = tone(1.5, RATE), tmp_path / "a.wav"
    content = wav(samples, RATE, riff=min(said + 36, 0xFFFFFFFF), data=said)
    path.write_bytes(content)
    found, notes = heard(path)
    np.testing.assert_allclose(found, samples, atol=1e-4)
    assert notes == ["its header does not know its length; it is read to its end"]
    from_stdin(monkeypatch, content)  # as every wav that is piped in
    found, notes = heard("-")
    assert len(found) == len(samples)
    assert not notes


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.w64", "a.caf"])
def test_a_few_bytes_short_is_a_note(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, voice(5.0), RATE, "PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1_001])
    found, (note,) = heard(path)
    assert 4.5 < len(found) / RATE < 5.0
    assert "missing at its end" in note or "cannot be read" in note


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "CAF"]),
    changes=st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=8),
    behind=st.sampled_from([b"", b"\x01" * 99, bytes(5_000), b"RIFF\0\0\0\0WAVE", b"LIST"]),
    kept=st.integers(0, 20_000),
)
@example(form="W64", changes={4: 0, 5: 0, 6: 0, 63: 128}, behind=b"", kept=64)  # 2**63 bytes
def test_a_header_may_say_anything(
    tmp_path: Path, form: str, changes: dict[int, int], behind: bytes, kept: int
) -> None:
    content = bytearray(as_bytes(SHORT, form))[:kept] + behind
    for place, byte in changes.items():
        if place < len(content):
            content[place] = byte
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    try:
        with open_audio(path, tolerant=True) as stream:
            assert sum(map(len, stream.blocks)) > 0
    except AudioError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("-", "copy it again"),
        ("a.wav", "save what is there with `ffmpeg -i a.wav part.wav`"),
        ("10:30.wav", "`ffmpeg -i file:10:30.wav part.wav`"),
        ("a b.wav", "`ffmpeg -i 'a b.wav' part.wav`"),
    ],
)
def test_no_cure_that_cannot_be_typed(name: str, cure: str) -> None:
    text = str(truncated(name, "3.0 s promised, 1.0 s there"))
    assert cure in text
    assert "ffmpeg -i - " not in text


def test_a_pipe_that_is_cut_short_or_is_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, wav(voice(10.0), RATE)[:100_000])
    with open_audio("-", tolerant=True) as stream:
        list(stream.blocks)
    (line,) = stream.damage.failures
    assert line == "truncated: 10.0 s promised, 3.1 s there; copy it again"
    from_stdin(monkeypatch, b"no sound at all" * 99)
    with pytest.raises(AudioError, match="if it plays elsewhere, convert it to wav first"):
        heard("-")
