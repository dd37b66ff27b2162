"""Greedy decoding of a transducer over a batch of utterances: label looping.

After Bataev et al., "Label-Looping: Highly Efficient Decoding for Transducers" (arXiv 2406.06220).
The prediction network runs only when a token was emitted; blanks are passed over along their
durations with the joint alone, which sees several frames at a time. Utterances do not wait for one
another: each round takes every unfinished one to its next token, or to the end of its window.

What comes out is what `tdt.greedy_tdt` gives, one utterance at a time; that is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stt.errors import NonFiniteOutput
from stt.models.tdt import Emission, TdtVocabulary
from stt.types import Floats

NEAR = 1e-4
"""Logits closer than this are a near tie: rounding may decide between them."""

Ints = npt.NDArray[np.integer]


class Choices(Protocol):
    """What the joint chose for n utterances at W frames each."""

    tokens: Ints
    """The likeliest token, blank among them, [n, W]."""
    steps: Ints
    """Place of the likeliest duration, [n, W]; 0 where there are none."""
    near: Ints
    """How many of the two choices were near ties, [n, W]."""
    finite: npt.NDArray[np.bool_]
    """Whether every logit was a number, [n, W]."""

    def logprobs(self, places: Ints, frames: Ints) -> npt.NDArray[np.float64]:
        """Natural logarithm of the token's probability among tokens and blank, float64 [k].

        Of the k frames `frames[i]` in the window of utterance `places[i]`.
        """
        ...


class Networks(Protocol):
    """Prediction network and joint over the utterances of one batch, which are numbered from 0."""

    def predict(self, rows: Ints, tokens: Ints) -> None:
        """Move the prediction network of these utterances on by the token each has emitted.

        Called first with blanks for all, which starts it.
        """
        ...

    def join(self, rows: Ints, frames: Ints) -> Choices:
        """Choose for a window of frames from `frames[i]` on, of each of n utterances.

        The window may differ from call to call; what stands for frames past an utterance's end is
        not read. The choices are valid until the next call.
        """
        ...


class LogitChoices:
    """Choices made here, of logits that a joint gave; see Choices."""

    def __init__(self, logits: Floats, vocabulary: TdtVocabulary) -> None:
        """`logits`: float32 [n, W, V + D]; left as they were."""
        self._scores = logits[..., : vocabulary.size]
        self.finite = np.asarray(np.isfinite(logits).all(axis=-1), np.bool_)
        self.tokens, near = _best(self._scores)
        self.steps = np.zeros_like(self.tokens)
        if vocabulary.durations:
            durations = logits[..., vocabulary.size : vocabulary.size + len(vocabulary.durations)]
            self.steps, near_step = _best(durations)
            near = near + near_step
        self.near = near

    def logprobs(self, places: Ints, frames: Ints) -> npt.NDArray[np.float64]:
        """See Choices; the arithmetic is that of `tdt.logprob`."""
        scores = self._scores[places, frames]
        chosen = np.arange(len(places)), self.tokens[places, frames]
        top = scores.max(axis=1)
        total = np.log(np.exp(scores - top[:, None]).sum(axis=1))
        found: npt.NDArray[np.float64] = scores[chosen].astype(np.float64) - top - total
        return found


def _best(scores: Floats) -> tuple[Ints, Ints]:
    """Places of the greatest of [n, W, V], and whether the next is `NEAR` it (0 or 1)."""
    places = scores.argmax(axis=-1)
    index = places[..., None]
    top = np.take_along_axis(scores, index, -1)
    np.put_along_axis(scores, index, -np.inf, -1)
    second = scores.max(axis=-1)
    np.put_along_axis(scores, index, top, -1)
    with np.errstate(invalid="ignore"):  # infinity less infinity: told by `finite`
        return places, (top[..., 0] - second < NEAR).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Decoding:
    """What was decoded of one utterance."""

    emissions: list[Emission]
    near_ties: int = 0
    """Decisions, of a token or a duration, whose two best logits are closer than `NEAR`."""


class _Emitted(NamedTuple):
    """Tokens of one round, [k] each."""

    rows: Ints
    tokens: Ints
    frames: Ints
    durations: Ints
    logprobs: npt.NDArray[np.float64]


class _Tracks:
    """Where the decoding of every utterance stands."""

    def __init__(self, lengths: Sequence[int], vocabulary: TdtVocabulary) -> None:
        self._vocabulary = vocabulary
        self._durations = np.array(vocabulary.durations or (0,), np.int64)
        self._lengths = np.array(lengths, np.int64)
        self.frames = np.zeros(len(lengths), np.int64)
        self.last = np.full(len(lengths), vocabulary.blank, np.int64)
        self._symbols = np.zeros(len(lengths), np.int64)
        self._near_ties = np.zeros(len(lengths), np.int64)
        self._rounds: list[_Emitted] = []

    def unfinished(self, rows: Ints) -> Ints:
        """Those of the utterances that go on."""
        return rows[self.frames[rows] < self._lengths[rows]]

    def advance(self, rows: Ints, choices: Choices) -> Ints:
        """Go through the windows of utterances, each to its next token; returns who has one."""
        begin = self.frames[rows].copy()
        end = np.minimum(begin + choices.tokens.shape[1], self._lengths[rows])
        places = np.arange(len(rows))
        found = []
        while len(places):
            here = rows[places]
            at = self.frames[here] - begin[places]
            self._check(here, choices.finite[places, at])
            self._near_ties[here] += choices.near[places, at]
            steps = self._durations[choices.steps[places, at]]
            blank = choices.tokens[places, at] == self._vocabulary.blank
            self._pass(here[blank], steps[blank])
            if not blank.all():
                found.append(places[~blank])
                self._emit(places[~blank], here[~blank], at[~blank], steps[~blank], choices)
            places = places[blank]
            places = places[self.frames[rows[places]] < end[places]]
        return rows[np.concatenate(found)] if found else rows[:0]

    def _check(self, rows: Ints, finite: npt.NDArray[np.bool_]) -> None:
        if not finite.all():
            error = NonFiniteOutput("NaN or infinity in the logits")
            error.index = int(rows[~finite][0])
            raise error

    def _pass(self, rows: Ints, steps: Ints) -> None:
        """Move on by blanks, a frame at least."""
        self.frames[rows] += np.maximum(steps, 1)
        self._symbols[rows] = 0

    def _emit(self, places: Ints, rows: Ints, at: Ints, steps: Ints, choices: Choices) -> None:
        tokens = choices.tokens[places, at]
        frames = self.frames[rows].copy()
        self._rounds.append(_Emitted(rows, tokens, frames, steps, choices.logprobs(places, at)))
        self.last[rows] = tokens
        self._symbols[rows] += 1
        stuck = (steps == 0) & (self._symbols[rows] == self._vocabulary.max_symbols)
        steps = np.where(stuck, 1, steps)
        self.frames[rows] += steps
        self._symbols[rows[steps > 0]] = 0

    def decodings(self) -> list[Decoding]:
        """What was decoded of each utterance."""
        emissions: list[list[Emission]] = [[] for _ in self._lengths]
        for emitted in self._rounds:
            columns = (column.tolist() for column in emitted)
            for row, *values in zip(*columns, strict=True):
                emissions[row].append(Emission(*values))
        return [Decoding(*one) for one in zip(emissions, self._near_ties.tolist(), strict=True)]


def label_looping(
    networks: Networks, lengths: Sequence[int], vocabulary: TdtVocabulary
) -> list[Decoding]:
    """Decode a batch of utterances.

    What a round costs here does not grow with their number.

    Args:
        networks: hold the encoder's frames of the batch.
        lengths: frames of each utterance, without padding.
        vocabulary: sizes and limits.

    Raises:
        NonFiniteOutput: NaN or infinity in logits; its `index` is the utterance's.
    """
    tracks = _Tracks(lengths, vocabulary)
    active = moved = tracks.unfinished(np.arange(len(lengths)))
    while len(active):
        if len(moved):
            networks.predict(moved, tracks.last[moved])
        emitted = tracks.advance(active, networks.join(active, tracks.frames[active]))
        active, moved = tracks.unfinished(active), tracks.unfinished(np.sort(emitted))
    return tracks.decodings()
