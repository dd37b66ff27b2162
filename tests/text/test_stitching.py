"""Joining two hearings of one stretch: every word once, whatever the edges made of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.text.stitching import joined
from stt.transcript import Word

BEGIN, END = 10.0, 13.0


def word(start: float, end: float, text: str) -> Word:
    return Word(start, end, text, 0.9)


def texts(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def test_they_change_over_at_a_word_both_heard() -> None:
    left = [
        word(9, 9.4, "we"),
        word(11.2, 11.5, "were"),
        word(11.6, 12.0, "glad"),
        word(12.7, 13, "o"),
    ]
    right = [
        word(10, 10.1, "a"),
        word(11.25, 11.5, "Were"),
        word(11.6, 12.1, "glad,"),
        word(12.7, 13.2, "of"),
    ]
    first, second = joined(left, right, BEGIN, END)
    assert texts(first) == ["we", "were"]
    assert texts(second) == ["glad,", "of"]


def test_where_no_word_is_shared_they_change_over_between_words() -> None:
    left = [word(10.2, 10.8, "one"), word(12.2, 12.9, "tow")]
    right = [word(12.2, 12.9, "two"), word(13.2, 13.5, "three")]
    assert list(map(texts, joined(left, right, BEGIN, END))) == [["one"], ["two", "three"]]


def test_two_readings_of_one_word_become_one() -> None:
    left = [word(10.0, 12.0, "Smith")]
    right = [word(10.9, 13.0, "Smyth")]
    first, second = joined(left, right, BEGIN, END)
    assert len(first) + len(second) == 1


def test_repeated_words_stay_repeated() -> None:
    left = [word(10.4 + 0.3 * i, 10.6 + 0.3 * i, "no") for i in range(6)]
    right = [word(10.45 + 0.3 * i, 10.65 + 0.3 * i, "no") for i in range(2, 9)]
    first, second = joined(left, right, BEGIN, END)
    assert len(first) + len(second) == 9


@pytest.mark.parametrize("silent", ["left", "right", "both"])
def test_silence_on_a_side(silent: str) -> None:
    left = [] if silent in ("left", "both") else [word(9.0, 9.5, "before")]
    right = [] if silent in ("right", "both") else [word(13.2, 13.5, "after")]
    assert joined(left, right, BEGIN, END) == (left, right)


@st.composite
def hearings(draw: st.DrawFn) -> tuple[list[str], list[Word], list[Word]]:
    """What was said, and what an utterance up to `END` and one from `BEGIN` on heard of it."""
    said: list[Word] = []
    at = 7.0
    while at < 16.0:
        length = draw(st.floats(0.16, 0.7))
        said.append(
            word(at, at + length, draw(st.sampled_from(("a", "no", "yes", "the", "river"))))
        )
        at += length + draw(st.floats(0.06, 0.5))
    jitter = st.floats(-0.03, 0.03)

    def heard(one: Word, cut: float | None) -> list[Word]:
        start, end = one.start + draw(jitter), one.end + draw(jitter)
        if cut is None:
            return [word(start, end, one.text)]
        text = draw(st.sampled_from([None, "uh", one.text]))  # the edge goes through it
        return [] if text is None else [word(max(start, BEGIN), min(end, END), text)]

    left, right = [], []
    for one in said:
        if one.start < END:
            left += heard(one, END if one.end > END - 0.3 else None)
        if one.end > BEGIN:
            right += heard(one, BEGIN if one.start < BEGIN + 0.3 else None)
    return [one.text for one in said], left, right


@given(hearings())
def test_every_word_is_there_once(case: tuple[list[str], list[Word], list[Word]]) -> None:
    said, left, right = case
    first, second = joined(left, right, BEGIN, END)
    assert texts([*first, *second]) == said
    starts = [w.start for w in (*first, *second)]
    assert starts == sorted(starts)
