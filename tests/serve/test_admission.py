"""The queue, in seconds of audio, on a clock of its own."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from stt.serve.admission import Admission
from stt.serve.problems import Problem
from stt.serve.scheduler import Priority


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_waits_longer_than_allowed_is_refused_until_it_is_less() -> None:
    clock = Clock()
    admission = Admission(60, clock)
    with ExitStack() as stack:
        ticket = stack.enter_context(admission.admitted(Priority.FILE, 1000, speed=10))
        assert admission.waiting_s() == 1000
        with pytest.raises(Problem) as raised, admission.admitted(Priority.FILE, 1, speed=10):
            pass
        assert raised.value.status == 429
        assert raised.value.headers == {"retry-after": "40"}  # 100 s of work, 60 are allowed
        with admission.admitted(Priority.COMMAND, 1, speed=10):  # comes before it
            assert admission.waiting_s() == 1001
        clock.now += 20
        ticket.heard(500)  # 25 a second, and that is measured now
        assert admission.speed() == pytest.approx(25, rel=0.2)
        with admission.admitted(Priority.FILE, 1, speed=10):
            pass
    assert admission.waiting_s() == 0


def test_commands_wait_for_commands() -> None:
    admission = Admission(1, Clock())
    with (
        admission.admitted(Priority.COMMAND, 30, speed=10),
        pytest.raises(Problem),
        admission.admitted(Priority.COMMAND, 1, speed=10),
    ):
        pass


def test_whoever_fails_or_leaves_waits_no_more() -> None:
    admission = Admission(1, Clock())
    with pytest.raises(KeyError), admission.admitted(Priority.FILE, 1e6, speed=1):
        raise KeyError
    with admission.admitted(Priority.FILE, 1, speed=1):
        pass


def test_a_header_that_lies_leaves_no_negative_time() -> None:
    admission = Admission(1, Clock())
    with admission.admitted(Priority.FILE, 10, speed=1) as ticket:
        ticket.heard(50)
        ticket.heard(40)
        assert admission.waiting_s() == 0


def test_idle_time_does_not_count_for_speed_and_old_speed_fades() -> None:
    clock = Clock()
    admission = Admission(1e9, clock)
    assert admission.speed() is None

    def run(audio_s: float, took_s: float) -> None:
        with admission.admitted(Priority.FILE, audio_s, speed=1) as ticket:
            clock.now += took_s
            ticket.heard(audio_s)

    run(1000, 10)
    clock.now += 10_000
    assert admission.speed() == pytest.approx(100, rel=0.01)
    for _ in range(60):
        run(100, 10)
    assert admission.speed() == pytest.approx(10, rel=0.05)
