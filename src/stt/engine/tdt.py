"""Greedy decoding of a token-and-duration transducer (TDT), one utterance, one readable loop.

TDT predicts with every token how many encoder frames to move on (Xu et al., "Efficient sequence
transduction by jointly predicting tokens and durations", arXiv 2304.06795). Knowing frames and
durations gives word ends, which a plain transducer does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
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
    """Encoder frames predicted for it."""
    logprob: float
    """Natural logarithm, normalised over tokens and blank."""


@dataclass(frozen=True, slots=True)
class TdtVocabulary:
    """What the loop must know of the model's output."""

    size: int
    """Tokens with blank: logits[:size] are tokens, logits[size:] durations."""
    blank: int
    durations: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Frames to move on for each duration output."""
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
        The emitted tokens in order. A blank with duration 0 moves on one frame, as NeMo does.
    """
    emissions: list[Emission] = []
    last, frame, symbols = vocabulary.blank, 0, 0
    while frame < len(frames):
        logits, next_state = step(last, state, frames[frame])
        tokens = logits[: vocabulary.size]
        token = int(tokens.argmax())
        duration = vocabulary.durations[int(logits[vocabulary.size :].argmax())]
        if token != vocabulary.blank:
            emissions.append(Emission(token, frame, duration, _logprob(tokens, token)))
            last, state = token, next_state
            symbols += 1
        if duration == 0 and (token == vocabulary.blank or symbols == vocabulary.max_symbols):
            frame, symbols = frame + 1, 0
        elif duration > 0:
            frame, symbols = frame + duration, 0
    return emissions


def _logprob(logits: Floats, index: int) -> float:
    top = float(logits.max())
    return float(logits[index]) - top - float(np.log(np.exp(logits - top).sum()))
