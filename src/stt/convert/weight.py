"""Large initializers that lie on disk until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path, PureWindowsPath

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from stt.errors import ModelError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
LARGEST, SMALLEST = 1e4, 1e-7
"""Magnitudes that conversion to float16 keeps, as onnxconverter_common's documents them."""

# By onnx.TensorProto.DataType: what numpy has itself, and the bits of a number of the other types
DTYPES = {
    **{1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2"},
    **{11: "<f8", 12: "<u4", 13: "<u8", 14: "<c8", 15: "<c16"},
}
_BITS = {16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}


@dataclass(frozen=True, slots=True)
class Weight:
    """A large initializer that is not in memory."""

    name: str
    elem_type: int
    """onnx.TensorProto.DataType."""
    shape: tuple[int, ...]
    nbytes: int
    load: Callable[[], Array]
    """Read or compute it: an array of `nbytes` bytes, new on every call.

    Of types that numpy does not have (bfloat16, 4 bits) it is the bytes as they are stored.
    """
    place: tuple[Path, int] | None = None
    """The file and the byte where it lies as it is; None where it is made or parsed."""


def reported(
    weights: Iterable[Weight], stage: str, report: Callable[[str, int, int], None]
) -> list[Weight]:
    """The same weights, telling (stage, bytes loaded so far, bytes in all) as each is loaded."""
    weights = list(weights)
    total = sum(weight.nbytes for weight in weights)
    before = dict(
        zip((w.name for w in weights), accumulate(w.nbytes for w in weights), strict=True)
    )

    def load(weight: Weight) -> Array:
        array = weight.load()
        report(stage, before[weight.name], total)
        return array

    return [replace(weight, load=partial(load, weight)) for weight in weights]


def floats(weight: Weight) -> Floats:
    """The values of a weight of floats, in float32."""
    return weight.load().astype(np.float32, copy=False)


@dataclass(slots=True)
class Tally:
    """What the conversion of weights changed; counts grow while weights are written."""

    values: int = 0
    """Numbers converted to float16."""
    clipped: int = 0
    """Of them, those larger in magnitude than 1e4."""
    raised: int = 0
    """Of them, those that were not zero and smaller in magnitude than 1e-7."""


def to_half(values: Floats, tally: Tally) -> npt.NDArray[np.float16]:
    """Convert float32 of any shape; NaN stays NaN.

    Magnitudes over 1e4 become 1e4, those under 1e-7 other than zero become 1e-7. Infinities are
    clipped too: exported masks use them for "never", which -1e4 says as well before a softmax,
    without its NaN.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(flat.shape, np.float16)
    for begin in range(0, len(flat), _BLOCK):
        result[begin : begin + _BLOCK] = _block(flat[begin : begin + _BLOCK], tally)
    tally.values += flat.size
    return result.reshape(values.shape)


_BLOCK = 1 << 16  # numbers that stay in the processor's cache through all the passes over them


def _block(values: Floats, tally: Tally) -> Floats:
    size = np.abs(values)
    over = int(np.count_nonzero(size > LARGEST))
    if over:
        values = np.clip(values, -LARGEST, LARGEST)
        tally.clipped += over
    small = (size < SMALLEST) & (size > 0)
    raised = int(np.count_nonzero(small))
    if raised:
        values = np.where(small, np.copysign(np.float32(SMALLEST), values), values)
        tally.raised += raised
    return values


def value_of(tensor: onnx.TensorProto) -> Array:
    """The array of a small initializer or of a Constant's attribute."""
    array: Array = numpy_helper.to_array(tensor)
    return array


def external(tensor: onnx.TensorProto, path: Path) -> Weight:
    """The weight of a tensor whose data lies in another file of the folder of `path`.

    Raises:
        ModelError: the place is outside the folder, or not there.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PureWindowsPath(location)  # knows both slashes: a model is refused on every system
    if parts.drive or parts.root or ".." in parts.parts or not parts.parts:
        raise ModelError(
            f"{path}: weight {tensor.name} lies at {location!r}, outside the model's folder; "
            "do not use this model"
        )
    file, size = path.parent / location, data_bytes(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0:
        raise ModelError(f"{path}: weight {tensor.name} lies at no place; fetch the model again")
    have = file.stat().st_size if file.is_file() else None
    if have is None or have < offset + length:
        fault = "is missing" if have is None else f"has {have:,} bytes, {offset + length:,} needed"
        raise ModelError(f"{path}: its weights file {file.name} {fault}; fetch it again")
    return stored(tensor, file, offset, length)


def stored(tensor: onnx.TensorProto, file: Path, offset: int, length: int) -> Weight:
    """The weight whose data are `length` bytes of a file.

    Raises:
        ModelError: the length is not that of its shape.
    """
    shape = tuple(tensor.dims)
    if length != data_bytes(tensor):
        raise ModelError(
            f"{file}: weight {tensor.name} of shape {shape} has {length:,} bytes; fetch it again"
        )
    known = DTYPES.get(tensor.data_type)
    dtype = np.dtype(known or "u1")

    def load() -> Array:
        # not memory-mapped: pages of a map count as memory of this process
        array: Array = np.fromfile(file, dtype, length // dtype.itemsize, offset=offset)
        return array.reshape(shape) if known else array

    return Weight(tensor.name, tensor.data_type, shape, length, load, (file, offset))


def data_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data when stored raw."""
    count: int = math.prod(tensor.dims)
    if tensor.data_type in DTYPES:
        return count * np.dtype(DTYPES[tensor.data_type]).itemsize
    if tensor.data_type in _BITS:
        return -(-count * _BITS[tensor.data_type] // 8)
    raise ValueError(f"{tensor.name} has the unknown type {tensor.data_type}")
