"""Greedy decoding of a transducer over a batch of utterances: label looping.

After Bataev et al., "Label-Looping: Highly Efficient Decoding for Transducers" (arXiv 2406.06220).
The prediction network runs only when a token was emitted; blanks are passed over along their
durations with the joint alone, which sees several frames at a time. Utterances do not wait for one
another: each round takes every unfinished one to its next token, or to the end of its window.

What comes out is what `tdt.greedy_tdt` gives, one utterance at a time; that is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from stt.engine.sessions import finite
from stt.errors import NonFiniteOutput
from stt.models.tdt import Emission, TdtVocabulary, logprob
from stt.types import Floats

NEAR = 1e-4
"""Logits closer than this are a near tie: rounding may decide between them."""


class Networks(Protocol):
    """Prediction network and joint over the utterances of one batch, which are numbered from 0."""

    def predict(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Move the prediction network of these utterances on by the token each has emitted.

        Called first with blanks for all, which starts it.
        """
        ...

    def join(self, rows: Sequence[int], frames: Sequence[int]) -> Floats:
        """Return the logits of a window of frames from `frames[i]` on, float32 [n, W, V + D].

        W may differ from call to call; what stands for frames past an utterance's end is not read.
        The array may be written to, and is valid until the next call.
        """
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """What was decoded of one utterance."""

    emissions: list[Emission]
    near_ties: int = 0
    """Decisions, of a token or a duration, whose two best logits are closer than `NEAR`."""


@dataclass(slots=True)
class _Track:
    """Where the decoding of one utterance stands."""

    row: int
    frames: int
    frame: int = 0
    symbols: int = 0
    near_ties: int = 0
    emissions: list[Emission] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        return self.frame < self.frames

    def advance(self, window: Floats, vocabulary: TdtVocabulary) -> bool:
        """Go through the logits of the next frames, [W, V + D]; tells whether a token came."""
        begin, end = self.frame, min(self.frame + len(window), self.frames)
        while self.frame < end:
            logits = finite(window[self.frame - begin], "logits")
            tokens = logits[: vocabulary.size]
            token, near = _best(tokens)
            step, near_step = _duration(logits[vocabulary.size :], vocabulary.durations)
            self.near_ties += near + near_step
            if token == vocabulary.blank:
                self.frame, self.symbols = self.frame + (step or 1), 0
                continue
            self.emissions.append(Emission(token, self.frame, step, logprob(tokens, token)))
            self.symbols += 1
            if step == 0 and self.symbols == vocabulary.max_symbols:
                step = 1
            if step > 0:
                self.frame, self.symbols = self.frame + step, 0
            return True
        return False


def label_looping(
    networks: Networks, lengths: Sequence[int], vocabulary: TdtVocabulary
) -> list[Decoding]:
    """Decode a batch of utterances.

    Args:
        networks: hold the encoder's frames of the batch.
        lengths: frames of each utterance, without padding.
        vocabulary: sizes and limits.

    Raises:
        NonFiniteOutput: NaN or infinity in logits; its `index` is the utterance's.
    """
    tracks = [_Track(row, frames) for row, frames in enumerate(lengths)]
    active = [track for track in tracks if track.goes_on]
    moved = active
    while active:
        if moved:
            networks.predict([t.row for t in moved], [_last(t, vocabulary.blank) for t in moved])
        windows = networks.join([t.row for t in active], [t.frame for t in active])
        moved = []
        for track, window in zip(active, windows, strict=True):
            try:
                emitted = track.advance(window, vocabulary)
            except NonFiniteOutput as error:
                error.index = track.row
                raise
            if emitted and track.goes_on:
                moved.append(track)
        active = [track for track in active if track.goes_on]
    return [Decoding(track.emissions, track.near_ties) for track in tracks]


def _last(track: _Track, blank: int) -> int:
    return track.emissions[-1].id if track.emissions else blank


def _best(logits: Floats) -> tuple[int, bool]:
    """The index of the greatest, and whether the next is `NEAR` it; the array is left as it was."""
    index = int(logits.argmax())
    top = logits[index]
    logits[index] = -np.inf
    near = bool(top - logits.max() < NEAR)
    logits[index] = top
    return index, near


def _duration(logits: Floats, durations: Sequence[int]) -> tuple[int, bool]:
    if not durations:
        return 0, False
    values = logits.tolist()
    top = max(values)
    index = values.index(top)
    values[index] = -np.inf
    return durations[index], top - max(values) < NEAR
