"""Greedy decoding of a transducer, one utterance, one readable loop: TDT and plain (RNN-T).

TDT predicts with every token how many encoder frames to move on (Xu et al., "Efficient sequence
transduction by jointly predicting tokens and durations", arXiv 2304.06795). Knowing frames and
durations gives word ends. A plain transducer moves on by its blanks alone, one frame each, which is
TDT with no duration but 0; its word ends are a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from stt.types import Floats

DURATIONS = (0, 1, 2, 3, 4)
"""Frames TDT may move on after a token."""
LONGEST = DURATIONS[-1]
"""Frames a token of a plain transducer is said to last, at most: what TDT would say."""
State = TypeVar("State")

JointStep = Callable[[int, State, Floats], tuple[Floats, State]]
"""(last token, state, one encoder frame [D]) -> (logits [V + durations], state after that token).

The prediction network runs on the last emitted token (blank at the start) from `state`; the new
state counts only if this step emits a token."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One emitted token."""

    id: int
    frame: int
    """Encoder frame it was emitted at."""
    duration: int
    """Encoder frames it lasts; 0 where the next one begins at the same frame."""
    logprob: float
    """Natural logarithm, normalised over tokens and blank."""
    recovered: bool = False
    """Whether it was passed over at first, and found by decoding again (`models.transducer`)."""


@dataclass(frozen=True, slots=True)
class TdtVocabulary:
    """What the loop must know of the model's output."""

    size: int
    """Tokens with blank: logits[:size] are tokens, logits[size:] durations."""
    blank: int
    durations: tuple[int, ...] = DURATIONS
    """Frames to move on for each duration output; empty for a plain transducer."""
    max_symbols: int = 10
    """Most tokens emitted at one frame before the loop moves on by itself."""


def greedy_tdt(
    step: JointStep[State], state: State, frames: Floats, vocabulary: TdtVocabulary
) -> list[Emission]:
    """Decode one utterance.

    Args:
        step: prediction network and joint, fused.
        state: the prediction network's state before any token.
        frames: encoder output, float32 [T, D], padding already removed.
        vocabulary: sizes and limits.

    Returns:
        The emitted tokens in order, of duration 0 where none is predicted. A blank with duration 0
        moves on one frame, as NeMo does.
    """
    emissions: list[Emission] = []
    last, frame, symbols = vocabulary.blank, 0, 0
    while frame < len(frames):
        logits, next_state = step(last, state, frames[frame])
        tokens = logits[: vocabulary.size]
        token = int(tokens.argmax())
        duration = _duration(logits[vocabulary.size :], vocabulary.durations)
        if token != vocabulary.blank:
            emissions.append(Emission(token, frame, duration, logprob(tokens, token)))
            last, state = token, next_state
            symbols += 1
        if duration == 0 and (token == vocabulary.blank or symbols == vocabulary.max_symbols):
            frame, symbols = frame + 1, 0
        elif duration > 0:
            frame, symbols = frame + duration, 0
    return emissions


def _duration(logits: Floats, durations: Sequence[int]) -> int:
    return durations[int(logits.argmax())] if durations else 0


def until_next(emissions: Sequence[Emission], frames: int) -> list[Emission]:
    """Give a plain transducer's tokens durations: each lasts until the next, at most `LONGEST`.

    `frames` is where the utterance ends, and with it the last token.
    """
    ends = [emission.frame for emission in emissions[1:]] + [frames]
    return [
        replace(emission, duration=min(end - emission.frame, LONGEST))
        for emission, end in zip(emissions, ends, strict=False)
    ]


def logprob(logits: Floats, index: int) -> float:
    """Return the natural logarithm of one output's probability among float32 [n] logits."""
    top = float(logits.max())
    return float(logits[index]) - top - float(np.log(np.exp(logits - top).sum()))
