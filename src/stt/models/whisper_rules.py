"""Which tokens Whisper may say next: rules that set logits to minus infinity before the choice.

The rules are those of OpenAI's `decoding.py` (SuppressBlank, SuppressTokens, ApplyTimestampRules),
which CTranslate2 follows too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stt.models.whisper_vocabulary import WhisperVocabulary

__all__ = ["Rules", "apply_rules", "log_softmax"]

Float32 = npt.NDArray[np.float32]

_MAX_FIRST_TIMESTAMP = 50  # steps of 20 ms: speech must begin in the first second


@dataclass(frozen=True, slots=True)
class Rules:
    """What governs the choice of tokens in one decoding."""

    vocabulary: WhisperVocabulary
    timestamps: bool = True
    """Whether timestamps are to be predicted; without, the prompt says <|notimestamps|>.

    They are by default: pieces get times, and with tiny.en the word error rate was lower on three
    of four sets of English (6.99 against 7.26 % on 43 minutes of long recordings).
    """


def apply_rules(logits: Float32, said: Sequence[Sequence[int]], rules: Rules) -> None:
    """Forbid, in place, what may not follow: float32 [B, vocabulary]; said[i]: sampled so far."""
    vocabulary = rules.vocabulary
    logits[:, list(vocabulary.suppress)] = -np.inf
    for row, tokens in zip(logits, said, strict=True):
        if not tokens:
            row[list(vocabulary.suppress_first)] = -np.inf
        if rules.timestamps:
            _apply_timestamp_rules(row, tokens, vocabulary)


def _apply_timestamp_rules(
    row: Float32, tokens: Sequence[int], vocabulary: WhisperVocabulary
) -> None:
    begin = vocabulary.timestamp_begin
    row[vocabulary.no_timestamps] = -np.inf
    if not tokens:
        row[:begin] = -np.inf
        row[begin + _MAX_FIRST_TIMESTAMP + 1 :] = -np.inf
        return

    last_is_time = tokens[-1] >= begin
    one_before_is_time = len(tokens) < 2 or tokens[-2] >= begin
    if last_is_time and one_before_is_time:  # a piece was opened: text must follow
        row[begin:] = -np.inf
    elif last_is_time:  # a piece was closed: the next one opens, or the end
        row[: vocabulary.end] = -np.inf
    latest = next((token for token in reversed(tokens) if token >= begin), None)
    if latest is not None:  # time does not go back, and no piece is empty
        opens_where_closed = last_is_time and not one_before_is_time
        row[begin : latest if opens_where_closed else latest + 1] = -np.inf

    # when a timestamp is likelier, taken together, than any one text token, it is time for one
    best_time = row[begin:].max()
    if best_time == -np.inf:
        return
    times = best_time + np.log(np.exp(row[begin:] - best_time).sum())
    if times > row[:begin].max():
        row[:begin] = -np.inf


def log_softmax(logits: Float32) -> Float32:
    """Natural logarithms of the probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    sums: Float32 = np.exp(shifted).sum(axis=-1, keepdims=True)
    logprobs: Float32 = shifted - np.log(sums)
    return logprobs
