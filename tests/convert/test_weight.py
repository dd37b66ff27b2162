"""Float32 numbers as float16: limits as onnxconverter_common documents them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stt.convert.weight import LARGEST, SMALLEST, Tally, to_half

floats = npst.arrays(np.float32, npst.array_shapes(max_dims=3), elements=st.floats(width=32))


def test_the_limits_are_those_documented():
    assert (SMALLEST, LARGEST) == (1e-7, 1e4)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (0.0, 0.0),
        (-0.0, -0.0),
        (1.0, 1.0),
        (10_000.0, 10_000.0),
        (10_001.0, 10_000.0),
        (-3.4e38, -10_000.0),
        (np.inf, 10_000.0),
        (-np.inf, -10_000.0),
        (1e-7, np.float16(1e-7)),
        (9e-8, np.float16(1e-7)),
        (-1e-30, np.float16(-1e-7)),
        (1e-45, np.float16(1e-7)),
        (6e-5, np.float16(6e-5)),
    ],
)
def test_a_number_becomes(value: float, want: float):
    got = to_half(np.array([value], np.float32), Tally())[0]
    assert got == want
    assert np.signbit(got) == np.signbit(np.float16(want))


def test_not_a_number_stays_so():
    tally = Tally()
    assert np.isnan(to_half(np.array([np.nan], np.float32), tally)).all()
    assert (tally.clipped, tally.raised) == (0, 0)


@settings(max_examples=100)
@given(floats)
def test_every_number_is_the_nearest_half_within_the_limits_and_counted(values: np.ndarray):
    tally, before = Tally(), values.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = to_half(values, tally)
    assert got.dtype == np.float16
    assert got.shape == values.shape
    assert np.array_equal(values, before, equal_nan=True)
    size = np.abs(values)
    small = (size > 0) & (size < SMALLEST)
    want = np.clip(values, -LARGEST, LARGEST)
    want = np.where(small, np.copysign(np.float32(SMALLEST), values), want).astype(np.float16)
    assert np.array_equal(got, want, equal_nan=True)
    assert (tally.values, tally.clipped, tally.raised) == (
        values.size,
        np.count_nonzero(size > LARGEST),
        np.count_nonzero(small),
    )
    assert not np.isinf(got).any()
    assert np.count_nonzero(got) == np.count_nonzero(values)


@settings(max_examples=50)
@given(floats)
def test_agrees_with_the_documented_converter_on_finite_numbers(values: np.ndarray):
    float16 = pytest.importorskip("onnxconverter_common.float16")
    finite = np.nan_to_num(values, posinf=1e6, neginf=-1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = float16.convert_np_to_float16(finite, SMALLEST, LARGEST)
    ours = to_half(finite, Tally())
    # theirs has its limits as doubles: at exactly 1e-7 in float32 it may take the number itself
    assert np.allclose(ours.astype(np.float32), theirs.astype(np.float32), rtol=0, atol=1.2e-7)


def test_large_arrays_are_converted_in_blocks_without_seams():
    values = np.random.default_rng(3).standard_normal(300_001).astype(np.float32)
    values[::1000] = 1e-9
    values[::1001] = -1e9
    tally = Tally()
    got = to_half(values, tally)
    assert tally.values == len(values)
    assert tally.clipped == len(values[::1001])
    assert np.array_equal(got[1:999], values[1:999].astype(np.float16))
    assert (got[::1001] == -10_000).all()


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: a[::2, ::-1], lambda a: a.T])
def test_any_layout_in_memory_will_do(make: object):
    values = make(np.random.default_rng(4).standard_normal((30, 40)).astype(np.float32))
    assert np.array_equal(to_half(values, Tally()), values.astype(np.float16))


def test_scalars_and_empty_arrays_keep_their_shape():
    assert to_half(np.array(2.5, np.float32), Tally()).shape == ()
    assert to_half(np.zeros((0, 3), np.float32), Tally()).shape == (0, 3)
