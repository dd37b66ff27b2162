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
NO_GRAPH = -1
"""In place of a CUDA graph's number: not kept as one."""
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


class Rounds:
    """All that rounds over a number of utterances read and write, fixed in shape and place."""

    def __init__(self, session: Any, pool: Any, rows: int, graphs: Sequence[int] = ()) -> None:
        """Take memory where a session runs.

        Args:
            session: of the graph.
            pool: OrtValue float32 [N, H], which `CardFrames` are of.
            rows: utterances.
            graphs: two numbers under which the session keeps the rounds as CUDA graphs; none where
                they are not kept.
        """
        from onnxruntime import OrtValue, RunOptions

        where = device(session)
        self.pool, self.rows = pool, rows
        self._orders = OrtValue.ortvalue_from_numpy(np.zeros((3, rows), np.int64), where, 0)
        self._choices = OrtValue.ortvalue_from_shape_and_type(
            [rows, WINDOW, 6], np.float32, where, 0
        )
        inputs = {entry.name: entry.shape for entry in session.get_inputs()}
        layers = {entry.name: entry.shape[0] for entry in session.get_outputs()}
        shapes = {PREDICTION: (rows, 1, pool.shape()[1])}
        for name, new in zip(STATES, NEW_STATES, strict=True):
            shapes[name] = (layers[new], rows, inputs[name][2])
        # a round writes what the next one reads, and the next writes what this one read
        self._kept = [
            {
                name: OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), where, 0)
                for name, shape in shapes.items()
            }
            for _ in range(2)
        ]
        self._session = session
        self._bindings = [self._bound(*self._kept), self._bound(*reversed(self._kept))]
        self._options = [RunOptions(), RunOptions()]
        for options, graph in zip(self._options, graphs or (NO_GRAPH, NO_GRAPH), strict=True):
            options.add_run_config_entry("gpu_graph_id", str(graph))
        self._turn = 0

    def restart(self) -> None:
        """Go back to the start state."""
        self._turn = 0
        for value in self._kept[0].values():
            value.update_inplace(np.zeros(value.shape(), np.float32))

    def run(self, orders: Ints) -> Floats:
        """Compute a round for int64 [3, rows]; returns choices float32 [rows, W, 6]."""
        self._orders.update_inplace(orders)
        self._session.run_with_iobinding(self._bindings[self._turn], self._options[self._turn])
        self._turn = 1 - self._turn
        choices: Floats = self._choices.numpy()
        return choices

    def _bound(self, before: dict[str, Any], after: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        inputs = {ORDERS: self._orders, PROJECTED: self.pool, **before}
        names = dict(zip((PREDICTION, *STATES), (NEW_PREDICTION, *NEW_STATES), strict=True))
        outputs = {names[name]: value for name, value in after.items()} | {CHOICES: self._choices}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding


class StepNetworks:
    """The networks of one batch: a `label_looping.Networks`."""

    def __init__(self, rounds: Rounds, batch: Sequence[CardFrames]) -> None:
        """Begin with frames of the pool of `rounds`, no more utterances than these have rows."""
        self._rounds = rounds
        self._begins = np.array([frames.begin for frames in batch], np.int64)
        self._orders = np.zeros((3, rounds.rows), np.int64)
        self._orders[2, : len(batch)] = self._begins
        rounds.restart()

    def predict(self, rows: Ints, tokens: Ints) -> None:
        """See label_looping.Networks: it is done with the next `join`."""
        self._orders[0, rows] = tokens
        self._orders[1, rows] = 1

    def join(self, rows: Ints, frames: Ints) -> Choices:
        """See label_looping.Networks."""
        self._orders[2, rows] = self._begins[rows] + frames
        choices = self._rounds.run(self._orders)
        self._orders[1] = 0
        return StepChoices(choices[rows])
