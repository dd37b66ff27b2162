"""The graph of features for a card gives what the NumPy version gives, on the processor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.engine.sessions import Runtime
from stt.models.card_features import CardFeatures, features_graph
from stt.models.nemo_features import HOP, _log_mel, nemo_features
from stt.models.onnx_asr_edge import bands, mel_filters
from stt.types import Floats, Samples

GRAPHS = {mels: CardFeatures(mel_filters(mels), Runtime("cpu", 1)) for mels in (80, 128)}


def computed(utterances: Sequence[Samples], mels: int) -> Floats:
    """Features by the graph, as many frames of each as NumPy's version tells."""
    features, lengths = GRAPHS[mels](utterances)
    expected, frames = nemo_features(utterances, bands(mels))
    found: Floats = features.numpy().copy()
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    assert lengths.tolist() == frames.tolist()
    for row, length in zip(found, lengths, strict=True):
        assert not row[:, length:].any()
    return found


def agree(utterances: Sequence[Samples], mels: int) -> None:
    """Hold the logarithms of energies against NumPy's, whatever they were divided by."""
    for row, samples in zip(computed(utterances, mels), utterances, strict=True):
        if (length := len(samples) // HOP) < 2:
            assert not row.any()
            continue
        logs = _log_mel(samples, length, bands(mels)).astype(np.float64).T
        apart = logs - logs.mean(axis=1, keepdims=True)
        deviation = np.sqrt((apart**2).sum(axis=1, keepdims=True) / (length - 1)) + 1e-5
        np.testing.assert_allclose(row[:, :length] * deviation, apart, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mels", [80, 128])
def test_speech(speech: Samples, mels: int) -> None:
    agree([speech], mels)
    expected, _ = nemo_features([speech], bands(mels))
    np.testing.assert_allclose(computed([speech], mels), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, 2 * HOP - 1, 2 * HOP, 399, 400, 1600, 20_001])
def test_every_edge_of_length(speech: Samples, samples: int) -> None:
    agree([speech[20_000 : 20_000 + samples]], 80)


def test_a_batch_of_lengths_is_each_of_them_alone(speech: Samples) -> None:
    utterances = [speech[:5000], speech[:100], speech[3000:90_000], speech[:HOP]]
    together = computed(utterances, 128)
    for row, samples in zip(together, utterances, strict=True):
        length = len(samples) // HOP
        np.testing.assert_allclose(
            row[:, :length], computed([samples], 128)[0, :, :length], rtol=0, atol=1e-5
        )


def test_silence_is_zero_and_a_pure_tone_is_right() -> None:
    assert not computed([np.zeros(30_000, np.float32)], 128).any()
    agree([np.sin(np.arange(30_000) * 0.3).astype(np.float32)], 128)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 16_000), min_size=1, max_size=3),
    loud=st.floats(1e-4, 1),
)
def test_noise_of_any_length_and_level(seed: int, lengths: list[int], loud: float) -> None:
    rng = np.random.default_rng(seed)
    agree([(rng.uniform(-1, 1, n) * loud).astype(np.float32) for n in lengths], 80)


def test_nothing_in_it_is_planned_by_length_or_rounded_to_fewer_bits() -> None:
    model = onnx.load_from_string(features_graph(mel_filters(80)))
    assert not {node.op_type for node in model.graph.node} & {"Conv", "STFT", "DFT", "Loop"}
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert [constants[node.input[1]] for node in products] == [onnx.TensorProto.DOUBLE] * 2
