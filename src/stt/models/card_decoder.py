"""A transducer's decoder on a card: encoder frames, projection and states never leave it.

The encoder's output is projected where it lies, into one pool for all utterances of a batch, of
which each round of the decoder takes its windows (`stt.convert.decoding_step`).

Rounds can be kept as CUDA graphs, which the card runs without being told of each kernel. ONNX
Runtime demands of that (its CUDA execution provider's page): no control flow, every node on CUDA,
inputs and outputs bound at fixed addresses and in fixed shapes, new input copied there, and one
thread for the session. It captures a graph in the third run, and that fails where another thread
uses the card meanwhile (cudaStreamCaptureModeGlobal). So there are `Rounds` for some numbers of
utterances with a pool of fixed size each, captured while the model is loaded; one thread decodes;
batches that they are too small for run without, as does what is loaded when another is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from stt.engine import bound
from stt.engine.folder import ModelFolder
from stt.engine.sessions import Runtime
from stt.models.nemo_graphs import Encoded, Features, Group
from stt.models.split_transducer import FRAMES, PROJECTED, load_graphs
from stt.models.step_networks import WINDOW, CardFrames, Rounds, StepNetworks
from stt.types import Floats

CUDA_GRAPHS = False
"""Whether rounds are kept as CUDA graphs. Not measured yet (`benchmarks/gpu.py` does, with and
without)."""
ROWS = (1, 8, 64)
"""Utterances for which they are kept."""
ROOM = 400
"""Frames of each, 32 s of Parakeet's."""
_CAPTURED = 3
"""Runs after which a graph is captured."""

T = TypeVar("T")


class CardDecoder:
    """Sessions of an encoder projection and of a round of the decoder."""

    def __init__(self, projection: Any, step: Any, *, graphs: bool = False) -> None:
        """`graphs`: whether `step` keeps CUDA graphs."""
        self._projection, self._step = projection, step
        self._device = bound.device(step)
        self._thread = ThreadPoolExecutor(1, "decoder") if graphs else None
        self._kept: dict[int, Rounds] = {}
        frame = np.zeros((1, projection.get_inputs()[0].shape[1], 1), np.float32)
        self._width = int(projection.run([PROJECTED], {FRAMES: frame})[0].shape[-1])
        if graphs:
            self.working(self._capture)

    def working(self, work: Callable[[], T]) -> T:
        """Do all that is done with one batch's frames: in the one thread where that is needed."""
        return work() if self._thread is None else self._thread.submit(work).result()

    def encode(self, encoder: Any, features: Features) -> Encoded:
        """Run an encoder's session; its frames stay where it ran."""
        inputs = dict(zip(("audio_signal", "length"), features, strict=True))
        frames, valid = bound.run(encoder, inputs, ("outputs", "encoded_lengths"))
        return frames, valid.numpy().copy()

    def frames(self, encoded: Sequence[Group]) -> list[CardFrames]:
        """Project what `encode` gave of a batch; returns each utterance in its order.

        Where rounds are kept as CUDA graphs, frames are there until the next call.
        """
        rows = sum(len(places) * values.shape()[2] for places, (values, _) in encoded)
        utterances = sum(len(places) for places, _ in encoded)
        kept = self._kept_for(utterances, rows)
        pool = kept.pool if kept else self._pool(rows)
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
        pool = batch[0].pool
        kept = [one for one in self._kept.values() if one.pool is pool and len(batch) <= one.rows]
        return StepNetworks(kept[0] if kept else Rounds(self._step, pool, len(batch)), batch)

    def _capture(self) -> None:
        for place, rows in enumerate(ROWS):
            first = 1 + 2 * place  # ONNX Runtime keeps 0 for itself
            rounds = Rounds(self._step, self._pool(rows * ROOM), rows, (first, first + 1))
            for _ in range(2 * _CAPTURED):
                rounds.run(np.zeros((3, rows), np.int64))
            self._kept[rows] = rounds

    def _kept_for(self, utterances: int, frames: int) -> Rounds | None:
        """Return rounds that are kept as CUDA graphs; None where there are none so large."""
        rows = min((rows for rows in self._kept if utterances <= rows), default=0)
        return self._kept[rows] if 0 < frames <= rows * ROOM else None

    def _pool(self, frames: int) -> Any:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_shape_and_type(
            [frames + WINDOW, self._width], np.float32, self._device, 0
        )

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


_LOADED: WeakSet[CardDecoder] = WeakSet()
"""Those that may be at work."""


def load_card_decoder(
    folder: ModelFolder, precision: str, runtime: Runtime, *, graphs: bool | None = None
) -> CardDecoder:
    """Load projection and rounds of a precision that has a form for CUDA.

    Args:
        folder: the model's.
        precision: the one that has it.
        runtime: what they run on.
        graphs: whether rounds are kept as CUDA graphs, elsewhere than on CUDA only fixed in shape
            and place; None: as `CUDA_GRAPHS` has it, where no other decoder is loaded.

    Raises:
        ModelError: they do not load.
    """
    family = folder.family
    if graphs is None:
        graphs = CUDA_GRAPHS and not _LOADED
    kept = graphs and runtime.provider == "cuda"
    (projection,) = load_graphs(folder, family.parts(precision)[1:2], runtime)
    (step,) = load_graphs(folder, family.for_cuda(precision)[-1:], runtime, cuda_graphs=kept)
    decoder = CardDecoder(projection, step, graphs=graphs)
    _LOADED.add(decoder)
    return decoder
