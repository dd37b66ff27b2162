"""Tokens to words to segments: no text lost, times in order, edges where sound begins and ends."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stt.text.transcript import Transcript
from stt.text.words import (
    MAX_SEGMENT,
    PAUSE,
    REACH_S,
    SHORTEST_S,
    lengthened,
    refined,
    segments,
    spaced,
    words,
)
from stt.transcript import Choice, Token, Word
from stt.types import SAMPLE_RATE, Samples

FRAME_S = 0.08


def token(text: str, frame: int, duration: int = 1, logprob: float = -0.1) -> Token:
    return Token(0, text, frame, duration, logprob)


def test_a_space_starts_a_word() -> None:
    made = words([token(" hel", 0, 2), token("lo", 2, 3), token(" you", 10, 2)], FRAME_S, 9.0)
    assert [w.text for w in made] == ["hello", "you"]
    assert made[0].start == 0.0
    assert made[0].end == pytest.approx(0.4)
    assert (made[1].start, made[1].end) == (pytest.approx(0.8), pytest.approx(0.96))
    # the first token needs none
    assert [w.text for w in words([token("a", 0), token(" b", 1)], FRAME_S, 1)] == ["a", "b"]


@pytest.mark.parametrize("mark", [".", " .", " ?", ",", " …"])
def test_punctuation_joins_its_word_and_lends_it_no_time(mark: str) -> None:
    made = words([token(" yes", 0, 2), token(mark, 20, 4), token(" no", 30)], FRAME_S, 9)
    assert [w.text for w in made] == [f"yes{mark.strip()}", "no"]
    assert made[0].end == pytest.approx(0.16)


def test_a_word_ends_before_the_next_begins_and_within_the_audio() -> None:
    made = words([token(" a", 0, 4), token(" b", 2, 4)], FRAME_S, 0.2)
    assert made[0].end == pytest.approx(0.16)
    assert made[1].end == 0.2
    # a duration of zero still takes a frame
    assert words([token(" a", 0, 0)], FRAME_S, 1.0)[0].end == pytest.approx(0.08)


def test_confidence_is_that_of_the_weakest_token() -> None:
    made = words([token(" a", 0, 1, -0.1), token("b", 1, 1, -2.0)], FRAME_S, 1.0)
    assert made[0].confidence == pytest.approx(math.exp(-2.0))


pieces = st.text(" ab.,?", min_size=1, max_size=4)
tokens = st.lists(st.tuples(pieces, st.integers(0, 5), st.integers(0, 4)), max_size=30).map(
    lambda rows: [
        token(text, sum(step for _, step, _ in rows[: i + 1]), duration)
        for i, (text, _, duration) in enumerate(rows)
    ]
)


@given(tokens, st.floats(0, 3))
def test_no_text_is_lost_and_times_are_in_order(given_tokens: list[Token], limit: float) -> None:
    made = words(given_tokens, FRAME_S, limit)
    text = "".join(t.text for t in given_tokens)
    assert "".join(w.text for w in made) == text.replace(" ", "")
    assert all(0 <= w.start <= w.end <= limit + 1e-9 for w in made)
    assert all(before.end <= after.start + 1e-9 for before, after in pairwise(made))
    assert all(0 < w.confidence <= 1 for w in made)


def said(text: str, gap: float = 0.1) -> list[Word]:
    """Words of 0.3 s, `gap` seconds apart."""
    step = 0.3 + gap
    return [Word(i * step, i * step + 0.3, w, 0.9) for i, w in enumerate(text.split())]


def test_a_sentence_is_a_segment() -> None:
    made = segments(said("It works. Does it? Yes, Dr. Who, it does!"))
    assert [s.text for s in made] == ["It works.", "Does it?", "Yes, Dr. Who, it does!"]
    assert len(segments(said("about 3.5 metres"))) == 1  # a number with a point is no end


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


def audio(*spoken: tuple[float, float], seconds: float = 3.0, noise: float = 1e-4) -> Samples:
    """Loud noise at some places in faint noise."""
    rng = np.random.default_rng(2)
    level = np.full(int(seconds * SAMPLE_RATE), noise)
    for start, end in spoken:
        level[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)] = 0.1
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


emissions = st.lists(
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


@given(emissions, st.floats(0.1, 3.0), st.lists(st.booleans(), min_size=1, max_size=8))
def test_whatever_a_transducer_emits_words_have_a_length_in_json(
    emitted: list[Token], seconds: float, loud: list[bool]
) -> None:
    gaps = np.cumsum([token.frame for token in emitted])
    ordered = [
        Token(t.id, t.text, int(frame), t.duration, t.logprob)
        for t, frame in zip(emitted, gaps, strict=True)
    ]
    rng = np.random.default_rng(0)
    level = np.repeat(
        [0.1 if one else 1e-5 for one in loud], int(seconds * SAMPLE_RATE) // len(loud)
    )
    samples = (level * rng.standard_normal(len(level))).astype(np.float32)
    seconds = len(samples) / SAMPLE_RATE
    spoken = lengthened(refined(words(ordered, 0.08, seconds), samples), seconds)
    choice = Choice("fp32", "cpu", "only")
    transcript = Transcript("a.wav", seconds, tuple(segments(spoken)), "m", choice, 1.0)
    document = json.loads(transcript.to("json"))
    found = [one for segment in document["segments"] for one in segment["words"]]
    assert len(found) == len(spoken)
    assert all(one["start"] < one["end"] for one in found)
    assert all(one["end"] <= other["start"] for one, other in pairwise(found))
    assert all(one["end"] <= seconds + 0.0005 for one in found)
    assert all(segment["start"] < segment["end"] for segment in document["segments"])
    if len(spoken) * SHORTEST_S <= seconds:
        assert all(w.end - w.start >= SHORTEST_S - 1e-9 for w in spoken)
