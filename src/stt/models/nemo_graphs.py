"""What goes into the graphs of NeMo's models and what comes out of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.sessions import finite
from stt.errors import ModelError, NonFiniteOutput
from stt.types import Floats

Lengths = npt.NDArray[np.int64]
Features = tuple[Any, Lengths]
"""Of several utterances, float32 [B, mels, T], and how many frames are real, int64 [B]."""
Encoded = tuple[Any, Lengths]
"""All frames of several utterances, and how many are real, int64 [B]: an array float32 [B, T, D],
or an OrtValue [B, D, T] where they stay on a card."""
Group = tuple[Sequence[int], Encoded]
"""Places of utterances in their batch, and what the encoder made of them together."""


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


def check_features(size: int, session: Any, folder: Path) -> None:
    """Hold config.json's features_size against the input of the graph that takes the features.

    Raises:
        ModelError: they differ.
    """
    takes = next(node for node in session.get_inputs() if node.name == "audio_signal").shape[1]
    if isinstance(takes, int) and takes != size:
        raise ModelError(
            f"config.json says features_size {size} (80 where it says nothing), but "
            f"the model takes {takes}; correct {folder.resolve() / 'config.json'}"
        )


def usable(outputs: Floats, valid: int) -> Floats:
    """Return the real frames of an encoder's output, float32 [T, D].

    `valid` is the length the model tells; a converted length path may tell more frames than there
    are, or fewer than none.

    Raises:
        NonFiniteOutput: NaN or infinity in them; what padding holds does not matter.
    """
    return finite(np.asarray(outputs[: max(valid, 0)]), "encoder output")


def usable_frames(encoded: Sequence[Group]) -> list[Floats]:
    """Return the real frames, float32 [T, D], of each utterance of a batch in its order.

    Raises:
        NonFiniteOutput: NaN or infinity in them; its `index` is the utterance's.
    """
    found: dict[int, Floats] = {}
    for places, (frames, valid) in encoded:
        for place, row, length in zip(places, frames, valid, strict=True):
            try:
                found[place] = usable(row, int(length))
            except NonFiniteOutput as error:
                error.index = place
                raise
    return [found[place] for place in range(len(found))]
