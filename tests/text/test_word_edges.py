"""Edges of words move to where sound begins and ends, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.text.words import REACH_S, refined
from stt.transcript import Word

Samples = npt.NDArray[np.float32]


def audio(*spoken: tuple[float, float], seconds: float = 3.0, noise: float = 1e-4) -> Samples:
    """Loud noise at some places in faint noise."""
    rng = np.random.default_rng(2)
    level = np.full(int(seconds * 16_000), noise)
    for start, end in spoken:
        level[int(start * 16_000) : int(end * 16_000)] = 0.1
    return (level * rng.standard_normal(len(level))).astype(np.float32)


def edges(words: list[tuple[float, float]], samples: Samples) -> list[tuple[float, float]]:
    made = refined([Word(start, end, "a", 0.9) for start, end in words], samples)
    return [(pytest.approx(w.start, abs=0.011), pytest.approx(w.end, abs=0.011)) for w in made]


def test_edges_in_silence_move_to_the_sound() -> None:
    samples = audio((0.5, 0.8), (1.3, 1.7))
    assert edges([(0.4, 0.64), (1.2, 1.84)], samples) == [(0.5, 0.8), (1.3, 1.7)]


def test_a_start_in_the_tail_of_the_word_before_moves_past_the_pause() -> None:
    samples = audio((0.5, 0.8), (0.9, 1.2))
    assert edges([(0.5, 0.7), (0.76, 1.0)], samples) == [(0.5, 0.8), (0.9, 1.2)]


def test_words_that_run_into_one_another_keep_their_times() -> None:
    samples = audio((0.5, 2.5))
    assert edges([(0.6, 1.0), (1.2, 1.6)], samples) == [(0.6, 1.0), (1.2, 1.6)]


def test_a_stop_inside_a_word_does_not_move_its_start() -> None:
    samples = audio((0.5, 0.65), (0.72, 0.9))
    assert edges([(0.5, 0.9)], samples) == [(0.5, 0.9)]


def test_far_sound_is_not_reached_and_noise_is_not_trusted() -> None:
    far = audio((1.5, 1.9))
    assert edges([(0.5, 0.7)], far) == [(0.5, 0.7)]
    noisy = audio((0.5, 0.8), noise=0.05)
    assert edges([(0.4, 0.64)], noisy) == [(0.4, 0.64)]
    assert edges([(0.0, 0.0)], np.zeros(10, np.float32)) == [(0.0, 0.0)]
    assert refined([], far) == []


def test_a_start_does_not_move_past_the_next_words() -> None:
    samples = audio((0.2734375, 0.7734375))
    made = refined([Word(0.0, 0.0, "a", 0.9), Word(0.265625, 1.0, "b", 0.9)], samples)
    assert made[0].start <= made[0].end <= made[1].start == 0.265625


@settings(max_examples=100)
@given(
    spoken=st.lists(st.tuples(st.floats(0, 2.5), st.floats(0.05, 0.6)), max_size=5),
    times=st.lists(st.floats(0, 3), max_size=12),
)
def test_words_stay_in_order_and_inside(
    spoken: list[tuple[float, float]], times: list[float]
) -> None:
    samples = audio(*((start, start + length) for start, length in spoken))
    ordered = sorted(times)[: len(times) // 2 * 2]
    given_words = [Word(a, b, "a", 0.9) for a, b in zip(ordered[::2], ordered[1::2], strict=True)]
    made = refined(given_words, samples)
    assert all(0 <= w.start <= w.end <= 3 for w in made)
    assert all(one.end <= two.start for one, two in pairwise(made))
    for word, before in zip(made, given_words, strict=True):
        assert before.start <= word.start <= before.start + REACH_S + 0.011
