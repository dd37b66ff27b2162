"""Greedy TDT decoding on a scripted joint: microseconds, no weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_asr.models.nemo import NemoConformerRnnt, NemoConformerTdt

from stt.models.tdt import DURATIONS, LONGEST, Emission, TdtVocabulary, greedy_tdt, until_next
from stt.types import Floats

A, B, BLANK = 0, 1, 2
VOCABULARY = TdtVocabulary(size=3, blank=BLANK, max_symbols=3)


def logits(token: int, duration: int) -> Floats:
    values = np.zeros(VOCABULARY.size + len(VOCABULARY.durations), np.float32)
    values[token] = 5.0
    values[VOCABULARY.size + duration] = 1.0
    return values


def decode(script: dict[tuple[int, int], tuple[int, int]], length: int) -> list[tuple[int, ...]]:
    """Run a joint that answers (frame, tokens so far) -> (token, duration); else blank, 1."""

    def step(last: int, emitted: int, frame: Floats) -> tuple[Floats, int]:
        return logits(*script.get((int(frame[0]), emitted), (BLANK, 1))), emitted + 1

    frames = np.arange(length, dtype=np.float32)[:, None]
    return [(e.id, e.frame, e.duration) for e in greedy_tdt(step, 0, frames, VOCABULARY)]


@pytest.mark.parametrize(
    ("script", "length", "expected"),
    [
        # a duration moves on by its frames
        ({(0, 0): (A, 3), (3, 1): (B, 2)}, 6, [(A, 0, 3), (B, 3, 2)]),
        # duration zero emits again at the same frame
        ({(1, 0): (A, 0), (1, 1): (B, 1)}, 4, [(A, 1, 0), (B, 1, 1)]),
        # a blank of duration zero moves on one frame
        ({(0, 0): (BLANK, 0), (1, 0): (A, 1)}, 2, [(A, 1, 1)]),
        # a burst ends at the limit, and counting starts anew
        (
            {(0, n): (A, 0) for n in range(9)} | {(1, n): (B, 0) for n in range(9)},
            2,
            [(A, 0, 0)] * 3 + [(B, 1, 0)] * 3,
        ),
        # a duration past the end ends the utterance
        ({(1, 0): (A, 4)}, 3, [(A, 1, 4)]),
        # blanks alone give nothing
        ({}, 0, []),
        ({}, 1, []),
        ({}, 7, []),
    ],
)
def test_scripts(
    script: dict[tuple[int, int], tuple[int, int]], length: int, expected: list[tuple[int, ...]]
) -> None:
    assert decode(script, length) == expected


def test_the_state_moves_only_with_a_token() -> None:
    seen: list[tuple[int, int]] = []

    def step(last: int, state: int, frame: Floats) -> tuple[Floats, int]:
        seen.append((last, state))
        return logits(A if frame[0] == 1 else BLANK, 1), state + 1

    greedy_tdt(step, 0, np.arange(4, dtype=np.float32)[:, None], VOCABULARY)
    assert seen == [(BLANK, 0), (BLANK, 0), (A, 1), (A, 1)]


def test_the_logprob_is_normalised_over_tokens_and_blank_only() -> None:
    def step(last: int, state: None, frame: Floats) -> tuple[Floats, None]:
        return np.array([2.0, 1.0, 0.0, 9.0, 99.0, 0.0, 0.0, 0.0], np.float32), None

    (emission,) = greedy_tdt(step, None, np.zeros((1, 1), np.float32), VOCABULARY)
    expected = 2.0 - np.log(np.exp(2.0) + np.exp(1.0) + 1.0)
    assert emission == Emission(A, 0, 1, pytest.approx(expected, abs=1e-6))


class Scripted:
    """onnx-asr's own loop over the same scripted joint."""

    def __init__(self, table: Floats, max_symbols: int) -> None:
        self.table, self.limit = table, max_symbols
        self._blank_idx, self._vocab_size, self.use_low_precision = BLANK, 3, False

    @property
    def _max_tokens_per_step(self) -> int:
        return self.limit

    def _create_state(self) -> int:
        return 0

    def _decode(self, _: object, state: int, frame: Floats) -> tuple[Floats, int, int]:
        row = self.table[int(frame[0]), state % self.table.shape[1]]
        return row[:3], int(row[3:].argmax()) if len(row) > 3 else -1, state + 1


class ScriptedTdt(Scripted, NemoConformerTdt):  # type: ignore[misc]
    """With durations."""


class ScriptedRnnt(Scripted, NemoConformerRnnt):  # type: ignore[misc]
    """Without: a plain transducer."""


@settings(max_examples=200)
@pytest.mark.parametrize(("kind", "durations"), [(ScriptedTdt, DURATIONS), (ScriptedRnnt, ())])
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(0, 30),
    limit=st.integers(1, 10),
    blank_bias=st.floats(-2, 2),
    zero_bias=st.floats(-2, 3),
)
def test_the_same_tokens_as_onnx_asr(
    kind: type[Any],
    durations: tuple[int, ...],
    seed: int,
    length: int,
    limit: int,
    blank_bias: float,
    zero_bias: float,
) -> None:
    shape = (max(length, 1), 5, 3 + len(durations))
    table = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    table[..., BLANK] += blank_bias
    table[..., 3:4] += zero_bias  # of duration 0, where there is one
    frames = np.arange(length, dtype=np.float32)[:, None]

    def step(last: int, state: int, frame: Floats) -> tuple[Floats, int]:
        return table[int(frame[0]), state % table.shape[1]], state + 1

    ours = greedy_tdt(step, 0, frames, TdtVocabulary(3, BLANK, durations, max_symbols=limit))
    theirs = kind(table, limit)._decoding(frames[None], np.array([length]), need_logprobs=True)
    tokens, at, logprobs = next(iter(theirs))
    assert [e.id for e in ours] == list(tokens)
    assert [e.frame for e in ours] == list(at)
    assert [e.logprob for e in ours] == pytest.approx(list(logprobs or []), abs=1e-5)


def test_a_plain_token_lasts_until_the_next_at_most_four_frames() -> None:
    found = [Emission(A, frame, 0, 0.0) for frame in (2, 2, 5, 20)]
    assert [e.duration for e in until_next(found, 22)] == [0, 3, LONGEST, 2]
    assert until_next([], 5) == []
