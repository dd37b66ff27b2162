"""Greedy TDT decoding on a scripted joint: microseconds, no weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_asr.models.nemo import NemoConformerRnnt, NemoConformerTdt

from stt.models.tdt import LONGEST, Emission, TdtVocabulary, greedy_tdt, until_next

A, B, BLANK = 0, 1, 2
VOCABULARY = TdtVocabulary(size=3, blank=BLANK, max_symbols=3)


def logits(token: int, duration: int) -> npt.NDArray[np.float32]:
    values = np.zeros(VOCABULARY.size + len(VOCABULARY.durations), np.float32)
    values[token] = 5.0
    values[VOCABULARY.size + duration] = 1.0
    return values


def decode(script: dict[tuple[int, int], tuple[int, int]], length: int) -> list[tuple[int, ...]]:
    """Run a joint that answers (frame, tokens so far) -> (token, duration); else blank, 1."""

    def step(
        last: int, emitted: int, frame: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], int]:
        return logits(*script.get((int(frame[0]), emitted), (BLANK, 1))), emitted + 1

    frames = np.arange(length, dtype=np.float32)[:, None]
    return [(e.id, e.frame, e.duration) for e in greedy_tdt(step, 0, frames, VOCABULARY)]


def test_a_duration_moves_on_by_its_frames() -> None:
    assert decode({(0, 0): (A, 3), (3, 1): (B, 2)}, 6) == [(A, 0, 3), (B, 3, 2)]


def test_duration_zero_emits_again_at_the_same_frame() -> None:
    assert decode({(1, 0): (A, 0), (1, 1): (B, 1)}, 4) == [(A, 1, 0), (B, 1, 1)]


def test_a_blank_of_duration_zero_moves_on_one_frame() -> None:
    assert decode({(0, 0): (BLANK, 0), (1, 0): (A, 1)}, 2) == [(A, 1, 1)]


def test_a_burst_ends_at_the_limit_and_counting_starts_anew() -> None:
    script = {(0, n): (A, 0) for n in range(9)} | {(1, n): (B, 0) for n in range(9)}
    assert decode(script, 2) == [(A, 0, 0)] * 3 + [(B, 1, 0)] * 3


def test_a_duration_past_the_end_ends_the_utterance() -> None:
    assert decode({(1, 0): (A, 4)}, 3) == [(A, 1, 4)]


@pytest.mark.parametrize("length", [0, 1, 7])
def test_blanks_alone_give_nothing(length: int) -> None:
    assert decode({}, length) == []


def test_the_state_moves_only_with_a_token() -> None:
    seen: list[tuple[int, int]] = []

    def step(
        last: int, state: int, frame: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], int]:
        seen.append((last, state))
        return logits(A if frame[0] == 1 else BLANK, 1), state + 1

    greedy_tdt(step, 0, np.arange(4, dtype=np.float32)[:, None], VOCABULARY)
    assert seen == [(BLANK, 0), (BLANK, 0), (A, 1), (A, 1)]


def test_the_logprob_is_normalised_over_tokens_and_blank_only() -> None:
    def step(
        last: int, state: None, frame: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], None]:
        return np.array([2.0, 1.0, 0.0, 9.0, 99.0, 0.0, 0.0, 0.0], np.float32), None

    (emission,) = greedy_tdt(step, None, np.zeros((1, 1), np.float32), VOCABULARY)
    expected = 2.0 - np.log(np.exp(2.0) + np.exp(1.0) + 1.0)
    assert emission == Emission(A, 0, 1, pytest.approx(expected, abs=1e-6))


class ScriptedOnnxAsr(NemoConformerTdt):
    """onnx-asr's own loop over the same scripted joint."""

    def __init__(self, table: npt.NDArray[np.float32], max_symbols: int) -> None:
        self.table, self.limit = table, max_symbols
        self._blank_idx, self._vocab_size, self.use_low_precision = BLANK, 3, False

    @property
    def _max_tokens_per_step(self) -> int:
        return self.limit

    def _create_state(self) -> int:  # type: ignore[override]
        return 0

    def _decode(self, prev_tokens, prev_state, encoder_out):  # type: ignore[no-untyped-def]
        row = self.table[int(encoder_out[0]), prev_state % self.table.shape[1]]
        return row[:3], int(row[3:].argmax()), prev_state + 1


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(0, 30),
    limit=st.integers(1, 10),
    blank_bias=st.floats(-2, 2),
    zero_bias=st.floats(-2, 3),
)
def test_the_same_tokens_as_onnx_asr(
    seed: int, length: int, limit: int, blank_bias: float, zero_bias: float
) -> None:
    table = np.random.default_rng(seed).standard_normal((max(length, 1), 5, 8)).astype(np.float32)
    table[..., BLANK] += blank_bias
    table[..., 3] += zero_bias
    frames = np.arange(length, dtype=np.float32)[:, None]

    def step(
        last: int, state: int, frame: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], int]:
        return table[int(frame[0]), state % table.shape[1]], state + 1

    ours = greedy_tdt(step, 0, frames, TdtVocabulary(3, BLANK, max_symbols=limit))
    theirs = ScriptedOnnxAsr(table, limit)._decoding(
        frames[None], np.array([length]), need_logprobs=True
    )
    tokens, at, logprobs = next(iter(theirs))
    assert [e.id for e in ours] == list(tokens)
    assert [e.frame for e in ours] == list(at)
    assert [e.logprob for e in ours] == pytest.approx(list(logprobs or []), abs=1e-5)


# --- plain transducers (RNN-T): no durations -----------------------------------------------------

PLAIN = TdtVocabulary(size=3, blank=BLANK, durations=(), max_symbols=3)


class ScriptedOnnxAsrRnnt(NemoConformerRnnt):
    """onnx-asr's loop for a plain transducer over the same scripted joint."""

    def __init__(self, table: npt.NDArray[np.float32], max_symbols: int) -> None:
        self.table, self.limit = table, max_symbols
        self._blank_idx, self._vocab_size, self.use_low_precision = BLANK, 3, False

    @property
    def _max_tokens_per_step(self) -> int:
        return self.limit

    def _create_state(self) -> int:  # type: ignore[override]
        return 0

    def _decode(self, prev_tokens, prev_state, encoder_out):  # type: ignore[no-untyped-def]
        row = self.table[int(encoder_out[0]), prev_state % self.table.shape[1]]
        return row, -1, prev_state + 1


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(0, 30),
    limit=st.integers(1, 10),
    blank_bias=st.floats(-2, 2),
)
def test_a_plain_transducer_gives_the_same_tokens_as_onnx_asr(
    seed: int, length: int, limit: int, blank_bias: float
) -> None:
    table = np.random.default_rng(seed).standard_normal((max(length, 1), 5, 3)).astype(np.float32)
    table[..., BLANK] += blank_bias
    frames = np.arange(length, dtype=np.float32)[:, None]

    def step(
        last: int, state: int, frame: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], int]:
        return table[int(frame[0]), state % table.shape[1]], state + 1

    ours = greedy_tdt(step, 0, frames, TdtVocabulary(3, BLANK, (), max_symbols=limit))
    theirs = ScriptedOnnxAsrRnnt(table, limit)._decoding(
        frames[None], np.array([length]), need_logprobs=True
    )
    tokens, at, logprobs = next(iter(theirs))
    assert [e.id for e in ours] == list(tokens)
    assert [e.frame for e in ours] == list(at)
    assert [e.logprob for e in ours] == pytest.approx(list(logprobs or []), abs=1e-5)


def test_a_plain_token_lasts_until_the_next_at_most_four_frames() -> None:
    found = [Emission(A, frame, 0, 0.0) for frame in (2, 2, 5, 20)]
    assert [e.duration for e in until_next(found, 22)] == [0, 3, LONGEST, 2]
    assert until_next([], 5) == []
