"""Resampling: in place, of the right length, and the same for blocks of any size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.samples import resampled
from stt.types import SAMPLE_RATE

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
    assert len(out) == 2 * SAMPLE_RATE
    assert abs(int(np.abs(out).argmax()) - at * SAMPLE_RATE) <= 1


@given(st.sampled_from(RATES), st.lists(st.integers(0, 20_000), max_size=20))
def test_blocks_of_any_size_give_the_same_samples(rate: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    np.testing.assert_array_equal(whole(samples, rate, *cuts), whole(samples, rate))


def test_nothing_in_nothing_out() -> None:
    assert not list(resampled(iter([]), 44_100))
