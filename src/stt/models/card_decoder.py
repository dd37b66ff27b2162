"""A transducer's decoder on a card: encoder frames, projection and states never leave it.

The encoder's output is projected where it lies, into one pool for all utterances of a batch, of
which each round of the decoder takes its windows (`stt.convert.decoding_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stt.engine import bound
from stt.engine.folder import ModelFolder
from stt.engine.sessions import Runtime
from stt.models.nemo_graphs import Encoded, Features, Group
from stt.models.split_transducer import FRAMES, PROJECTED, load_graphs
from stt.models.step_networks import WINDOW, CardFrames, StepNetworks
from stt.types import Floats


class CardDecoder:
    """Sessions of an encoder projection and of a round of the decoder."""

    def __init__(self, projection: Any, step: Any) -> None:
        self._projection, self._step = projection, step
        self._device = bound.device(step)
        frame = np.zeros((1, projection.get_inputs()[0].shape[1], 1), np.float32)
        self._width = int(projection.run([PROJECTED], {FRAMES: frame})[0].shape[-1])

    def encode(self, encoder: Any, features: Features) -> Encoded:
        """Run an encoder's session; its frames stay where it ran."""
        inputs = dict(zip(("audio_signal", "length"), features, strict=True))
        frames, valid = bound.run(encoder, inputs, ("outputs", "encoded_lengths"))
        return frames, valid.numpy().copy()

    def frames(self, encoded: Sequence[Group]) -> list[CardFrames]:
        """Project what `encode` gave of a batch; returns each utterance in its order."""
        from onnxruntime import OrtValue

        rows = sum(len(places) * values.shape()[2] for places, (values, _) in encoded)
        pool = OrtValue.ortvalue_from_shape_and_type(
            [rows + WINDOW, self._width], np.float32, self._device, 0
        )
        found: dict[int, CardFrames] = {}
        begin = 0
        for places, (values, valid) in encoded:
            longest = values.shape()[2]
            if longest:
                self._project(values, pool, begin)
            for place, length in zip(places, valid, strict=True):
                found[place] = CardFrames(pool, begin, min(max(int(length), 0), longest))
                begin += longest
        return [found[place] for place in range(len(found))]

    def placed(self, batch: Sequence[Floats]) -> list[CardFrames]:
        """Take encoder frames from memory, float32 [T, D] of each utterance."""
        from onnxruntime import OrtValue

        encoded: list[Group] = []
        for place, frames in enumerate(batch):
            turned = np.ascontiguousarray(frames.T)[None]
            value = OrtValue.ortvalue_from_numpy(turned, self._device, 0)
            encoded.append(([place], (value, np.array([len(frames)]))))
        return self.frames(encoded)

    def networks(self, batch: Sequence[CardFrames]) -> StepNetworks:
        """Make ready for frames, or stretches of frames, of one pool."""
        return StepNetworks(self._step, batch)

    def _project(self, values: Any, pool: Any, begin: int) -> None:
        """Write the projection of float32 [B, D, T] to the pool's rows from `begin` on."""
        utterances, _, longest = values.shape()
        binding = self._projection.io_binding()
        binding.bind_ortvalue_input(FRAMES, values)
        binding.bind_output(
            PROJECTED,
            self._device,
            0,
            np.float32,
            [utterances, longest, self._width],
            pool.data_ptr() + begin * self._width * np.dtype(np.float32).itemsize,
        )
        self._projection.run_with_iobinding(binding)


def load_card_decoder(folder: ModelFolder, precision: str, runtime: Runtime) -> CardDecoder:
    """Load projection and rounds of a precision that has a form for CUDA.

    Raises:
        ModelError: they do not load.
    """
    family = folder.family
    names = (family.parts(precision)[1], family.for_cuda(precision)[-1])
    return CardDecoder(*load_graphs(folder, names, runtime))
