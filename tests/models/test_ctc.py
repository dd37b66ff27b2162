"""Greedy CTC on scripted frames, and beside onnx-asr's own decoding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_asr.models.nemo import NemoConformerCtc

from stt.models.ctc import greedy_ctc

A, B, BLANK = 0, 1, 2


def frames(script: str) -> npt.NDArray[np.float32]:
    """One frame for each of "a", "b" and "-"."""
    return np.eye(3, dtype=np.float32)[["ab-".index(one) for one in script]]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        ("---", []),
        ("a", [(A, 0, 1)]),
        ("aaab", [(A, 0, 3), (B, 3, 1)]),
        ("-a-a", [(A, 1, 1), (A, 3, 1)]),
        ("bb--aab-", [(B, 0, 2), (A, 4, 2), (B, 6, 1)]),
    ],
)
def test_runs_are_tokens(script: str, expected: list[tuple[int, int, int]]) -> None:
    values = frames(script).reshape(-1, 3)
    assert [(e.id, e.frame, e.duration) for e in greedy_ctc(values, BLANK)] == expected


def test_the_probability_is_that_of_the_best_frame() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.6, 0.2, 0.2]], np.float32)
    (emission,) = greedy_ctc(np.log(probabilities), BLANK)
    assert np.exp(emission.logprob) == pytest.approx(0.8, abs=1e-6)


class OnnxAsrCtc(NemoConformerCtc):
    def __init__(self) -> None:
        self._blank_idx, self._vocab_size = BLANK, 3


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(-1, 2))
def test_the_same_tokens_as_onnx_asr(seed: int, length: int, blank_bias: float) -> None:
    values = np.random.default_rng(seed).standard_normal((length, 3)).astype(np.float32)
    values = np.round(values, 1)  # ties happen too
    values[:, BLANK] += np.float32(blank_bias)
    ours = greedy_ctc(values, BLANK)
    if (values.argmax(axis=1) == BLANK).all():  # onnx-asr fails on it
        assert ours == []
        return
    tokens, at, _ = next(iter(OnnxAsrCtc()._decoding(values[None], np.array([length]))))
    assert [e.id for e in ours] == list(tokens)
    assert [e.frame for e in ours] == list(at)
    assert sum(e.duration for e in ours) == int((values.argmax(axis=1) != BLANK).sum())
