"""A live session in simulated time, with a VAD and a recogniser that follow a script."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from stt.audio.utterances import Utterance
from stt.audio.vad import FRAME
from stt.events import Committed, Draft, Event, Final, Level, State
from stt.streaming.jobs import Job, Pace
from stt.streaming.replay import Replay
from stt.streaming.session import LiveSession
from stt.transcript import Segment, Word
from support.live_fakes import (
    FRAME_S,
    RATE,
    Ears,
    Reader,
    assert_nothing_committed_changes,
    blocks,
    finals,
    of,
    pause,
    run,
    sound,
    spoken,
    text_of,
)

TWO = sound(spoken(3), pause(1.5), spoken(4), pause(1.5))
SIX = sound(spoken(6), pause(1.5))


# --- finals -------------------------------------------------------------------------------------


def test_each_utterance_becomes_final_in_order_with_its_times() -> None:
    one, two = finals(run(TWO))
    assert (one.number, one.text, two.number, two.text) == (1, "1 2 3", 2, "1 2 3 4")
    assert one.start == 0.0
    assert one.speech_end == pytest.approx(30 * FRAME_S)
    assert one.speech_end < one.end < one.endpoint
    assert two.start >= one.end
    assert two.start == pytest.approx(two.speech_end - (40 + 19) * FRAME_S)
    assert not one.seam
    assert not two.seam
    assert two.segments[0].words[0].start == pytest.approx(two.speech_end - 40 * FRAME_S)


@pytest.mark.parametrize(
    ("silence", "cost", "least", "most"), [(1.5, 0.2, 0.0, 0.05), (3.0, 0.6, 0.2, 0.7)]
)
def test_a_trial_in_the_pause_is_the_final_text_also_if_it_ends_behind_the_endpoint(
    silence: float, cost: float, least: float, most: float
) -> None:
    reader = Reader()
    (final,) = finals(run(sound(spoken(5), pause(silence)), reader, cost))
    assert least <= final.latency_s <= most
    heard = round((final.end - final.start) * RATE)
    assert reader.jobs.count(heard) == 1  # not recognised again


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((pause(1.0), spoken(4)), "1 2 3 4"),
        ((spoken(4), pause(0.45), spoken(2), pause(1.5)), "1 2 3 4 1 2"),
    ],
    ids=["the stream ends in it", "a pause behind which it goes on"],
)
@pytest.mark.parametrize("cut", [0, 300])
def test_one_utterance(parts: tuple[list[int], ...], text: str, cut: int) -> None:
    samples = sound(*parts)
    samples = samples[: len(samples) - cut]  # not a whole frame
    (final,) = finals(run(samples))
    assert final.text == text
    assert final.end <= len(samples) / RATE


def test_a_click_is_nothing_and_silence_gives_levels_alone() -> None:
    events = run(sound(pause(1.0), [1, 1], pause(2.0)))
    assert not of(Final, events)
    assert not of(Draft, events)
    assert [event.name for event in of(State, events)] == ["speech", "listening"]
    reader = Reader()
    assert {type(event) for event in run(sound(pause(5.0)), reader)} == {Level}
    assert reader.jobs == []
    assert run(np.zeros(0, np.float32)) == run(np.zeros(100, np.float32)) == []


@pytest.mark.parametrize("size", [300, 4096, 10**6])
def test_the_sizes_of_the_blocks_do_not_change_the_finals(size: int) -> None:
    samples = sound(pause(0.5), spoken(2), pause(1.0), spoken(2), pause(1.0))
    found = finals(run(samples, size=size))
    assert [final.text for final in found] == ["1 2", "1 2"]
    assert [f.start for f in found] == [f.start for f in finals(run(samples))]


def test_text_that_is_doubted_is_left_out_and_reported() -> None:
    def babble(_: list[Word]) -> list[Word]:
        return [Word(0.7, 0.8, "so", 0.9)] * 40

    (final,) = finals(run(sound(pause(1.0), spoken(1), pause(1.5)), Reader(babble)))
    assert (final.text, final.segments) == ("", ())
    assert final.suppressed == " ".join(["so"] * 40)


# --- drafts -------------------------------------------------------------------------------------


def test_drafts_come_soon_and_words_are_committed_while_one_speaks() -> None:
    events = run(sound(pause(1.0), spoken(20), pause(1.5)))
    drafts = of(Draft, events)
    assert drafts[0].latency_s < 0.5
    assert len(drafts) > 10
    assert len(of(Committed, events)) > 5
    committed = " ".join(event.text for event in of(Committed, events))
    assert text_of(events).startswith(committed)
    assert_nothing_committed_changes(events)


def test_a_slow_machine_drafts_less_often_and_no_more_than_its_share() -> None:
    session = LiveSession(Ears())
    replay = Replay(session, Reader(), lambda *_: 0.8)
    samples = sound(spoken(40), pause(1.5))
    drafts = of(Draft, list(replay.events(blocks(samples))))
    assert 4 <= len(drafts) <= 10
    assert replay.busy < 0.65 * len(samples) / RATE


def in_vain_after(partials: int) -> tuple[LiveSession, list[Event], int]:
    """A session in the pause after six words, in which that partial began; and the samples fed."""
    session, reader = LiveSession(Ears()), Reader()
    events: list[Event] = []
    fed, job = 0, None
    while not session.in_vain and fed < len(SIX) - 1.1 * RATE:
        events += session.feed(SIX[fed : fed + 800], fed / RATE)
        fed += 800
        if job is None and (job := session.next_job(fed / RATE)) is not None and partials > 1:
            events += session.done(job, reader.recognize(job.utterances), fed / RATE)
            partials, job = partials - 1, None
    assert job is not None
    assert job.kind == "partial"
    return session, events, fed


def test_a_partial_is_in_vain_when_a_pause_begins_and_given_up_it_costs_no_word() -> None:
    session, events, fed = in_vain_after(partials=2)
    assert session.in_vain
    assert 0.1 < fed / RATE - 60 * FRAME_S < 0.3
    job = session._running
    assert job is not None
    session.given_up(job, fed / RATE)
    assert not session.in_vain
    reader = Reader()
    while fed < len(SIX):
        events += session.feed(SIX[fed : fed + 800], fed / RATE)
        fed += 800
        if (job := session.next_job(fed / RATE)) is not None:
            assert job.kind == "trial"
            events += session.done(job, reader.recognize(job.utterances), fed / RATE)
    assert [final.text for final in finals(events)] == ["1 2 3 4 5 6"]


def test_the_first_draft_of_an_utterance_is_never_in_vain() -> None:
    session, _, fed = in_vain_after(partials=1)
    assert fed / RATE - 60 * FRAME_S > 0.3, "it was in the pause"
    assert not session.in_vain


def test_under_load_partials_are_skipped_no_final_is_lost_and_the_lag_is_stated() -> None:
    parts = [part for n in range(2, 8) for part in (spoken(n), pause(1.2))]
    reader = Reader()
    events = run(sound(*parts), reader, cost=4.0)
    assert [final.text for final in finals(events)] == [
        " ".join(map(str, range(1, n + 1))) for n in range(2, 8)
    ]
    assert len(reader.jobs) < 14
    assert_nothing_committed_changes(events)
    assert max(level.lag_s for level in of(Level, events)) > 4.0
    assert max(level.lag_s for level in of(Level, run(sound(*parts)))) < 0.1


def test_finals_that_wait_go_together() -> None:
    session = LiveSession(Ears(), Pace(batch_size=2))
    jobs: list[Job] = []

    def cost(job: Job, _: float) -> float:
        jobs.append(job)
        return 6.0

    parts = [part for _ in range(5) for part in (spoken(3), pause(1.0))]
    replay = Replay(session, Reader(), cost)
    assert len(finals(list(replay.events(blocks(sound(*parts)))))) == 5
    assert max(len(job.utterances) for job in jobs) == 2


# --- long speech --------------------------------------------------------------------------------


def test_long_speech_is_settled_in_windows_without_losing_a_word() -> None:
    events = run(sound(spoken(100), pause(1.5)), pace=Pace(window_s=5.0))
    found = finals(events)
    assert len(found) > 4
    assert [final.seam for final in found] == [True] * (len(found) - 1) + [False]
    assert all(a.end == b.start for a, b in pairwise(found))
    words = text_of(events).split()
    assert list(dict.fromkeys(words)) == [str(n) for n in range(1, 101)]  # a cut word comes twice
    assert len(words) <= 100 + len(found) - 1
    assert_nothing_committed_changes(events)


def test_a_rest_without_speech_behind_a_seam_is_no_utterance() -> None:
    events = run(sound(spoken(13), pause(0.7), [9], pause(2.0)), pace=Pace(window_s=5.0))
    assert text_of(events).split()[:13] == [str(n) for n in range(1, 14)]
    assert_nothing_committed_changes(events)


# --- state, levels, lost sound -------------------------------------------------------------------


def test_states_tell_what_goes_on() -> None:
    events = run(sound(pause(1.0), spoken(4), pause(3.0)), cost=1.5)
    assert [state.name for state in of(State, events)] == ["speech", "thinking", "listening"]
    first = of(State, events)[0]
    assert 1.0 < first.at < 1.16
    quick = run(sound(pause(1.0), spoken(4), pause(3.0)))
    assert [state.name for state in of(State, quick)] == ["speech", "listening"]


def test_levels_come_ten_times_a_second_and_are_right() -> None:
    samples = np.full(RATE, 0.1, np.float32)
    samples[RATE // 2] = 0.5
    found = of(Level, run(samples))
    assert len(found) == 10
    assert found[0].rms_db == pytest.approx(-20.0, abs=0.01)
    assert found[0].peak_db == pytest.approx(-20.0, abs=0.01)
    assert max(level.peak_db for level in found) == pytest.approx(-6.02, abs=0.01)
    assert [level.at for level in found[:2]] == pytest.approx([0.096, 0.192])
    silent = of(Level, run(np.zeros(RATE, np.float32)))
    assert {(level.rms_db, level.peak_db) for level in silent} == {(-100.0, -100.0)}


def test_skipped_time_counts_for_all_that_follows() -> None:
    session = LiveSession(Ears())
    replay = Replay(session, Reader(), lambda *_: 0.05)
    before, after = sound(spoken(3), pause(2.0)), sound(spoken(3), pause(2.0))

    def both() -> object:
        yield from blocks(before)
        session.skip(100.0)
        yield from blocks(after)

    events = list(replay.events(both()))  # type: ignore[arg-type]
    one, two = finals(events)
    begins = len(before) / RATE + 100.0
    assert one.speech_end < 1.0
    assert two.speech_end == pytest.approx(begins + 30 * FRAME_S)
    assert two.segments[0].words[0].start == pytest.approx(begins)
    assert of(Level, events)[-1].at == pytest.approx(begins + len(after) / RATE, abs=0.1)
    assert all(draft.at > begins for draft in of(Draft, events) if draft.number == 2)
    assert two.latency_s < 0.2


def test_memory_does_not_grow_with_silence() -> None:
    session = LiveSession(Ears())
    for block in blocks(sound(pause(20.0))):
        session.feed(block, 0.0)
    assert len(session._audio) < RATE


# --- odd recognisers ----------------------------------------------------------------------------


def test_a_recogniser_that_answers_for_too_few_is_an_error() -> None:
    session = LiveSession(Ears())
    session.feed(sound(spoken(20)), 0.0)
    job = session.next_job(10.0)
    assert job is not None
    with pytest.raises(ValueError, match="zip"):
        session.done(job, [], 10.0)


def test_segments_without_words_keep_their_times() -> None:
    class Plain(Reader):
        def recognize(self, batch: object) -> list[list[Segment]]:
            return [[Segment(0.5, 1.0, "plain words", 0.9)] for _ in batch]  # type: ignore[attr-defined]

    (final,) = finals(run(sound(pause(2.0), spoken(3), pause(1.5)), Plain()))
    assert final.segments == (
        Segment(final.start + 0.5, final.start + 1.0, "plain words", 0.9, ()),
    )


# --- what the VAD heard ---------------------------------------------------------------------------


class Listener(Reader):
    """Keeps each utterance that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.utterances: list[Utterance] = []

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        self.utterances += batch
        return super().recognize(batch)


def test_drafts_and_finals_know_what_the_vad_heard_in_them() -> None:
    listener = Listener()
    run(sound(pause(1.0), spoken(4), pause(0.3), spoken(60), pause(1.5)), listener)
    assert len(listener.utterances) > 10
    for utterance in listener.utterances:
        frames = utterance.samples.reshape(-1, FRAME)
        expected = [0.95 if frame.any() else 0.01 for frame in frames]
        assert [probability for probability, _ in utterance.heard] == pytest.approx(expected)


class Polite(Reader):
    """Hears one thing more, in the silence before the first word."""

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        thanks = Segment(0.0, 0.2, "Thank you.", 0.9)
        return [[thanks, *segments] for segments in super().recognize(batch)]


def test_what_is_made_up_is_left_out_as_it_is_of_a_file() -> None:
    events = run(np.concatenate([sound(pause(1.0)), TWO]), Polite())
    assert [final.text for final in finals(events)] == ["1 2 3", "1 2 3 4"]
    assert not any("Thank" in event.text for event in of(Committed, events))
