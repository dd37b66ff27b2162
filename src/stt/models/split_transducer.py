"""Prediction network, encoder projection and joint as ONNX Runtime sessions of their own.

`label_looping` drives them. All memory of a batch is taken at its start: inputs are gathered into
buffers that ONNX Runtime reads and writes in place, bound once for each number of utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.folder import ModelFolder
from stt.engine.recognizer import Feed
from stt.engine.sessions import (
    Runtime,
    load_error,
    runtime_errors,
    session_options,
    session_providers,
    with_cuda_graphs,
)
from stt.models.label_looping import Choices, Ints, LogitChoices, Networks
from stt.models.tdt import TdtVocabulary
from stt.types import Floats

Array = npt.NDArray[Any]

LstmState = tuple[Floats, Floats]
"""Both states of the prediction network, float32 [layers, 1, width] each."""

FRAMES, TOKENS, LOGITS = "encoder_outputs", "targets", "outputs"
STATES = ("input_states_1", "input_states_2")
NEW_STATES = ("output_states_1", "output_states_2")
"""Names as in the fused graph."""
PROJECTED, PREDICTION = "projected", "prediction"
"""What the three graphs hand to each other: float32 [B, T, H] and [B, 1, H]."""

WINDOW_ROWS, LONE_WINDOW = 8, 5
"""Frames of all utterances together that the joint computes at once, at least, and those of one
alone. Measured; see docs/measurements/speed.md."""


def window(utterances: int) -> int:
    """Frames the joint sees at a time of each of so many utterances."""
    return LONE_WINDOW if utterances == 1 else max(1, WINDOW_ROWS // utterances)


def joint_feed(last: int, state: LstmState, frame: Floats) -> Feed:
    """Return the inputs of the decoder_joint's graph for one step."""
    return {
        "encoder_outputs": frame[None, :, None],
        "targets": np.array([[last]], np.int32),
        "target_length": np.array([1], np.int32),
        "input_states_1": state[0],
        "input_states_2": state[1],
    }


@dataclass(frozen=True, slots=True)
class SplitTransducer:
    """The three sessions of one model."""

    prediction: Any
    projection: Any
    joint: Any

    def project(self, frames: Floats) -> Floats:
        """Project encoder frames, float32 [T, D], for the joint: float32 [T, H]."""
        feed = {FRAMES: np.ascontiguousarray(frames.T)[None]}
        (projected,) = self.projection.run([PROJECTED], feed)
        return np.asarray(projected[0])

    def step(
        self, last: int, state: tuple[Floats, Floats], frame: Floats
    ) -> tuple[Floats, tuple[Floats, Floats]]:
        """What the whole decoder_joint does for one frame: a `tdt.JointStep`, to compare."""
        feed = {TOKENS: np.array([[last]], np.int32), **dict(zip(STATES, state, strict=True))}
        given, hidden, cell = self.prediction.run([PREDICTION, *NEW_STATES], feed)
        projected = self.project(frame[None])[None]
        (logits,) = self.joint.run([LOGITS], {PROJECTED: projected, PREDICTION: given})
        return logits[0, 0], (hidden, cell)

    def batch(self, utterances: Sequence[Floats], vocabulary: TdtVocabulary) -> Networks:
        """Make ready for a batch of encoder outputs, float32 [T, D] each."""
        # an empty utterance gets a frame that is never read
        filled = [
            frames if len(frames) else np.zeros_like(frames, shape=(1, frames.shape[1]))
            for frames in utterances
        ]
        projected = [self.project(frames) for frames in filled]
        if len(filled) > 1:
            return BatchNetworks(self, projected, vocabulary)
        return LoneNetworks(self, projected[0], vocabulary)


def load_parts(folder: ModelFolder, precision: str, runtime: Runtime) -> SplitTransducer | None:
    """Load a decoder_joint in parts; None where the provider decodes better with the whole one.

    Raises:
        ModelError: they do not load.
    """
    if runtime.provider not in ("cpu", "cuda"):
        return None  # others compile a graph anew for every shape they meet
    return SplitTransducer(*load_graphs(folder, folder.family.parts(precision), runtime))


def load_graphs(
    folder: ModelFolder, names: Sequence[str], runtime: Runtime, *, cuda_graphs: bool = False
) -> list[Any]:
    """Load graphs of a decoder; `cuda_graphs`: see `with_cuda_graphs`.

    Raises:
        ModelError: one does not load.
    """
    # many small products one after the other: to spin between them takes 2.5 times as long
    options = session_options(runtime.threads_each, spinning=False)
    providers = session_providers(runtime.provider)
    if cuda_graphs:
        providers = with_cuda_graphs(providers)
    refusals: tuple[type[Exception], ...] = (OSError, *runtime_errors())
    try:
        return [load_graph(folder.path / name, options, providers) for name in names]
    except refusals as error:
        raise load_error(error, folder.path) from error


def load_graph(path: Path, options: Any, providers: Sequence[Any]) -> Any:
    """Load one graph of a decoder.

    Raises:
        OSError, or an exception of ONNX Runtime's: it does not load.
    """
    from onnxruntime import InferenceSession

    # This fusion and that of float16 weights together crash ONNX Runtime 1.31.1 on a float16
    # prediction network; it gains nothing here.
    off = ["MatmulTransposeFusion"]
    return InferenceSession(path, options, providers, disabled_optimizers=off)


class LoneNetworks:
    """Prediction network and joint over one utterance: a `label_looping.Networks`.

    The prediction network writes its state where it reads it the next time, and its output where
    the joint reads it: nothing is copied but the window's frames.
    """

    def __init__(
        self, model: SplitTransducer, projected: Floats, vocabulary: TdtVocabulary
    ) -> None:
        """`projected`: float32 [T, H]."""
        self._vocabulary = vocabulary
        self._frames, width = projected, projected.shape[1]
        entries = [entry for entry in model.prediction.get_inputs() if entry.name in STATES]
        pairs = [np.zeros((2, entry.shape[0], 1, entry.shape[2]), np.float32) for entry in entries]
        self._target = np.zeros((1, 1), np.int32)
        prediction = np.zeros((1, 1, width), np.float32)
        self._predict = tuple(
            _Call(
                model.prediction,
                {TOKENS: self._target, **_named(STATES, [pair[turn] for pair in pairs])},
                {PREDICTION: prediction, **_named(NEW_STATES, [p[1 - turn] for p in pairs])},
            )
            for turn in (0, 1)
        )
        self._turn = 0
        self._size = window(1)
        self._window = np.zeros((1, self._size, width), np.float32)
        self._logits = np.zeros((1, self._size, model.joint.get_outputs()[0].shape[-1]), np.float32)
        inputs = {PROJECTED: self._window, PREDICTION: prediction}
        self._join = _Call(model.joint, inputs, {LOGITS: self._logits})

    def predict(self, _: Ints, tokens: Ints) -> None:
        """See label_looping.Networks."""
        self._target[0, 0] = tokens[0]
        self._predict[self._turn].run()
        self._turn = 1 - self._turn

    def join(self, _: Ints, frames: Ints) -> Choices:
        """See label_looping.Networks."""
        seen = self._frames[frames[0] : frames[0] + self._size]
        self._window[0, : len(seen)] = seen
        self._join.run()
        return LogitChoices(self._logits, self._vocabulary)


class BatchNetworks:
    """Prediction network and joint over one batch: a `label_looping.Networks`."""

    def __init__(
        self, model: SplitTransducer, projected: Sequence[Floats], vocabulary: TdtVocabulary
    ) -> None:
        """`projected`: float32 [T, H] of each utterance."""
        rows, width = len(projected), projected[0].shape[1]
        self._model, self._vocabulary = model, vocabulary
        self._frames = np.concatenate(projected)
        self._begins = np.cumsum([0, *map(len, projected)])
        states = [entry for entry in model.prediction.get_inputs() if entry.name in STATES]
        shapes = [(entry.shape[0], rows, entry.shape[2]) for entry in states]
        self._states = [np.zeros(shape, np.float32) for shape in shapes]
        self._predictions = np.zeros((rows, 1, width), np.float32)
        # one call's inputs and outputs, long enough for all rows; a call of fewer uses their begin
        logits = model.joint.get_outputs()[0].shape[-1]
        most = max(rows, WINDOW_ROWS)
        self._targets = np.zeros(rows, np.int32)
        self._moved = [np.zeros((2, state.size), np.float32) for state in self._states]
        self._given = np.zeros((2, rows * width), np.float32)
        self._windows = np.zeros(most * width, np.float32)
        self._logits = np.zeros(most * logits, np.float32)
        self._prediction_calls: dict[int, _Call] = {}
        self._joint_calls: dict[int, _Call] = {}

    def predict(self, rows: Ints, tokens: Ints) -> None:
        """See label_looping.Networks."""
        call = self._prediction_calls.get(len(rows))
        if call is None:
            call = self._prediction_calls[len(rows)] = self._prediction_call(len(rows))
        call.inputs[TOKENS][:, 0] = tokens
        for name, state in zip(STATES, self._states, strict=True):
            state.take(rows, 1, call.inputs[name], "clip")
        call.run()
        self._predictions[rows] = call.outputs[PREDICTION]
        for name, state in zip(NEW_STATES, self._states, strict=True):
            state[:, rows] = call.outputs[name]

    def join(self, rows: Ints, frames: Ints) -> Choices:
        """See label_looping.Networks."""
        call = self._joint_calls.get(len(rows))
        if call is None:
            call = self._joint_calls[len(rows)] = self._joint_call(len(rows))
        wanted = self._begins.take(rows)
        wanted += frames
        index = wanted[:, None] + np.arange(window(len(rows)))
        # past the end of the last utterance its last frame stands in ("clip"), and is not read
        self._frames.take(index, 0, call.inputs[PROJECTED], "clip")
        self._predictions.take(rows, 0, call.inputs[PREDICTION], "clip")
        call.run()
        return LogitChoices(call.outputs[LOGITS], self._vocabulary)

    def _prediction_call(self, rows: int) -> _Call:
        shapes = [(state.shape[0], rows, state.shape[2]) for state in self._states]
        inputs = {TOKENS: _begin(self._targets, (rows, 1))}
        outputs = {PREDICTION: _begin(self._given[1], (rows, 1, self._predictions.shape[2]))}
        for index, shape in enumerate(shapes):
            inputs[STATES[index]] = _begin(self._moved[index][0], shape)
            outputs[NEW_STATES[index]] = _begin(self._moved[index][1], shape)
        return _Call(self._model.prediction, inputs, outputs)

    def _joint_call(self, rows: int) -> _Call:
        width, frames = self._predictions.shape[2], window(rows)
        logits = len(self._logits) // (len(self._windows) // width)
        inputs = {
            PROJECTED: _begin(self._windows, (rows, frames, width)),
            PREDICTION: _begin(self._given[0], (rows, 1, width)),
        }
        outputs = {LOGITS: _begin(self._logits, (rows, frames, logits))}
        return _Call(self._model.joint, inputs, outputs)


def _named(names: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    return dict(zip(names, arrays, strict=True))


def _begin(buffer: Array, shape: tuple[int, ...]) -> Array:
    """The beginning of a buffer in this shape, in place."""
    return buffer[: int(np.prod(shape))].reshape(shape)


class _Call:
    """A session with its inputs and outputs bound to arrays."""

    def __init__(
        self, session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._session, self._binding = session, session.io_binding()
        for bind, arrays in (
            (self._binding.bind_input, inputs),
            (self._binding.bind_output, outputs),
        ):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Compute the outputs from what is in the inputs."""
        self._session.run_with_iobinding(self._binding)
