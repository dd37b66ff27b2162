"""Prediction network and joint of a batch as one graph, all of whose values stay on a card.

The graph is that of `stt.convert.decoding_step`. What goes to the card in a round are three numbers
for each utterance, what comes back six for each frame of its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.bound import device
from stt.models.label_looping import NEAR, Choices, Ints
from stt.models.split_transducer import NEW_STATES, PREDICTION, PROJECTED, STATES
from stt.types import Floats

ORDERS, CHOICES, NEW_PREDICTION = "orders", "choices", "new_prediction"
"""What the graph takes and gives beside what its parts do."""
WINDOW = 8
"""Frames of each utterance that a round looks at: two or three tokens' durations."""
_TOKEN, _LOGPROB, _TOKEN_LEAD, _STEP, _STEP_LEAD, _CHECK = range(6)


class StepChoices:
    """Choices made in the graph; see label_looping.Choices."""

    def __init__(self, choices: Floats) -> None:
        """`choices`: float32 [n, W, 6]."""
        leads = choices[..., [_TOKEN_LEAD, _STEP_LEAD]]
        self.tokens: Ints = choices[..., _TOKEN].astype(np.int64)
        self.steps: Ints = choices[..., _STEP].astype(np.int64)
        self.near: Ints = np.count_nonzero(leads < NEAR, axis=-1)
        self.finite = np.asarray(np.isfinite(choices[..., _CHECK]), np.bool_)
        self._logprobs = choices[..., _LOGPROB]

    def logprobs(self, places: Ints, frames: Ints) -> npt.NDArray[np.float64]:
        """See Choices."""
        return self._logprobs[places, frames].astype(np.float64)


@dataclass(frozen=True, slots=True)
class CardFrames:
    """Encoder frames of an utterance, or a stretch of them, as the joint takes them, on a card."""

    pool: Any
    """OrtValue float32 [N, H]: those of all utterances of a batch, and `WINDOW` more behind."""
    begin: int
    count: int

    def __len__(self) -> int:
        """Return how many frames they are."""
        return self.count

    def __getitem__(self, part: slice) -> CardFrames:
        """Return a stretch; nothing is copied."""
        begin, end, _ = part.indices(self.count)
        return CardFrames(self.pool, self.begin + begin, max(0, end - begin))


class StepNetworks:
    """The networks of one batch: a `label_looping.Networks`."""

    def __init__(self, session: Any, batch: Sequence[CardFrames]) -> None:
        """Make ready for frames of one pool, which lies where the session of the graph runs."""
        from onnxruntime import OrtValue

        where = device(session)
        self._begins = np.array([frames.begin for frames in batch], np.int64)
        self._pool, rows = batch[0].pool, len(batch)
        self._orders = np.zeros((3, rows), np.int64)
        self._orders[2] = self._begins
        self._device_orders = OrtValue.ortvalue_from_numpy(self._orders.copy(), where, 0)
        self._choices = OrtValue.ortvalue_from_shape_and_type(
            [rows, WINDOW, 6], np.float32, where, 0
        )
        inputs = {entry.name: entry.shape for entry in session.get_inputs()}
        layers = {entry.name: entry.shape[0] for entry in session.get_outputs()}
        shapes = {PREDICTION: (rows, 1, self._pool.shape()[1])}
        for name, new in zip(STATES, NEW_STATES, strict=True):
            shapes[name] = (layers[new], rows, inputs[name][2])
        # a round writes what the next one reads, and the next writes what this one read
        kept = [
            {
                name: OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), where, 0)
                for name, shape in shapes.items()
            }
            for _ in range(2)
        ]
        self._session = session
        self._rounds = [self._bound(kept[turn], kept[1 - turn]) for turn in range(2)]
        self._turn = 0

    def _bound(self, before: dict[str, Any], after: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        inputs = {ORDERS: self._device_orders, PROJECTED: self._pool, **before}
        names = dict(zip((PREDICTION, *STATES), (NEW_PREDICTION, *NEW_STATES), strict=True))
        outputs = {names[name]: value for name, value in after.items()} | {CHOICES: self._choices}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def predict(self, rows: Ints, tokens: Ints) -> None:
        """See label_looping.Networks: it is done with the next `join`."""
        self._orders[0, rows] = tokens
        self._orders[1, rows] = 1

    def join(self, rows: Ints, frames: Ints) -> Choices:
        """See label_looping.Networks."""
        self._orders[2, rows] = self._begins[rows] + frames
        self._device_orders.update_inplace(self._orders)
        self._session.run_with_iobinding(self._rounds[self._turn])
        self._turn = 1 - self._turn
        self._orders[1] = 0
        return StepChoices(self._choices.numpy()[rows])
