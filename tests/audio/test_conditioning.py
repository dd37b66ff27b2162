"""Quiet sound, offsets and rumble: what is changed, and that nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.conditioning import AHEAD, Conditioner, Heard, conditioned, levelled
from stt.audio.high_pass import Stretch, at_rest, filtered, low_share, remembered
from stt.audio.vad import FRAME, levels
from stt.types import Samples
from support.paths import SAMPLES

RATE = 16_000


def blocks(samples: Samples, size: int = RATE) -> Iterator[Samples]:
    return (samples[at : at + size] for at in range(0, len(samples), size))


def both(samples: Samples, size: int = RATE) -> Heard:
    """What the model and what the VAD hear."""
    parts = conditioned(blocks(samples, size), Conditioner(AHEAD))
    return Heard(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))


def heard(samples: Samples, size: int = RATE) -> Samples:
    """What both hear, where there is no rumble."""
    found = both(samples, size)
    np.testing.assert_array_equal(found.model, found.vad)
    return found.model


def notes(samples: Samples, spoken: tuple[float, float]) -> list[str]:
    conditioner = Conditioner(AHEAD)
    list(conditioned(blocks(samples), conditioner))
    conditioner.speech(*(round(second * RATE / FRAME) for second in spoken))
    return conditioner.notes()


def loudest(samples: Samples) -> float:
    """Level in dB of the loudest frames."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return float(np.quantile(levels(frames), 0.95))


def at(level: float, samples: Samples) -> Samples:
    """Samples with their loudest frames at this level."""
    return np.asarray(samples * 10 ** ((level - loudest(samples)) / 20), np.float32)


def noise(seconds: float, level: float, seed: int = 0) -> Samples:
    values = np.random.default_rng(seed).normal(0, 10 ** (level / 20), round(seconds * RATE))
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def said() -> Samples:
    """13 s of speech at 16 kHz, about -20 dB."""
    parts = []
    for name in ("weather", "train"):
        samples, rate = soundfile.read(SAMPLES / f"{name}.flac", dtype="float32", always_2d=True)
        parts.append(soxr.resample(samples[:, 0], rate, RATE))
    return np.asarray(np.concatenate(parts), np.float32)


# --- ordinary sound ------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-5.0, -12.0, -20.0, -28.0])
@pytest.mark.parametrize("floor", [-100.0, -70.0, -50.0])
def test_ordinary_speech_is_not_changed_by_a_bit(said: Samples, level: float, floor: float) -> None:
    samples = at(level, said)
    samples = samples + noise(len(samples) / RATE, min(floor, level - 15))
    np.testing.assert_array_equal(heard(samples), samples)


@pytest.mark.parametrize("level", [-20.0, -40.0, -60.0, -85.0, -1_000.0])
def test_noise_alone_and_zeros_are_not_changed(level: float) -> None:
    samples = noise(12.0, level)
    np.testing.assert_array_equal(heard(samples), samples)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 3.99, 4.0, 9.3])
@pytest.mark.parametrize("level", [-20.0, -50.0])
def test_as_many_samples_come_out(said: Samples, seconds: float, level: float) -> None:
    samples = at(level, said)[: round(seconds * RATE)]
    assert len(heard(samples)) == len(samples)


@settings(max_examples=8)
@given(st.integers(1, 100_000), st.sampled_from([-20.0, -45.0, -70.0]), st.booleans())
def test_the_sizes_of_the_blocks_do_not_matter(size: int, level: float, offset: bool) -> None:
    samples = np.sin(np.arange(100_000) * 0.3) * np.abs(np.sin(np.arange(100_000) / 9_000))
    samples = np.asarray(at(level, samples.astype(np.float32)) + 0.3 * offset, np.float32)
    for one, other in zip(both(samples, size), both(samples), strict=True):
        np.testing.assert_array_equal(one, other)


# --- quiet sound ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-35.0, -45.0, -60.0, -75.0])
def test_quiet_speech_is_as_loud_as_other_speech_from_its_first_word_on(
    said: Samples, level: float
) -> None:
    found = heard(at(level, said))
    assert loudest(found) == pytest.approx(-20.0, abs=1.5)
    assert loudest(found[: 2 * RATE]) == pytest.approx(loudest(at(-20.0, said)[: 2 * RATE]), abs=4)
    assert np.abs(found).max() <= 1.0


def test_the_gain_moves_slowly(said: Samples) -> None:
    quiet = at(-45.0, said)
    gain = heard(quiet)[np.abs(quiet) > 1e-4] / quiet[np.abs(quiet) > 1e-4]
    db = 20 * np.log10(gain)
    assert np.abs(np.diff(db)).max() < 0.5
    assert db.max() - db.min() < 8


def test_a_quiet_speaker_after_a_loud_one_is_raised_and_the_loud_one_left(said: Samples) -> None:
    loud, quiet = at(-15.0, said), at(-50.0, said)
    found = heard(np.concatenate([loud, quiet, loud]))
    np.testing.assert_array_equal(found[: 8 * RATE], loud[: 8 * RATE])
    assert loudest(found[len(loud) + 5 * RATE : 2 * len(loud) - 5 * RATE]) > -26
    assert loudest(found[-8 * RATE :]) == pytest.approx(loudest(loud[-8 * RATE :]), abs=0.1)
    assert np.abs(found).max() <= max(1.0, float(np.abs(loud).max()))


def test_what_is_quiet_is_amplified_though_it_begins_late(said: Samples) -> None:
    start = noise(30.0, -80.0)
    found = heard(np.concatenate([start, at(-50.0, said)]))
    assert loudest(found[30 * RATE :]) == pytest.approx(-20.0, abs=1.5)
    np.testing.assert_array_equal(found[: 20 * RATE], start[: 20 * RATE])


def test_a_bang_does_not_keep_speech_quiet(said: Samples) -> None:
    samples = at(-50.0, said)
    samples[5 * RATE : 5 * RATE + 1_000] = 0.5
    for found in both(samples):
        assert loudest(found) == pytest.approx(-20.0, abs=2.0)
        assert np.abs(found).max() <= 1.0


def test_speech_that_16_bits_cannot_hold_is_noted(said: Samples) -> None:
    faint = np.round(at(-80.0, said) * 32768) / 32768
    (note,) = notes(faint.astype(np.float32), (1.0, 6.0))
    assert note.startswith("5.0 s of speech, the first at 1.0 s, lie below -75 dB")


def test_nothing_is_noted_of_what_is_loud_enough_nor_of_silence(said: Samples) -> None:
    assert notes(at(-60.0, said), (1.0, 6.0)) == []
    assert notes(noise(20.0, -90.0), (0.0, 20.0)) == []
    assert notes(np.concatenate([at(-20.0, said), noise(20.0, -90.0)]), (0.0, 12.0)) == []


def test_an_offset_that_leaves_next_to_nothing_is_noted(said: Samples) -> None:
    (note,) = notes(at(-30.0, said) + np.float32(0.9), (1.0, 6.0))
    assert "30 dB louder than all else" in note
    assert notes(at(-25.0, said) + np.float32(0.1), (1.0, 6.0)) == []


# --- live utterances -----------------------------------------------------------------------


@pytest.mark.parametrize("level", [-35.0, -50.0, -70.0])
def test_an_utterance_is_amplified_by_one_factor(said: Samples, level: float) -> None:
    quiet = at(level, said)
    found = levelled(quiet)
    factor = np.abs(found).max() / np.abs(quiet).max()
    np.testing.assert_allclose(found, quiet * factor, rtol=1e-5)
    assert loudest(found) == pytest.approx(-20.0, abs=1.0)


def test_an_utterance_that_is_loud_enough_or_nothing_is_left(said: Samples) -> None:
    for samples in (at(-30.0, said), noise(3.0, -50.0), np.zeros(RATE, np.float32), said[:100]):
        np.testing.assert_array_equal(levelled(samples), samples)


# --- offsets and rumble --------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.1, -0.3, 0.9])
@pytest.mark.parametrize("level", [-25.0, -45.0])
def test_the_vad_hears_no_constant_offset(said: Samples, offset: float, level: float) -> None:
    quiet = at(level, said)
    found = both(quiet + np.float32(offset)).vad
    assert abs(float(found.mean())) < 1e-3
    expected = heard(filtered(at_rest(quiet), quiet))
    assert loudest(found) == pytest.approx(loudest(expected), abs=1.5)
    assert np.abs(found).max() <= 1.0


@pytest.mark.parametrize("offset", [0.1, -0.3])
def test_the_model_hears_an_offset_as_it_was_recorded(said: Samples, offset: float) -> None:
    samples = at(-20.0, said) + np.float32(offset)
    np.testing.assert_array_equal(both(samples).model, samples)


@pytest.mark.parametrize(("level", "offset"), [(-45.0, 0.5), (-45.0, 0.9), (-28.0, 0.95)])
def test_the_model_hears_no_offset_beside_which_speech_is_next_to_nothing(
    said: Samples, level: float, offset: float
) -> None:
    found = both(at(level, said) + np.float32(offset))
    np.testing.assert_array_equal(found.model, found.vad)


def test_the_vad_hears_no_rumble_and_the_model_what_was_recorded(said: Samples) -> None:
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=len(said)))
    hertz = np.fft.rfftfreq(len(said), 1 / RATE)
    spectrum[(hertz < 20) | (hertz > 90)] = 0
    rumble = np.fft.irfft(spectrum, len(said))
    rumble *= 10 ** (18 / 20) * np.std(said) / np.std(rumble)
    scale = 0.9 / np.abs(said + rumble).max()
    samples = ((said + rumble) * scale).astype(np.float32)
    model, found = both(samples)
    np.testing.assert_array_equal(model, samples)
    above = (hertz > 200) & (hertz < 4_000)
    one, other = (np.abs(np.fft.rfft(x))[above] for x in (found, said))
    assert np.corrcoef(one, other)[0, 1] > 0.9
    low = hertz < 90
    left, added = (np.linalg.norm(np.fft.rfft(x)[low]) for x in (found, rumble * scale))
    assert left < 0.3 * added


def test_where_an_offset_comes_and_goes_there_is_no_click(said: Samples) -> None:
    samples = at(-25.0, np.concatenate([said, said, said]))
    samples[len(said) : 2 * len(said)] += np.float32(0.2) * np.hanning(len(said)).astype(np.float32)
    for found in both(samples):
        np.testing.assert_array_equal(found[: len(said) // 2], samples[: len(said) // 2])
        assert np.abs(np.diff(found)).max() < 1.5 * np.abs(np.diff(samples)).max()


@pytest.mark.parametrize(
    ("hertz", "least", "most"),
    [(20, -80, -50), (50, -30, -20), (100, -3.2, -2.8), (200, -0.3, 0.1), (3_000, -0.1, 0.1)],
)
def test_what_the_high_pass_lets_through_from_call_to_call(
    hertz: float, least: float, most: float
) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(4 * RATE) / RATE).astype(np.float32)
    before = at_rest(tone)
    whole, parts = filtered(before, tone), []
    assert least < 20 * np.log10(np.std(whole[2 * RATE :]) / np.std(tone[2 * RATE :])) < most
    for part in blocks(tone, 777):
        parts.append(filtered(before, part))
        before = remembered(before, part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@given(
    st.floats(20, 300), st.floats(-60, 0), st.floats(20, 8_000), st.integers(0, 3), st.booleans()
)
def test_the_share_below_100_hz_is_never_taken_for_much_less(
    hertz: float, level: float, other: float, seed: int, offset: bool
) -> None:
    """Of tones, an offset and noise together; the second look is exact."""
    time = np.arange(30 * FRAME) / RATE
    tones = 10 ** (level / 20) * np.sin(2 * np.pi * hertz * time) + np.sin(2 * np.pi * other * time)
    samples = np.asarray(0.2 * tones + 0.1 * offset, np.float32) + noise(1, -40, seed)[: len(time)]
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    spectrum[1:] *= 2
    low = np.fft.rfftfreq(len(samples), 1 / RATE) <= 90
    assert low_share(samples) >= 0.85 * spectrum[low].sum() / spectrum.sum() - 0.01


def test_loud_sound_without_rumble_is_not_filtered_and_its_power_is_nearly_the_same() -> None:
    frames = np.asarray(soundfile.read(SAMPLES / "weather.flac", dtype="float32")[0][: 30 * FRAME])
    stretch = Stretch(frames.reshape(-1, FRAME), at_rest(frames))
    powers, above = stretch.powers
    assert above is powers
    exact = np.square(stretch.above).mean(axis=1)
    assert 10 * np.log10(powers.sum() / exact.sum()) < 0.22


def test_rumble_is_filtered(said: Samples) -> None:
    rumbling = said[: 30 * FRAME] + np.float32(0.3)
    powers, above = Stretch(rumbling.reshape(-1, FRAME), at_rest(rumbling)).powers
    assert above.sum() < powers.sum() / 2
