"""Our features are onnx-asr's, bit for bit, on real and random audio of every length."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

from stt.engine.sessions import Runtime
from stt.models import inspect
from stt.models.nemo_features import HOP, nemo_features
from stt.models.onnx_asr_edge import bands, batch_features, load_ctc
from stt.types import Samples
from support import tiny_nemo


def theirs(utterances: Sequence[Samples], mels: int) -> tuple[Samples, npt.NDArray[np.int64]]:
    """onnx-asr's features of utterances padded with zeros."""
    lengths = np.array([len(samples) for samples in utterances])
    padded = np.zeros((len(utterances), lengths.max()), np.float32)
    for row, samples in zip(padded, utterances, strict=True):
        row[: len(samples)] = samples
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it divides by zero where there are no two frames
        features, frames = NemoPreprocessorNumpy(f"nemo{mels}")(padded, lengths)
    return features, frames


def agree(utterances: Sequence[Samples], mels: int) -> None:
    features, frames = nemo_features(utterances, bands(mels))
    expected, lengths = theirs(utterances, mels)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert frames.tolist() == lengths.tolist()
    assert features.shape == expected.shape
    several = frames != 1
    np.testing.assert_allclose(features[several], expected[several], rtol=0, atol=1e-5)
    assert not features[~several].any()


@pytest.mark.parametrize("mels", [80, 128])
def test_speech_with_one_thread_and_with_two(speech: Samples, mels: int) -> None:
    agree([speech[: 3 * 16_000]], mels)
    agree([np.tile(speech, 3)], mels)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize(
    "samples", [1, 2, HOP - 1, HOP, 2 * HOP - 1, 2 * HOP, 399, 400, 1600, 128 * HOP, 501 * HOP + 1]
)
def test_every_edge_of_length(speech: Samples, samples: int, mels: int) -> None:
    agree([np.tile(speech, 2)[20_000 : 20_000 + samples]], mels)


def test_a_batch_of_lengths_is_each_of_them_alone(speech: Samples) -> None:
    utterances = [speech[:5000], speech[:100], speech[3000:90_000], speech[:HOP]]
    agree(utterances, 128)
    together, frames = nemo_features(utterances, bands(128))
    for row, samples, length in zip(together, utterances, frames, strict=True):
        alone, _ = nemo_features([samples], bands(128))
        np.testing.assert_array_equal(row[:, :length], alone[0, :, :length])
        assert not row[:, length:].any()


def test_silence_and_a_pure_tone() -> None:
    agree([np.zeros(30_000, np.float32)], 80)
    agree([np.sin(np.arange(30_000) * 0.3).astype(np.float32)], 128)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 16_000), min_size=1, max_size=3),
    loud=st.floats(0, 1),
)
def test_noise_of_any_length_and_level(seed: int, lengths: list[int], loud: float) -> None:
    rng = np.random.default_rng(seed)
    agree([(rng.uniform(-1, 1, n) * loud).astype(np.float32) for n in lengths], 80)


def test_a_model_on_the_cpu_gets_them(tmp_path: Path, speech: Samples) -> None:
    kind = "nemo-conformer-ctc"
    model = load_ctc(inspect(tiny_nemo.build(tmp_path / kind, kind)), "fp32", Runtime("cpu", 1))
    ours, lengths = batch_features(model.asr, [speech, speech[:8000]])
    expected, frames = nemo_features([speech, speech[:8000]], bands(80))
    np.testing.assert_array_equal(ours, expected)
    assert lengths.tolist() == frames.tolist()
    model.asr._preprocessor = NemoPreprocessorNumpy("nemo80").__call__  # as onnx-asr's graph
    theirs_, _ = batch_features(model.asr, [speech, speech[:8000]])
    np.testing.assert_allclose(theirs_, expected, rtol=0, atol=1e-5)
