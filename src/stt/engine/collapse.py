"""Output of a model that cannot be read: NaN or infinity, as when FP16 overflows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stt.errors import ModelError

Floats = npt.NDArray[np.float32]


class CollapseError(ModelError):
    """A model's output holds NaN or infinity: nothing can be read from it."""

    def __init__(self, what: str, index: int = 0) -> None:
        """`what` and where, e.g. NaN in the encoder output; `index`: which of the batch."""
        super().__init__(f"{what}: this model gives nothing usable; run `stt setup` for it again")
        self.what = what
        self.index = index
        """Place of the utterance in its batch; the first where it is not known."""


def finite(values: Floats, where: str) -> Floats:
    """Return `values` as they are.

    Raises:
        CollapseError: one of them is NaN or infinite; its text names `where`.
    """
    if np.isfinite(values).all():
        return values
    raise CollapseError(f"{'NaN' if np.isnan(values).any() else 'infinity'} in the {where}")
