"""When an utterance begins and ends, tested on lists of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.segmenter import MIN_SPEECH
from stt.streaming.endpoint import LONGEST, PRE_ROLL, SHORTEST, TAIL, Ended, Endpointer
from support.frames import LOUD, QUIET, Frames, pause, runs_of_speech, speech, stretches

WINDOW = 468
"""Frames in 15 s."""


def run(frames: Frames, window: int = WINDOW, threshold: float = 0.5) -> list[Ended]:
    """All that ended, clicks left out."""
    endpointer = Endpointer(window, threshold)
    found = [ended for frame in frames if (ended := endpointer.push(*frame))]
    if last := endpointer.finish():
        found.append(last)
    return [ended for ended in found if not ended.click]


# --- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "spoken", "after", "start", "end"),
    [
        (50, 30, 60, 50 - PRE_ROLL, 80 + TAIL),
        (0, 20, 60, 0, 20 + TAIL),
        (50, 20, 0, 50 - PRE_ROLL, 70),
        (0, 20, TAIL + 2, 0, 20 + TAIL),  # what was recognised in the pause is the final text
    ],
)
def test_an_utterance_has_600_ms_before_it_and_a_tail_where_there_are_any(
    before: int, spoken: int, after: int, start: int, end: int
) -> None:
    (ended,) = run(pause(before) + speech(spoken) + pause(after))
    assert (PRE_ROLL, TAIL) == (19, 10) and TAIL < SHORTEST <= LONGEST
    assert (ended.start, ended.last_speech, ended.end) == (start, before + spoken - 1, end)
    assert ended.end <= ended.endpoint <= before + spoken + after
    assert not ended.seam
    assert ended.clear == spoken


def test_the_endpoint_is_where_patience_ran_out() -> None:
    endpointer = Endpointer(WINDOW)
    ended = [endpointer.push(*frame) for frame in speech(20) + pause(60)]
    (index,) = [i for i, one in enumerate(ended) if one]
    found = ended[index]
    assert found is not None
    assert found.endpoint == index + 1 == 20 + endpointer.patience


def test_a_click_is_no_utterance_but_may_be_the_next_ones_pre_roll() -> None:
    frames = pause(30) + speech(MIN_SPEECH - 1) + pause(SHORTEST + 9)
    assert run(frames + pause(40)) == []
    (ended,) = run([*pause(30), *speech(2), *pause(8), *speech(20), *pause(40)])
    assert ended.start == 30 - PRE_ROLL


def test_a_click_that_is_claimed_belongs_to_nobody_else() -> None:
    endpointer = Endpointer(WINDOW)
    found = [e for frame in speech(2) + pause(30) if (e := endpointer.push(*frame))]
    (click,) = found
    assert click.click
    assert endpointer.oldest < click.end + PRE_ROLL
    endpointer.claim(click)
    later = [e for frame in speech(20) + pause(30) if (e := endpointer.push(*frame))]
    assert later[0].start >= click.end


def test_a_short_pause_does_not_end_an_utterance() -> None:
    assert len(run(speech(30) + pause(SHORTEST - 1) + speech(30) + pause(60))) == 1


def test_patience_follows_the_speaker() -> None:
    fluent, halting = Endpointer(WINDOW), Endpointer(WINDOW)
    for _ in range(30):
        for frame in speech(20) + pause(6):
            fluent.push(*frame)
        for frame in speech(20) + pause(22):
            halting.push(*frame)
    assert fluent.patience == SHORTEST
    assert halting.patience == LONGEST


def test_an_utterance_cut_off_too_early_makes_it_wait_longer() -> None:
    endpointer = Endpointer(WINDOW)
    patience = endpointer.patience
    for frame in (speech(20) + pause(patience + 3)) * 4:
        endpointer.push(*frame)
    assert endpointer.patience > patience


def test_long_speech_is_cut_in_its_quietest_place_and_goes_on_there() -> None:
    first, second = run(speech(300) + pause(11) + speech(200) + pause(60))
    assert first.seam
    assert not second.seam
    assert 300 <= first.end <= 311
    assert second.start == first.end
    assert first.last_speech == 299


def test_behind_a_seam_speech_begins_where_it_is_heard_again() -> None:
    """Latencies are counted from there."""
    endpointer = Endpointer(WINDOW)
    for frame in speech(300) + pause(11) + speech(157):
        endpointer.push(*frame)
    assert endpointer.start is not None
    assert 300 <= endpointer.start <= 311
    assert endpointer.first_speech == 311


def test_the_rest_of_a_word_that_was_cut_is_an_utterance_however_short() -> None:
    frames = speech(WINDOW + 1)
    cut = run(frames)
    assert cut[0].seam
    (rest,) = cut[1:]
    assert (rest.start, rest.end) == (cut[0].end, WINDOW + 1)


@pytest.mark.parametrize("threshold", [0.05, 0.15, 0.95])
def test_silence_ends_speech_whatever_the_threshold(threshold: float) -> None:
    """With a threshold below the hysteresis nothing ever counted as silence."""
    frames = [(0.99, LOUD)] * 30 + [(0.003, QUIET)] * 60
    (ended,) = run(frames, threshold=threshold)
    assert not ended.seam
    assert ended.last_speech == 29


def test_quiet_speech_between_the_thresholds_keeps_an_utterance_going() -> None:
    (ended,) = run(speech(20) + [(0.4, LOUD)] * 40 + pause(60))
    assert ended.last_speech == 59


# --- properties ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(stretches(120, 8), st.integers(156, 600), st.floats(0.05, 0.95))
def test_utterances_rise_apart_and_fit_the_window(
    frames: Frames, window: int, threshold: float
) -> None:
    found = run(frames, window, threshold)
    assert all(0 <= one.start < one.end <= len(frames) for one in found)
    assert all(one.start <= one.last_speech < one.end for one in found)
    assert all(one.end <= one.endpoint <= len(frames) for one in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(one.end - one.start <= window for one in found)
    assert all(b.start == a.end for a, b in pairwise(found) if a.seam and b.last_speech == b.start)


@settings(max_examples=40)
@given(stretches(60, 8), st.integers(156, 600), st.floats(0.05, 0.95))
def test_every_frame_of_speech_is_in_exactly_one_utterance(
    frames: Frames, window: int, threshold: float
) -> None:
    """But for clicks: fewer than MIN_SPEECH frames with a pause on both sides."""
    found = run(frames, window, threshold)
    covered = [sum(one.start <= i < one.end for one in found) for i in range(len(frames))]
    assert max(covered, default=0) <= 1
    for begin, end in runs_of_speech(frames, threshold, MIN_SPEECH):
        assert covered[begin:end] == [1] * (end - begin)


@settings(max_examples=40)
@given(stretches(60, 8), st.integers(156, 600))
def test_patience_stays_in_bounds_and_audio_that_may_be_needed_is_kept(
    frames: Frames, window: int
) -> None:
    """A session forgets what lies before `oldest`."""
    endpointer = Endpointer(window)
    oldest = 0
    for frame in frames:
        assert SHORTEST <= endpointer.patience <= LONGEST
        before = endpointer.oldest
        ended = endpointer.push(*frame)
        oldest = max(oldest, before)
        if ended:
            assert ended.start >= before
        if endpointer.start is not None:
            assert endpointer.start >= before
        assert endpointer.oldest >= before
