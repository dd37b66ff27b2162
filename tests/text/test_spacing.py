"""Words have a length, and cues can be read, whatever times a model gives."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stt.text.subtitles import READABLE_MS, cues
from stt.text.transcript import Transcript
from stt.text.words import SHORTEST_S, lengthened, refined, segments, spaced, words
from stt.transcript import Choice, Segment, SubtitleStyle, Token, Word

NARROW = SubtitleStyle(max_chars=10, max_lines=1)


def word(start: float, end: float) -> Word:
    return Word(start, end, "a", 0.9)


def ends(spoken: list[Word], limit: float) -> list[tuple[object, object]]:
    found = lengthened(spoken, limit)
    return [(pytest.approx(w.start), pytest.approx(w.end)) for w in found]


def test_words_that_have_a_length_stay_as_they_are() -> None:
    spoken = [word(0.0, 0.2), word(0.2, 0.25), word(1.0, 2.0)]
    assert lengthened(spoken, 2.0) == spoken
    assert lengthened([], 2.0) == []


def test_a_word_without_length_takes_the_time_behind_it() -> None:
    assert ends([word(1.0, 1.0), word(1.5, 2.0)], 3.0) == [(1.0, 1.04), (1.5, 2.0)]
    # of a burst on one frame each gets some, and what follows begins later
    burst = [word(1.0, 1.0), word(1.0, 1.0), word(1.0, 1.6)]
    assert ends(burst, 3.0) == [(1.0, 1.04), (1.04, 1.08), (1.08, 1.6)]


def test_at_the_end_of_the_audio_it_takes_the_time_before() -> None:
    late = [word(1.0, 2.0), word(2.0, 2.0), word(2.0, 2.0)]
    assert ends(late, 2.0) == [(1.0, 1.92), (1.92, 1.96), (1.96, 2.0)]


def test_more_words_than_there_is_time_for_share_it() -> None:
    assert ends([word(0.0, 0.0)] * 4, 0.1) == [
        *[(0.0, 0.025), (0.025, 0.05)],
        *[(0.05, 0.075), (0.075, 0.1)],
    ]


@example([2.225073858507e-311, 0.2], 1.0)
@given(st.lists(st.floats(0, 50), max_size=40).map(sorted), st.floats(0.01, 60))
def test_moments_are_apart_in_order_and_moved_no_more_than_they_must(
    starts: list[float], limit: float
) -> None:
    starts = [min(start, limit) for start in starts]
    made = spaced(starts, 0.2, limit)
    least = min(0.2, limit / max(1, len(starts)))
    assert len(made) == len(starts)
    assert all(b - a >= least - 1e-9 for a, b in pairwise([*made, limit]))
    assert all(moment >= -1e-9 for moment in made)
    if all(b - a >= 0.2 for a, b in pairwise([*starts, limit])):
        assert made == pytest.approx(starts, abs=1e-9)


tokens = st.lists(
    st.builds(
        Token,
        st.integers(0, 9),
        st.sampled_from([" a", "b", " word", ".", " ,", " I", "\u4e2d"]),
        st.integers(0, 8),
        st.integers(0, 4),
        st.floats(-3.0, 0.0),
    ),
    max_size=30,
)


@given(tokens, st.floats(0.1, 3.0), st.lists(st.booleans(), min_size=1, max_size=8))
def test_whatever_a_transducer_emits_words_have_a_length_in_json(
    emitted: list[Token], seconds: float, loud: list[bool]
) -> None:
    gaps = np.cumsum([token.frame for token in emitted])
    ordered = [
        Token(t.id, t.text, int(frame), t.duration, t.logprob)
        for t, frame in zip(emitted, gaps, strict=True)
    ]
    rng = np.random.default_rng(0)
    level = np.repeat([0.1 if one else 1e-5 for one in loud], int(seconds * 16_000) // len(loud))
    samples = (level * rng.standard_normal(len(level))).astype(np.float32)
    seconds = len(samples) / 16_000
    spoken = lengthened(refined(words(ordered, 0.08, 0.0, seconds), samples), seconds)
    document = json.loads(transcript(segments(spoken), seconds).to("json"))
    found = [one for segment in document["segments"] for one in segment["words"]]
    assert len(found) == len(spoken)
    assert all(one["start"] < one["end"] for one in found)
    assert all(one["end"] <= other["start"] for one, other in pairwise(found))
    assert all(one["end"] <= seconds + 0.0005 for one in found)
    assert all(segment["start"] < segment["end"] for segment in document["segments"])
    if len(spoken) * SHORTEST_S <= seconds:
        assert all(w.end - w.start >= SHORTEST_S - 1e-9 for w in spoken)


def transcript(found: list[Segment], duration: float) -> Transcript:
    return Transcript("a.wav", duration, tuple(found), "m", Choice("fp32", "cpu", "only"), 1.0)


def test_fast_words_on_narrow_lines_can_be_read() -> None:
    spoken = [Word(at, at + 0.05, "abcdefgh", 0.9) for at in (1.0, 1.0, 1.05, 1.1, 4.0)]
    found = cues(segments(spoken), 6.0, NARROW)
    assert [(cue.start, cue.end) for cue in found] == [
        *[(1.0, 1.2), (1.2, 1.4), (1.4, 1.6)],
        *[(1.6, 2.1), (4.0, 4.55)],
    ]


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.floats(0, 1), st.text("abc .,", max_size=40)), max_size=30
    ),
    st.booleans(),
    st.floats(0.5, 40),
)
def test_no_cue_is_shorter_than_can_be_read_where_there_is_time(
    spoken: list[tuple[float, float, str]], timed: bool, duration: float
) -> None:
    inside = [
        Word(min(start, duration), min(start + length, duration), text or "x", 0.9)
        for start, length, text in sorted(spoken)
    ]
    given_segments = [Segment(w.start, w.end, w.text, 0.9, (w,) if timed else ()) for w in inside]
    found = cues(given_segments, duration, NARROW)
    least = min(READABLE_MS, int(duration * 1000) // max(1, len(found)))
    for cue in found:
        assert round(1000 * (cue.end - cue.start)) >= least - 1
        assert cue.end <= duration + 0.001
    assert all(one.end <= other.start for one, other in pairwise(found))
