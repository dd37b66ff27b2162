"""Float32 numbers as float16: limits as onnxconverter_common documents them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper

from stt.convert.model_file import read
from stt.convert.weight import LARGEST, SMALLEST, Tally, to_half
from stt.errors import ModelError
from support.model_files import BIG, again, model_of, outside, same, saved

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


# --- weights in other files and of other types --------------------------------------------------


@pytest.mark.parametrize("external", [{}, {"location": "w.bin", "size_threshold": 0}])
@pytest.mark.parametrize(
    "elem_type",
    [TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN],
)
@pytest.mark.parametrize("count", [31, 4097])
def test_types_numpy_does_not_have_pass_through_as_they_are(
    tmp_path: Path, elem_type: int, count: int, external: dict[str, object]
):
    tensor = helper.make_tensor("w", elem_type, [count], [n % 7 for n in range(count)])
    raw = numpy_helper.to_array(tensor)
    model = model_of(numpy_helper.from_array(raw, "w"))
    found = onnx.load(again(saved(tmp_path, model, **external))).graph.initializer[0]
    assert found.data_type == elem_type
    assert np.array_equal(numpy_helper.to_array(found), raw)


def test_weights_that_share_bytes_are_both_read(tmp_path: Path):
    flat = np.arange(4000, dtype=np.float32)
    (tmp_path / "shared.bin").write_bytes(b"\0" * 64 + flat.tobytes())
    tensors = [
        outside("one", TensorProto.FLOAT, [40, 50], location="shared.bin", offset=64, length=8000),
        outside("two", TensorProto.FLOAT, [2000], location="shared.bin", offset=64, length=8000),
        outside("over", TensorProto.FLOAT, [3000], location="shared.bin", offset=64 + 4000),
    ]
    path = saved(tmp_path, model_of(*tensors))
    want = {"one": flat[:2000].reshape(40, 50), "two": flat[:2000], "over": flat[1000:]}
    same(again(path), want)


def test_a_weights_file_in_a_folder_below_is_read(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(BIG.tobytes())
    path = saved(tmp_path, model_of(outside("w", 1, [40, 30], location="data/w.bin")))
    assert np.array_equal(read(path).weights["w"].load(), BIG)


@pytest.mark.parametrize(
    "location",
    [
        *("../outside.bin", "/etc/passwd", "data/../../outside.bin", "", "."),
        *("..\\outside.bin", "C:\\outside.bin", "\\\\server\\share"),
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_a_location_outside_the_folder_is_refused(tmp_path: Path, location: str, long: bool):
    (tmp_path / "outside.bin").write_bytes(BIG.tobytes())
    tensor = outside("w", 1, [40, 30], location=location)
    tensor.doc_string = "x" * (2000 if long else 0)
    (tmp_path / "model").mkdir()
    path = saved(tmp_path / "model", model_of(tensor))
    with pytest.raises(ModelError, match="outside the model's folder"):
        read(path)


@pytest.mark.parametrize(
    ("entries", "elem_type", "message"),
    [
        ({"offset": -8, "length": 4800}, 1, r"w\b"),
        ({"length": -4800}, 1, r"w\b"),
        ({"length": 4796}, 1, r"w\b"),
        ({"offset": "eight"}, 1, r"w\b"),
        ({"offset": 8}, 1, r"w\b"),
        ({"offset": 2**63}, 1, r"w\b"),
        ({}, 0, "unknown type"),
        ({}, 99, "unknown type"),
        ({"location": "gone.bin"}, 1, r"gone\.bin is missing"),
    ],
)
def test_offsets_lengths_types_and_files_that_do_not_fit_are_refused(
    tmp_path: Path, entries: dict[str, object], elem_type: int, message: str
):
    (tmp_path / "w.bin").write_bytes(BIG.tobytes())
    tensor = outside("w", 1, [40, 30], **{"location": "w.bin", **entries})
    tensor.data_type = elem_type
    path = saved(tmp_path, model_of(tensor))
    with pytest.raises(ModelError, match=message):
        read(path)
