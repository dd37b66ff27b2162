"""Rules of subtitles that hold for any transcript, and a few breaks a reader would choose."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stt.text import subtitles
from stt.text.subtitles import READABLE_MS, Cue, one_line
from stt.text.transcript import Transcript
from stt.text.words import segments as word_segments
from stt.transcript import DEFAULT_STYLE, Choice, Segment, SubtitleStyle, Word

CHOICE = Choice("fp32", "cpu", "the only one")
NARROW = SubtitleStyle(max_chars=10, max_lines=1)


def transcript(*segments: Segment, duration: float = 0.0) -> Transcript:
    return Transcript("a.wav", duration, segments, "m", CHOICE, 1.0)


def cues(recording: Transcript, limits: SubtitleStyle = DEFAULT_STYLE) -> list[Cue]:
    return subtitles.cues(recording.segments, recording.duration, limits)


def test_a_no_break_space_holds_words_together_and_stands_at_no_edge() -> None:
    assert one_line("Quoi\xa0?") == "Quoi\xa0?"
    assert one_line(" 0 \xa00\t\n1\x00\xa0") == "0 0 1"


def spoken(text: str, start: float = 0.0, per_char: float = 0.06) -> Segment:
    """A segment whose words follow each other without pause."""
    words, at = [], start
    for word in text.split():
        end = at + per_char * (len(word) + 1)
        words.append(Word(at, end, word, 0.9))
        at = end
    return Segment(start, at, text, 0.9, tuple(words))


def lines_of(found: list[Cue]) -> list[tuple[str, ...]]:
    return [cue.lines for cue in found]


texts = st.text(
    st.sampled_from("abcdefghij\u00e9\u4e2d.,!?&<>-\"' \t\n\u00a0"), min_size=0, max_size=120
)
times = st.floats(0, 60, allow_nan=False)


@st.composite
def words(draw: st.DrawFn) -> Word:
    start = draw(times)
    return Word(start, start + draw(st.sampled_from([0.0, 0.08, 0.3, 0.9, 12.0])), draw(texts), 0.5)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start = draw(times)
    inside = tuple(draw(st.lists(words(), max_size=12)))
    return Segment(start, start + draw(times), draw(texts), 0.5, inside)


@st.composite
def limits(draw: st.DrawFn) -> SubtitleStyle:
    return SubtitleStyle(max_chars=draw(st.integers(8, 60)), max_lines=draw(st.integers(1, 3)))


@st.composite
def speech(draw: st.DrawFn, pauses: tuple[float, ...]) -> Transcript:
    """Words as people say them: in order, at most 25 characters a second, some pauses."""
    found, at = [], 0.0
    for _ in range(draw(st.integers(1, 4))):
        inside = []
        for length in draw(st.lists(st.integers(1, 12), min_size=1, max_size=40)):
            end = at + (length + 1) * draw(st.floats(0.04, 0.12))
            inside.append(Word(at, end, "x" * length + draw(st.sampled_from(["", ",", "."])), 0.9))
            at = end + draw(st.sampled_from((0.0, 0.0, 0.0, *pauses)))
        found.append(Segment(inside[0].start, inside[-1].end, "", 0.9, tuple(inside)))
    return transcript(*found, duration=at)


@given(st.lists(segments(), max_size=6), limits())
def test_any_transcript_keeps_the_limits_and_all_its_text(
    given_segments: list[Segment], limit: SubtitleStyle
) -> None:
    found = cues(transcript(*given_segments), limit)
    for cue in found:
        assert 1 <= len(cue.lines) <= limit.max_lines
        assert all(0 < len(line) <= limit.max_chars for line in cue.lines)
        assert all(len(line.splitlines()) == 1 for line in cue.lines)
        assert cue.start < cue.end
        assert cue.end - cue.start <= limit.max_duration + 1e-9
        words = [word for line in cue.words for word in line]
        assert [" ".join(w.text for w in line) for line in cue.words] == list(cue.lines)
        assert all(a.start <= b.start for a, b in itertools.pairwise(words))
    for cue, following in itertools.pairwise(found):
        assert cue.end <= following.start
    said = [
        text
        for segment in given_segments
        for text in ([word.text for word in segment.words] or [segment.text])
    ]
    shown = "".join(line for cue in found for line in cue.lines)
    assert shown.replace(" ", "") == "".join(map(one_line, said)).replace(" ", "")


@given(speech(pauses=(0.1, 0.4, 0.9)))
def test_no_cue_is_under_half_a_second_unless_all_the_speech_is(recording: Transcript) -> None:
    """Speech this slow, without a long pause, can always be grouped so."""
    for cue in cues(recording):
        assert cue.end - cue.start >= min(0.5, recording.duration) - 0.0015


@given(speech(pauses=(0.2, 0.7, 1.5)))
def test_cues_start_with_a_word_and_stay_until_their_last_was_said(recording: Transcript) -> None:
    """So a cue is under half a second only where its speech is, and the next follows at once."""
    every = [word for segment in recording.segments for word in segment.words]
    at = 0
    for cue in cues(recording):
        count = sum(len(line.split(" ")) for line in cue.lines)
        # the last one alone begins earlier where the recording leaves no room behind it
        early = 0.2 if at + count == len(every) else 0.0
        assert 0 <= round(every[at].start, 3) - cue.start <= early
        at += count
        assert cue.end >= round(every[at - 1].end, 3) - 0.08 - 1e-9
        following = every[at].start if at < len(every) else recording.duration
        assert cue.end - cue.start >= min(0.5, following - cue.start) - 0.0015
    assert at == len(every)


def test_a_sentence_breaks_at_its_comma() -> None:
    sentence = "Her boat had been thrown onto the rocks, she said, and she had followed the light."
    assert lines_of(cues(transcript(spoken(sentence)))) == [
        (
            "Her boat had been thrown onto the rocks,",
            "she said, and she had followed the light.",
        )
    ]


def test_a_sentence_that_begins_in_the_middle_of_a_cue_is_avoided() -> None:
    text = "He thought it was only the wind. But the sound came again, slower this time."
    assert [cue.lines[-1][-1] for cue in cues(transcript(spoken(text)))] == [".", "."]


def test_short_answers_share_a_cue() -> None:
    parts = [spoken("Yes.", 0), spoken("No.", 0.3), spoken("Maybe.", 0.54)]
    assert lines_of(cues(transcript(*parts, duration=1.0))) == [("Yes. No. Maybe.",)]


def test_a_segment_that_ends_within_a_sentence_is_no_reason_for_a_cue() -> None:
    first = Segment(0.0, 2.5, "and watched the dark water until he fell", 0.9)
    second = Segment(2.5, 4.0, "asleep in his chair.", 0.9)
    assert lines_of(cues(transcript(first, second))) == [
        ("and watched the dark water until", "he fell asleep in his chair.")
    ]


def test_a_title_is_no_end_of_a_sentence() -> None:
    text = "We asked everybody in the village about Dr. Brown and what he did in the long winter."
    assert all(not cue.lines[-1].endswith("Dr.") for cue in cues(transcript(spoken(text))))


def test_a_pause_is_a_better_break_than_none() -> None:
    before = spoken("one two three four five six seven eight nine ten")
    after = spoken("eleven twelve thirteen fourteen fifteen sixteen", before.end + 0.6)
    joined = Segment(0, after.end, "", 0.9, before.words + after.words)
    assert [cue.start for cue in cues(transcript(joined))] == [0.0, round(after.start, 3)]


def test_a_cue_stays_a_moment_after_its_last_word() -> None:
    one, two = spoken("Nobody was there."), spoken("Then it rained.", 20)
    found = cues(transcript(one, two, duration=60))
    assert found[0].end == round(one.end + 0.5, 3)
    assert found[1].end == round(two.end + 0.5, 3)


def test_a_fast_line_stays_until_it_can_be_read() -> None:
    fast = spoken("Thirty-four characters in a second.", per_char=0.02)
    (cue,) = cues(transcript(fast, duration=60))
    assert cue.end == round(35 / 17, 3)


def test_a_short_gap_is_closed_but_for_what_tells_two_cues_apart() -> None:
    one, two = spoken("Nobody was there."), spoken("Then it rained.", 1.9)
    found = cues(transcript(one, two))
    assert (found[0].end, found[1].start) == (1.82, 1.9)
    found = cues(transcript(one, two), SubtitleStyle(min_gap=0.0))
    assert found[0].end == found[1].start == 1.9


def test_a_gap_leaves_a_cue_its_least_time() -> None:
    fast = Segment(0, 0.53, "No!", 0.9, (Word(0, 0.53, "No!", 0.9),))
    then = spoken("And that was all that he ever said about it to anyone here.", 0.53)
    first, *_ = cues(transcript(fast, then), SubtitleStyle(max_chars=30, max_lines=2))
    assert first.lines == ("No!",)
    assert first.end == 0.5


def test_nothing_outlasts_the_recording() -> None:
    one = spoken("Nobody was there.")
    assert cues(transcript(one, duration=one.end + 0.2))[0].end == round(one.end + 0.2, 3)


def test_without_words_a_segment_shares_its_time_by_characters() -> None:
    first, second = (
        "The first half of it all is " + "a" * 13 + ".",
        "And this is the second " + "b" * 18 + ".",
    )
    assert len(first) == len(second)
    found = cues(transcript(Segment(10, 20, f"{first} {second}", 0.9)))
    assert lines_of(found) == [(first,), (second,)]
    assert found[0].start == 10
    assert abs(found[1].start - 15) < 0.2
    assert found[1].end == 20


def test_a_word_longer_than_a_line_is_cut() -> None:
    address = "example.org/" + "a-very-long-path/" * 5
    found = cues(transcript(spoken(f"See {address} now", per_char=0.01)))
    shown = [line for cue in found for line in cue.lines]
    assert max(map(len, shown)) == 42
    assert "".join(shown).replace(" ", "") == f"See{address}now"


def test_nothing_said_is_no_cue() -> None:
    assert cues(transcript(duration=10)) == []
    assert cues(transcript(Segment(0, 1, " ", 0.0), duration=10)) == []


def test_fast_words_on_narrow_lines_can_be_read() -> None:
    spoken = [Word(at, at + 0.05, "abcdefgh", 0.9) for at in (1.0, 1.0, 1.05, 1.1, 4.0)]
    found = subtitles.cues(word_segments(spoken), 6.0, NARROW)
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
    found = subtitles.cues(given_segments, duration, NARROW)
    least = min(READABLE_MS, int(duration * 1000) // max(1, len(found)))
    for cue in found:
        assert round(1000 * (cue.end - cue.start)) >= least - 1
        assert cue.end <= duration + 0.001
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
