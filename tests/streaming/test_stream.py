"""Live recognition with its real threads; only the VAD and the recogniser follow a script.

Nothing here depends on how fast the machine is: sound comes as fast as it is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stt.audio.microphone import Block
from stt.audio.utterances import Utterance
from stt.engine.fallback import Fallback
from stt.engine.recognizer import Interrupted
from stt.errors import AudioError, ModelError
from stt.events import Event, Final, Level, Problem
from stt.streaming.session import LiveSession
from stt.streaming.stream import Live, RecognizerLike, Source
from stt.transcript import Segment
from support.live_fakes import (
    RATE,
    Ears,
    Reader,
    Samples,
    assert_nothing_committed_changes,
    blocks,
    finals,
    pause,
    sound,
    spoken,
    text_of,
)

TWO = sound(spoken(3), pause(1.5), spoken(4), pause(1.5))


def live(source: Source, recognizer: RecognizerLike | None = None, rate: int = RATE) -> Live:
    return Live(source, recognizer or Reader(), rate, LiveSession(Ears()))


def threads() -> list[str]:
    """Names of the session's threads that do not end soon; nobody waits for them to."""
    own = [t for t in threading.enumerate() if t.name.startswith("stt-live")]
    deadline = time.monotonic() + 10
    for thread in own:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in own if thread.is_alive()]


def test_it_ends_when_the_source_does() -> None:
    events = list(live(blocks(TWO)))
    assert [final.text for final in finals(events)] == ["1 2 3", "1 2 3 4"]
    assert_nothing_committed_changes(events)
    assert not threads()
    assert text_of(live(blocks(sound(pause(1.0), spoken(3))))) == "1 2 3"
    assert list(live([])) == []


def test_jobs_given_up_cost_no_final() -> None:
    class Impatient(Reader):
        asked = 0

        def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
            self.asked += 1
            if self.asked % 2:
                raise Interrupted
            return super().recognize(batch)

    events = list(live(blocks(TWO), Impatient()))
    assert [final.text for final in finals(events)] == ["1 2 3", "1 2 3 4"]


def test_any_rate_is_resampled() -> None:
    at_48 = np.repeat(TWO, 3)
    events = list(live(blocks(at_48, 2400), rate=48_000))
    assert len(finals(events)) == 2
    ends = [final.speech_end for final in finals(live(blocks(TWO)))]
    assert [final.speech_end for final in finals(events)] == pytest.approx(ends, abs=0.04)


def test_an_error_of_the_source_comes_after_all_that_was_heard() -> None:
    def breaking() -> Iterator[Samples]:
        yield from blocks(sound(pause(1.0), spoken(3)))
        raise AudioError("unplugged")

    events: list[Event] = []
    with pytest.raises(AudioError, match="unplugged"):
        for event in live(breaking()):
            events.append(event)
    assert text_of(events) == "1 2 3"
    assert not threads()


def endless(samples: Samples) -> Iterator[Samples]:
    """Sound for ever, not faster than 200 times the speed of speech."""
    waits = threading.Event()
    while True:
        for block in blocks(samples):
            yield block
            waits.wait(0.00025)


class Broken(Reader):
    """Cannot go on: neither as a recogniser nor as a VAD."""

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        raise ModelError("NaN")

    def __call__(self, frames: Samples) -> Samples:
        raise RuntimeError("no ears")


@pytest.mark.timeout(60)
def test_an_error_of_the_recogniser_or_the_vad_ends_it_though_the_source_goes_on() -> None:
    with pytest.raises(ModelError, match="NaN"):
        list(live(endless(TWO), Broken()))
    assert not threads()
    with pytest.raises(RuntimeError, match="no ears"):
        list(Live(endless(TWO), Reader(), RATE, LiveSession(Broken())))
    assert not threads()


@pytest.mark.timeout(60)
def test_stop_finishes_what_is_being_said() -> None:
    going = live(endless(sound(pause(1.0), spoken(4), pause(1.5))))
    events = []
    for event in going:
        events.append(event)
        if len(finals(events)) == 2:
            going.stop()
    assert {f.text for f in finals(events)[:2]} == {"1 2 3 4"}
    assert not threads()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("leave", ["break", "with", "error"])
def test_leaving_the_loop_ends_the_threads(leave: str) -> None:
    going = live(endless(TWO))
    if leave == "break":
        for event in going:
            if isinstance(event, Final):
                break
    elif leave == "with":
        with going:
            assert next(iter(going))
    else:
        with pytest.raises(ZeroDivisionError), going:
            for event in going:
                raise ZeroDivisionError(event)
    ended()


@pytest.mark.timeout(60)
def test_an_abandoned_session_does_not_work_off_what_waits() -> None:
    """Nor does it wait for a source that gives nothing, such as a microphone without a device."""
    heard, release, plugged = threading.Event(), threading.Event(), threading.Event()

    class Slow(Reader):
        def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
            heard.set()
            release.wait()
            return super().recognize(batch)

    def silent_at_last() -> Iterator[Samples]:
        for _ in range(10):
            yield from blocks(TWO)
        plugged.wait()

    reader = Slow()
    going = live(silent_at_last(), reader)
    events = iter(going)
    next(events)
    heard.wait()
    going.abandon()
    release.set()
    list(events)
    assert len(reader.jobs) <= 4  # one batch at most, of ten times two
    plugged.set()
    ended()


def ended() -> None:
    """Wait for the session's threads; the test's timeout ends it."""
    while threads():
        time.sleep(0.01)


def test_problems_of_the_source_are_passed_on() -> None:
    problem = Problem(1.0, "quiet", "speak up")
    events = list(live([*blocks(sound(pause(1.0))), problem, *blocks(sound(pause(1.0)))]))
    assert [event for event in events if isinstance(event, Problem)] == [problem]


class FellBack(Reader):
    fallback = Fallback(0.5, "fp16", "NaN in the encoder output", "cpu")


def test_a_fallback_is_reported_once() -> None:
    (problem,) = (event for event in live(blocks(TWO), FellBack()) if isinstance(event, Problem))
    assert (problem.kind, problem.at) == ("fallback", 0.5)
    assert "goes on in fp32" in problem.message


@pytest.mark.parametrize("seconds", [0.1, 1.0, 5.0, 600.0])
def test_lost_samples_keep_the_times(seconds: float) -> None:
    before, after = sound(pause(1.0), spoken(3), pause(1.5)), sound(spoken(3), pause(1.5))
    lost = round(seconds * RATE)
    source = [
        Block(before, 0),
        Block(after, len(before) + lost, lost),
    ]
    one, two = finals(live(source))
    gap = two.segments[0].words[0].start - one.segments[0].words[-1].end
    assert gap == pytest.approx(1.5 + seconds, abs=0.05)


def test_sound_lost_while_somebody_speaks_ends_the_utterance_if_it_is_long() -> None:
    part = sound(spoken(3))
    source = [Block(part, 0), Block(part, 60 * RATE, 60 * RATE - len(part))]
    one, two = finals(live(source))
    assert one.end < 3.0
    assert two.speech_end == pytest.approx(60 + len(part) / RATE, abs=0.05)


def test_nan_in_the_sound_does_not_make_it_deaf() -> None:
    broken = TWO.copy()
    broken[100:110], broken[200] = np.nan, np.inf

    class Silero(Ears):
        """NaN stays in a recurrent network for ever."""

        deaf = False

        def __call__(self, frames: Samples) -> Samples:
            self.deaf |= not np.isfinite(frames).all()
            return (
                np.full(len(frames), np.nan, np.float32) if self.deaf else super().__call__(frames)
            )

    events = list(Live(blocks(broken), Reader(), RATE, LiveSession(Silero())))
    assert len(finals(events)) == 2


def test_a_caller_who_is_slow_loses_levels_only() -> None:
    slow: Any = live(blocks(np.tile(TWO, 8)))
    hold = threading.Event()
    events = []
    for event in slow:
        hold.wait(0.2 if not events else 0)
        events.append(event)
    assert len(finals(events)) == 16
    assert_nothing_committed_changes(events)
    assert any(isinstance(event, Level) for event in events)


def test_speech_that_is_not_english_is_reported_once() -> None:
    class Unsure(Reader):
        def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
            return [
                [replace(segment, confidence=0.2) for segment in segments]
                for segments in super().recognize(batch)
            ]

    def problems(*, english_only: bool) -> list[Problem]:
        session = LiveSession(Ears())
        source = blocks(np.tile(TWO, 8))
        going = Live(source, Unsure(), RATE, session, english_only=english_only)
        return [event for event in going if isinstance(event, Problem)]

    (problem,) = problems(english_only=True)
    assert problem.kind == "improbable"
    assert "stt setup" in problem.message
    assert problems(english_only=False) == []
