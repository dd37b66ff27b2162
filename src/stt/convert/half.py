"""Float32 numbers as float16: what becomes of those it cannot hold, and how many there were.

The limits are those that onnxconverter_common's `convert_float_to_float16` documents: magnitudes
over 1e4 become 1e4, magnitudes under 1e-7 other than zero become 1e-7. Infinities are clipped too:
exported masks use them for "never", which -1e4 says as well before a softmax, without its NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST, SMALLEST = 1e4, 1e-7


@dataclass(slots=True)
class Tally:
    """What the conversion of weights changed; counts grow while weights are written."""

    values: int = 0
    """Numbers converted to float16."""
    clipped: int = 0
    """Of them, those larger in magnitude than 1e4."""
    raised: int = 0
    """Of them, those that were not zero and smaller in magnitude than 1e-7."""


def to_half(values: npt.NDArray[np.float32], tally: Tally) -> npt.NDArray[np.float16]:
    """Convert float32 of any shape; NaN stays NaN."""
    flat = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(flat.shape, np.float16)
    for begin in range(0, len(flat), _BLOCK):
        result[begin : begin + _BLOCK] = _block(flat[begin : begin + _BLOCK], tally)
    tally.values += flat.size
    return result.reshape(values.shape)


_BLOCK = 1 << 16  # numbers that stay in the processor's cache through all the passes over them


def _block(values: npt.NDArray[np.float32], tally: Tally) -> npt.NDArray[np.float32]:
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
