"""Quiet sound made louder for the VAD."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stt.audio.vad import FRAME, Gain, levels


def tone(db: float, frames: int) -> npt.NDArray[np.float32]:
    """A sine of this level."""
    t = np.arange(frames * FRAME) / 16_000
    amplitude = np.sqrt(2) * 10 ** (db / 20)
    return (amplitude * np.sin(2 * np.pi * 500 * t)).astype(np.float32).reshape(frames, FRAME)


@pytest.mark.parametrize(
    ("db", "raised"),
    [(-10.0, -10.0), (-20.0, -20.0), (-40.0, -20.0), (-49.0, -20.0), (-80.0, -50.0)],
)
def test_quiet_sound_is_raised_and_loud_sound_left(db: float, raised: float) -> None:
    assert levels(Gain()(tone(db, 20))) == pytest.approx(np.full(20, raised), abs=0.2)


def test_digital_silence_stays_silent() -> None:
    assert not Gain()(np.zeros((10, FRAME), np.float32)).any()


def test_a_loud_frame_behind_quiet_ones_is_not_overdriven() -> None:
    found = Gain()(np.vstack([tone(-60, 50), tone(-12, 1)]))
    assert levels(found[-1:]) == pytest.approx([-12.0], abs=0.2)
    assert np.abs(found).max() < 1


def test_quiet_speech_is_heard_soon_after_a_bang() -> None:
    gain = Gain()
    gain(tone(-45, 100))
    gain(tone(-3, 4))
    assert levels(gain(tone(-45, 5)))[-1] == pytest.approx(-20.0, abs=0.2)


def test_after_loud_speech_it_takes_four_seconds() -> None:
    gain = Gain()
    gain(tone(-10, 60))
    assert levels(gain(tone(-45, 50)))[-1] == pytest.approx(-45.0, abs=0.2)
    assert levels(gain(tone(-45, 80)))[-1] == pytest.approx(-20.0, abs=0.2)


def test_the_sizes_of_the_batches_do_not_matter() -> None:
    frames = np.vstack([tone(db, 3) for db in (-60, -30, -50, -10, -45)])
    gain = Gain()
    parts = [gain(frames[i : i + n]) for i, n in ((0, 1), (1, 0), (1, 6), (7, 8))]
    np.testing.assert_array_equal(np.concatenate(parts), Gain()(frames))
