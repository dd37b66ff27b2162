"""Samples that are no sound, and floating point in another range than ±1."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import stt
from stt.audio.files import open_audio
from stt.audio.samples import finite, resampled, sound
from stt.audio.stream import Damage
from stt.errors import AudioError, UsageError
from stt.types import Samples
from support.media import tone
from support.paths import DIGITS

RATE = 16_000
NAN, INF = float("nan"), float("inf")


def blocks(samples: Samples, size: int) -> Iterator[Samples]:
    return (samples[at : at + size] for at in range(0, len(samples), size))


def sounded(
    samples: Samples, *, size: int = 5_000, tolerant: bool = True
) -> tuple[Samples, Damage]:
    damage = Damage(tolerant=tolerant)
    given = np.asarray(samples, np.float32)
    found = list(sound(blocks(given, size), RATE, "a.wav", damage))
    return np.concatenate(found), damage


@pytest.fixture(scope="module")
def eight() -> Samples:
    samples, rate = soundfile.read(DIGITS / "clips/eight-digits.flac", dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def transcriber() -> stt.Transcriber:
    return stt.load(DIGITS, provider="cpu", threads=1)


# --- what is sound stays -------------------------------------------------------------------


@pytest.mark.parametrize("peak", [1.0, 1.4, 3.9])
@pytest.mark.parametrize("size", [100, 5_000, 200_000])
def test_sound_within_full_scale_and_a_little_beyond_stays(
    eight: Samples, peak: float, size: int
) -> None:
    clipped = np.sign(tone(3.0, RATE)).astype(np.float32)
    loud = eight * np.float32(peak / np.abs(eight).max())
    for samples in (loud, clipped, np.zeros(RATE, np.float32)):
        found, damage = sounded(samples, size=size)
        np.testing.assert_array_equal(found, samples)
        assert (damage.notes, damage.failures) == ([], [])


def test_blocks_of_ordinary_sound_are_handed_on_at_once_and_uncopied() -> None:
    given_blocks = list(blocks(tone(2.0, RATE), 4_000))
    stream = iter(given_blocks)
    found = sound(stream, RATE, "a.wav", Damage(tolerant=True))
    assert next(found) is given_blocks[0]
    assert next(stream) is given_blocks[1]


# --- samples that are no sound -------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -3e38, 1e7, 20.0])
@pytest.mark.parametrize("at", [0, 5_000, 39_999])
def test_one_stray_sample_is_silence_and_a_note(value: float, at: int) -> None:
    samples = tone(2.5, RATE)
    samples[at] = value
    found, damage = sounded(samples)
    expected = samples.copy()
    expected[at] = 0
    np.testing.assert_array_equal(found, expected)
    assert damage.failures == []
    (note,) = damage.notes
    assert note.startswith("1 sample is not sound") and f"at {at / RATE:.2f} s" in note


def test_stray_samples_are_counted_and_the_first_places_named() -> None:
    samples = tone(30.0, RATE)
    samples[:: 2 * RATE] = NAN
    (note,) = sounded(samples)[1].notes
    assert note.startswith("15 samples are") and "at 0.00 s, 2.00 s, 4.00 s and later:" in note


@pytest.mark.parametrize("value", [NAN, INF, 1e9])
def test_a_long_stretch_is_damage_that_tells_its_seconds(value: float) -> None:
    samples = tone(10.0, RATE)
    samples[3 * RATE : 5 * RATE] = value
    found, damage = sounded(samples)
    assert not found[3 * RATE : 5 * RATE].any()
    np.testing.assert_array_equal(found[5 * RATE :], samples[5 * RATE :])
    (line,) = damage.failures
    assert "2.0 s are not sound" in line and "3.00 to 5.00 s" in line
    with pytest.raises(AudioError, match=r"3\.00 to"):
        sounded(samples, tolerant=False)


def test_random_bits_of_a_lost_sector_set_no_scale() -> None:
    samples = tone(10.0, RATE)
    bits = np.random.default_rng(5).integers(0, 1 << 32, 8_192, np.uint32)
    samples[40_000:48_192] = bits.view(np.float32)
    found, damage = sounded(samples)
    np.testing.assert_array_equal(found[50_000:], samples[50_000:])
    assert np.abs(found).max() <= 16 and damage.failures and not damage.notes


@pytest.mark.parametrize("value", [NAN, INF])
def test_nothing_but_what_is_no_sound_is_an_error(value: float) -> None:
    with pytest.raises(AudioError, match="all its samples are not sound"):
        sounded(np.full(RATE, value))


@given(st.lists(st.sampled_from([0.0, 0.25, -1.0, NAN, INF, -INF, 1e6, 3e38]), min_size=1))
def test_every_sample_comes_out_finite_and_in_its_place(values: list[float]) -> None:
    samples = np.append(tone(0.2, RATE), np.array(values, np.float32))
    found, _ = sounded(samples, size=700)
    assert len(found) == len(samples) and np.isfinite(found).all()
    np.testing.assert_array_equal(found[:3_200], samples[:3_200])


def test_finite() -> None:
    samples = np.array([0.5, NAN, INF, -INF], np.float32)
    np.testing.assert_array_equal(finite(samples), np.array([0.5, 0, 0, 0], np.float32))
    assert finite(samples[:1]).base is samples


def test_a_nan_does_not_smear_when_the_rate_is_changed(
    tmp_path: Path, transcriber: stt.Transcriber, eight: Samples
) -> None:
    spoiled = np.repeat(eight, 3)  # 48 kHz
    spoiled[90_000] = NAN
    soundfile.write(tmp_path / "a.wav", spoiled, 48_000, "FLOAT")
    transcript = transcriber.transcribe(tmp_path / "a.wav")
    coverage = transcript.coverage
    assert len(transcript.text.split()) == 8
    assert coverage is not None and not coverage.failures
    assert any("at 1.88 s" in note for note in coverage.notes)


# --- another full scale --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "full"),
    [(2**15, 2**15), (2**23, 2**23), (2**31, 2**31), (2.0**40, 2.0**40), (2.0**100, 2.0**100)],
)
def test_integers_as_floats_are_scaled_by_a_power_of_two(
    eight: Samples, scale: float, full: float
) -> None:
    found, damage = sounded(eight * np.float32(scale))
    ratio = np.abs(found).max() / np.abs(eight).max()
    assert ratio in ((1.0,) if scale <= 2**31 else (1.0, 2.0, 4.0))
    np.testing.assert_allclose(found, eight * np.float32(ratio), rtol=1e-6)
    (note,) = damage.notes
    assert "scaled" in note
    assert scale > 2**31 or f"{round(np.log2(full)) + 1}-bit" in note


@pytest.mark.parametrize("noise", [0.4, 3.0, 12.0])
@pytest.mark.parametrize("whole", [True, False])
def test_the_scale_is_known_before_quiet_noise_at_the_start(
    eight: Samples, noise: float, whole: bool
) -> None:
    start = np.random.default_rng(1).normal(0, noise, 2 * RATE)
    start = np.rint(start) if whole else start
    samples = np.append(start, eight * np.float32(2**15)).astype(np.float32)
    found, _ = sounded(samples, size=RATE)
    assert np.abs(found[2 * RATE :]).max() == pytest.approx(np.abs(eight).max(), rel=0.01)
    if noise > 1:
        assert np.abs(found[: 2 * RATE]).max() < 0.01


def test_a_hot_recording_is_brought_to_full_scale(eight: Samples) -> None:
    hot = eight * np.float32(20 / np.abs(eight).max())
    found, damage = sounded(hot)
    assert 0.5 < np.abs(found).max() <= 2.0 and damage.notes


def test_a_stray_sample_in_a_recording_of_another_scale(eight: Samples) -> None:
    samples = eight * np.float32(2**15)
    samples[20_000] = 1e30
    samples[30_000] = NAN
    found, damage = sounded(samples)
    expected = eight.copy()
    expected[[20_000, 30_000]] = 0
    np.testing.assert_array_equal(found, expected)
    assert len(damage.notes) == 2 and not damage.failures


@pytest.fixture(scope="module")
def text(transcriber: stt.Transcriber, eight: Samples) -> str:
    return transcriber.transcribe(eight, sample_rate=RATE).text


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((np.float16, 2.0**15), (np.float32, 2.0**15), (np.float32, 2.0**23), (np.float32, 1e30)),
        *((np.float64, 2.0**15), (np.float64, 2.0**23), (np.float64, 1e30), (np.float64, 1e200)),
        *((np.longdouble, scale) for scale in (2.0**15, 2.0**23, 1e30, 1e200)),
    ],
)
def test_arrays_in_any_scale(
    transcriber: stt.Transcriber, eight: Samples, text: str, dtype: npt.DTypeLike, scale: float
) -> None:
    wide = eight if dtype is np.float16 else np.asarray(eight, dtype)
    found = transcriber.transcribe((wide * scale).astype(dtype), sample_rate=RATE)
    assert found.text == text
    assert found.coverage and "scaled" in " ".join(found.coverage.notes)


def test_arrays_of_integers_and_with_a_nan(
    transcriber: stt.Transcriber, eight: Samples, text: str
) -> None:
    found = transcriber.transcribe((eight * 2**15).astype(np.int16), sample_rate=RATE)
    assert found.coverage is not None and found.coverage.notes == ()
    spoiled = eight.astype(np.float64)
    spoiled[20_000] = NAN
    found = transcriber.transcribe(spoiled, sample_rate=RATE)
    assert found.text == text
    assert found.coverage and "at 1.25 s" in found.coverage.notes[0]


@pytest.mark.parametrize("suffix", ["wav", "w64", "aiff", "caf", "au"])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_files_in_the_range_of_int16(
    tmp_path: Path, eight: Samples, suffix: str, subtype: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, eight * np.float32(2**15), RATE, subtype)
    with open_audio(path) as stream:
        found = np.concatenate(list(stream.blocks))
    np.testing.assert_array_equal(found, eight)
    assert "16-bit" in stream.damage.notes[0]


# --- the rate of an array ------------------------------------------------------------------


def test_an_array_without_its_sample_rate_is_an_error(
    transcriber: stt.Transcriber, eight: Samples
) -> None:
    with pytest.raises(UsageError, match="sample_rate=16000"):
        transcriber.transcribe(eight)
    with pytest.raises(UsageError, match="sample_rate=16000"):
        next(transcriber.segments(eight))
    with pytest.raises(UsageError, match="sample_rate=16000"):
        stt.transcribe(eight, DIGITS)


# --- resampling ------------------------------------------------------------------------------

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]


def whole(samples: np.ndarray, rate: int, *cuts: int) -> np.ndarray:
    places = [0, *sorted(cuts), len(samples)]
    return np.concatenate(list(resampled((samples[a:b] for a, b in pairwise(places)), rate)))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("at", [0.0, 0.7, 1.9])
def test_an_impulse_keeps_its_place(rate: int, at: float) -> None:
    samples = np.zeros(2 * rate, np.float32)
    samples[round(at * rate)] = 1.0
    out = whole(samples, rate, rate // 3, rate)
    assert len(out) == 2 * RATE
    assert abs(int(np.abs(out).argmax()) - at * RATE) <= 1


@given(st.sampled_from(RATES), st.lists(st.integers(0, 20_000), max_size=20))
def test_blocks_of_any_size_give_the_same_samples(rate: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    np.testing.assert_array_equal(whole(samples, rate, *cuts), whole(samples, rate))


def test_nothing_in_nothing_out() -> None:
    assert not list(resampled(iter([]), 44_100))


def test_an_array_without_samples_is_an_error(transcriber: stt.Transcriber) -> None:
    with pytest.raises(AudioError, match=r"^array: holds no audio"):
        transcriber.transcribe(np.zeros(0, np.float32), sample_rate=RATE)
