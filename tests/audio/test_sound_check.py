"""What is said of bad sound, and when; samples counted beside the wall clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.sound_check import (
    PATIENCE,
    SILENT_DB,
    SampleClock,
    SoundCheck,
    Trouble,
    decibels,
)
from stt.types import Samples

RATE = 8_000
BLOCK = RATE // 20


def troubles(check: SoundCheck, sound: Samples, block: int = BLOCK) -> list[tuple[float, Trouble]]:
    """Push it; return what was found, with the seconds heard by then."""
    found = []
    for start in range(0, len(sound), block):
        part = sound[start : start + block]
        found += [((start + len(part)) / RATE, each) for each in check.push(part)]
    return found


def noise(seconds: float, peak: float) -> Samples:
    values = np.random.default_rng(0).uniform(-peak, peak, round(seconds * RATE))
    return values.astype(np.float32)


def constant(seconds: float, value: float = 0.0) -> Samples:
    return np.full(round(seconds * RATE), value, np.float32)


# --- troubles --------------------------------------------------------------------------------


LOUD, CALM = np.clip(noise(4, 1.2), -1, 1), noise(4, 0.3)


@pytest.mark.parametrize(
    ("sound", "trouble"),
    [
        *((constant(20, value), Trouble.SILENCE) for value in (0.0, 1 / 32_768, -0.02)),
        (noise(20, 0.0005), Trouble.LOW),
        (np.clip(noise(20, 1.2), -1, 1), Trouble.CLIPPING),
    ],
)
def test_what_is_wrong_for_three_seconds_is_found_once(sound: Samples, trouble: Trouble) -> None:
    ((at, found),) = troubles(SoundCheck(RATE), sound)
    assert found is trouble
    assert at == pytest.approx(PATIENCE, abs=0.051)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([noise(20, 0.3)], [], id="a voice"),
        pytest.param([noise(20, 0.005)], [], id="a quiet room"),
        pytest.param([noise(1, 0.1), noise(60, 0.0005)], [], id="a pause"),
        pytest.param([noise(2, 0.3), constant(2.9), noise(5, 0.3)], [], id="a gap"),
        pytest.param([noise(5, 0.3), constant(0.001, 1), noise(5, 0.3)], [], id="a bang"),
        pytest.param([noise(1, 0.3), constant(4)] * 10, [Trouble.SILENCE] * 3, id="a noise gate"),
        pytest.param([constant(4), noise(2, 0.3), constant(4)], [Trouble.SILENCE] * 2, id="muted"),
        pytest.param([LOUD, CALM, LOUD], [Trouble.CLIPPING], id="one episode of clipping"),
        pytest.param([LOUD, noise(15, 0.3), LOUD], [Trouble.CLIPPING] * 2, id="two of clipping"),
    ],
)
def test_good_sound_and_episodes(parts: list[Samples], expected: list[Trouble]) -> None:
    found = troubles(SoundCheck(RATE), np.concatenate(parts))
    assert [trouble for _, trouble in found] == expected


@settings(deadline=None, max_examples=25)
@given(block=st.integers(80, RATE), seconds=st.floats(PATIENCE + 1.5, 6.0))
def test_what_is_said_does_not_depend_on_the_size_of_the_blocks(block: int, seconds: float) -> None:
    ((at, trouble),) = troubles(SoundCheck(RATE), constant(seconds), block)
    assert trouble is Trouble.SILENCE
    assert PATIENCE <= at + 1e-6 <= PATIENCE + block / RATE + 0.01


def test_another_device_is_judged_anew() -> None:
    check = SoundCheck(RATE)
    troubles(check, noise(5, 0.3))
    check.restart()
    assert check.level.peak_db == SILENT_DB
    assert [trouble for _, trouble in troubles(check, noise(5, 0.0005))] == [Trouble.LOW]


# --- the level -------------------------------------------------------------------------------


def test_the_level_is_that_of_the_last_third_of_a_second() -> None:
    check = SoundCheck(RATE)
    assert check.level.rms_db == check.level.peak_db == SILENT_DB
    troubles(check, np.concatenate([constant(2, 0.5), constant(0.3, 0.1)]))
    assert check.level.peak_db == pytest.approx(-20, abs=0.1)
    assert check.level.rms_db == pytest.approx(-20, abs=0.1)
    assert check.push(np.zeros(0, np.float32)) == []


@pytest.mark.parametrize(("value", "db"), [(1, 0), (0.1, -20), (0, SILENT_DB), (1e-9, SILENT_DB)])
def test_decibels(value: float, db: float) -> None:
    assert decibels(value) == pytest.approx(db)


# --- the clock -------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    hangs=st.lists(st.floats(0, 4.5), min_size=1, max_size=8),
    losses=st.sets(st.integers(0, 400), max_size=40),
    per_period=st.sampled_from([10, 50]),
)
def test_it_never_counts_more_than_the_wall_clock(
    hangs: list[float], losses: set[int], per_period: int
) -> None:
    """Every 5 s the machine hangs for up to 4.5 s; some blocks are lost without a word."""
    clock, step = SampleClock(RATE), 5.0 / per_period
    frames = round(step * RATE)
    for number in range(per_period * len(hangs)):
        period, place = divmod(number, per_period)
        if number in losses and place < per_period - 1:
            continue
        at, before = max((number + 1) * step, 5.0 * period + hangs[period]), clock.count
        lost = clock.took(frames, at)
        assert lost >= 0
        assert clock.count == before + lost + frames
        assert clock.count <= at * RATE + 1, "no more than the device can have captured"


@settings(deadline=None)
@given(late=st.lists(st.floats(0, 0.24), min_size=1, max_size=300))
def test_what_is_only_late_is_not_called_lost(late: list[float]) -> None:
    clock, at = SampleClock(RATE), 0.0
    for number, delay in enumerate(late):
        at = max(at, (number + 1) * 0.05 + delay)
        assert clock.took(400, at) == 0
    assert clock.count == 400 * len(late)


def test_a_machine_that_hangs_and_catches_up_has_lost_nothing() -> None:
    clock = SampleClock(RATE)
    for number in range(200):
        arrived = (number + 1) * 0.05
        at = max(arrived, 9.5) if arrived > 5 else arrived  # 4.5 s of sound come at once
        assert clock.took(400, at) == 0


@settings(deadline=None)
@given(gap=st.floats(0.4, 100), jitter=st.integers(0, 99))
def test_what_is_missing_without_a_word_is_found_within_seconds(gap: float, jitter: int) -> None:
    clock, found = SampleClock(RATE), 0
    for number, delay in enumerate(np.random.default_rng(jitter).uniform(0, 0.05, 250)):
        captured = (number + 1) * 0.05 + (gap if number >= 100 else 0)
        found += clock.took(400, captured + float(delay))
    assert found / RATE == pytest.approx(gap, abs=0.06)


def test_known_losses_are_not_found_a_second_time() -> None:
    clock = SampleClock(RATE)
    for number in range(200):
        if number == 100:
            clock.lose(5 * RATE)
        assert clock.took(400, (number + 1) * 0.05 + (5 if number >= 100 else 0)) == 0
    assert clock.count == 200 * 400 + 5 * RATE


def test_after_a_silence_of_the_device_the_wall_clock_says_what_is_missing() -> None:
    clock = SampleClock(RATE)
    assert clock.missing(400, 7.0) == 0, "before the first sample nothing can be missing"
    for number in range(100):
        clock.took(400, (number + 1) * 0.05)
    assert clock.missing(400, 5.05) == 0
    assert clock.missing(400, 9.05) == 4 * RATE


def hour(clock: SampleClock, ppm: float, late: Callable[[int], float]) -> int:
    """An hour of a device whose crystal is `ppm` millionths fast, in blocks of 0.1 s."""
    step = 0.1 / (1 + ppm * 1e-6)
    return sum(clock.took(RATE // 10, (k + 1) * step + late(k)) for k in range(36_000))


@pytest.mark.parametrize("ppm", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_over_an_hour_of_two_crystals_nothing_is_invented(ppm: float) -> None:
    late = np.abs(np.random.default_rng(3).normal(0, 0.03, 36_000))
    clock = SampleClock(RATE)
    assert hour(clock, ppm, lambda k: float(late[k])) == 0
    assert clock.count == 3600 * RATE
