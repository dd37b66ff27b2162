"""Whatever a recogniser says: committed words stand, and no word is lost."""

from __future__ import annotations

import random
from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stt.events import Draft
from stt.streaming.jobs import Pace
from stt.transcript import Word
from support.live_fakes import (
    Reader,
    assert_nothing_committed_changes,
    finals,
    of,
    pause,
    run,
    sound,
    spoken,
    text_of,
)


class Liar:
    """Says anything, now this, now that."""

    def __init__(self, seed: int, words: str) -> None:
        self._random = random.Random(seed)
        self._words = words.split()

    def __call__(self, heard: list[Word]) -> list[Word]:
        kind = self._random.random()
        if kind < 0.2:
            return []
        if kind < 0.6:
            return [self._worded(word) for word in heard if self._random.random() < 0.9]
        return [self._worded(Word(t, t + 0.2, "", 0.5)) for t in range(self._random.randrange(12))]

    def _worded(self, word: Word) -> Word:
        text = word.text if word.text and self._random.random() < 0.7 else ""
        return Word(word.start, word.end, text or self._random.choice(self._words), 0.5)


speech = st.lists(
    st.one_of(
        st.integers(1, 30).map(spoken),
        st.floats(0.05, 2.0).map(pause),
        st.just([7]),
    ),
    max_size=6,
)


@settings(max_examples=20)
@given(speech, st.integers(0, 99), st.sampled_from([0.01, 0.3, 1.0, 7.0]), st.integers(1, 3))
def test_no_committed_word_ever_changes_and_finals_are_all_there_in_order(
    parts: list[list[int]], seed: int, cost: float, needed: int
) -> None:
    pace = Pace(window_s=5.0, needed=needed, margin_s=0.5)
    events = run(sound(*parts), Reader(Liar(seed, "a b A, c.")), cost, pace, 1600)
    assert_nothing_committed_changes(events)
    found = finals(events)
    assert [final.number for final in found] == list(range(1, len(found) + 1))
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(final.start < final.end for final in found)
    assert all(" ".join(s.text for s in f.segments) == f.text for f in found)
    shown = {event.number for event in of(Draft, events)}
    assert shown <= {final.number for final in found}


@settings(max_examples=12)
@given(speech, st.sampled_from([0.05, 2.0]))
def test_every_word_that_was_said_is_in_a_final(parts: list[list[int]], cost: float) -> None:
    frames = [n for part in parts for n in part]
    runs = [(n, len(list(same))) for n, same in groupby(frames)]
    said = [n for n, length in runs if n and length >= 3]
    events = run(sound(frames), cost=cost, pace=Pace(window_s=5.0), size=1600)
    words = iter(text_of(events).split())
    assert all(str(n) in words for n in said)  # in this order, among others
