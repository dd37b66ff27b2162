"""What goes into the graphs of NeMo's models and what comes out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.sessions import finite
from stt.errors import ModelError
from stt.types import Floats

Features = tuple[Floats, npt.NDArray[np.int64]]
"""Of several utterances, float32 [B, mels, T], and how many frames are real, int64 [B]."""
Encoded = tuple[Floats, npt.NDArray[np.int64]]
"""All frames of several utterances, float32 [B, T, D], and how many are real, int64 [B]."""


def check_graph(session: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Hold a session's graph against what onnx-asr's layout promises.

    Raises:
        ModelError: an input or output is missing, or is FP16: FP16 models keep FP32 at their edges.
    """
    found = {node.name: node.type for node in (*session.get_inputs(), *session.get_outputs())}
    if missing := [name for name in (*inputs, *outputs) if name not in found]:
        raise ModelError(f"a graph has no input or output named {missing[0]}")
    if half := [name for name, kind in found.items() if kind == "tensor(float16)"]:
        raise ModelError(f"{half[0]} is float16; inputs and outputs must be float32")


def usable(outputs: Floats, valid: int) -> Floats:
    """Return the real frames of an encoder's output, float32 [T, D].

    `valid` is the length the model tells; a converted length path may tell more frames than there
    are, or fewer than none.

    Raises:
        NonFiniteOutput: NaN or infinity in them; what padding holds does not matter.
    """
    return finite(np.asarray(outputs[: max(valid, 0)]), "encoder output")
