"""Tokens to words to segments: no text lost, times in order."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.text.words import MAX_SEGMENT, PAUSE, segments, words
from stt.transcript import Token, Word

FRAME_S = 0.08


def token(text: str, frame: int, duration: int = 1, logprob: float = -0.1) -> Token:
    return Token(0, text, frame, duration, logprob)


def test_a_space_starts_a_word() -> None:
    made = words([token(" hel", 0, 2), token("lo", 2, 3), token(" you", 10, 2)], FRAME_S, 5.0, 9.0)
    assert [w.text for w in made] == ["hello", "you"]
    assert made[0].start == 5.0
    assert made[0].end == pytest.approx(5.4)
    assert (made[1].start, made[1].end) == (pytest.approx(5.8), pytest.approx(5.96))


def test_the_first_token_needs_no_space() -> None:
    assert [w.text for w in words([token("a", 0), token(" b", 1)], FRAME_S, 0, 1)] == ["a", "b"]


@pytest.mark.parametrize("mark", [".", " .", " ?", ",", " …"])
def test_punctuation_joins_its_word_and_lends_it_no_time(mark: str) -> None:
    made = words([token(" yes", 0, 2), token(mark, 20, 4), token(" no", 30)], FRAME_S, 0, 9)
    assert [w.text for w in made] == [f"yes{mark.strip()}", "no"]
    assert made[0].end == pytest.approx(0.16)


def test_a_word_ends_before_the_next_begins_and_within_the_audio() -> None:
    made = words([token(" a", 0, 4), token(" b", 2, 4)], FRAME_S, 0.0, 0.2)
    assert made[0].end == pytest.approx(0.16)
    assert made[1].end == 0.2


def test_a_duration_of_zero_still_takes_a_frame() -> None:
    assert words([token(" a", 0, 0)], FRAME_S, 0.0, 1.0)[0].end == pytest.approx(0.08)


def test_confidence_is_that_of_the_weakest_token() -> None:
    made = words([token(" a", 0, 1, -0.1), token("b", 1, 1, -2.0)], FRAME_S, 0.0, 1.0)
    assert made[0].confidence == pytest.approx(math.exp(-2.0))


pieces = st.text(" ab.,?", min_size=1, max_size=4)
tokens = st.lists(st.tuples(pieces, st.integers(0, 5), st.integers(0, 4)), max_size=30).map(
    lambda rows: [
        token(text, sum(step for _, step, _ in rows[: i + 1]), duration)
        for i, (text, _, duration) in enumerate(rows)
    ]
)


@given(tokens, st.floats(0, 3), st.floats(0, 100))
def test_no_text_is_lost_and_times_are_in_order(
    given_tokens: list[Token], limit: float, offset: float
) -> None:
    made = words(given_tokens, FRAME_S, offset, limit)
    text = "".join(t.text for t in given_tokens)
    assert "".join(w.text for w in made) == text.replace(" ", "")
    assert all(offset <= w.start <= w.end <= offset + limit + 1e-9 for w in made)
    assert all(before.end <= after.start + 1e-9 for before, after in pairwise(made))
    assert all(0 < w.confidence <= 1 for w in made)


def said(text: str, gap: float = 0.1) -> list[Word]:
    """Words of 0.3 s, `gap` seconds apart."""
    step = 0.3 + gap
    return [Word(i * step, i * step + 0.3, w, 0.9) for i, w in enumerate(text.split())]


def test_a_sentence_is_a_segment() -> None:
    made = segments(said("It works. Does it? Yes, Dr. Who, it does!"))
    assert [s.text for s in made] == ["It works.", "Does it?", "Yes, Dr. Who, it does!"]


def test_a_number_with_a_point_is_no_end() -> None:
    assert len(segments(said("about 3.5 metres"))) == 1


def test_a_pause_ends_a_segment() -> None:
    first, second = said("one"), [Word(0.3 + PAUSE, 2.0, "two", 0.5)]
    assert [s.text for s in segments(first + second)] == ["one", "two"]


def test_a_long_segment_ends_at_a_comma() -> None:
    made = segments(said("word " * 60 + "then, " + "word " * 5))
    assert [s.text.split()[-1] for s in made] == ["then,", "word"]
    assert made[0].end - made[0].start > MAX_SEGMENT


@given(st.lists(st.tuples(pieces.filter(str.strip), st.floats(0, 3)), max_size=40))
def test_segments_hold_every_word_once(rows: list[tuple[str, float]]) -> None:
    at, spoken = 0.0, []
    for text, gap in rows:
        spoken.append(Word(at + gap, at + gap + 0.2, text.replace(" ", "") or "a", 0.5))
        at += gap + 0.2
    made = segments(spoken)
    assert [word for s in made for word in s.words] == spoken
    assert all(s.words and s.start == s.words[0].start and s.end == s.words[-1].end for s in made)
    assert all(s.text == " ".join(word.text for word in s.words) for s in made)
