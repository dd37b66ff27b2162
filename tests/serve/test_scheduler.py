from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.serve.scheduler import Priority, Scheduler


@given(st.lists(st.sampled_from(Priority), max_size=20))
def test_the_most_urgent_is_next_and_within_one_kind_the_first(kinds: list[Priority]) -> None:
    done: list[tuple[Priority, int]] = []
    gate = threading.Event()
    with Scheduler(1) as scheduler:
        begun = threading.Event()
        first = scheduler.submit(Priority.FILE, lambda: (begun.set(), gate.wait(10)))
        assert begun.wait(10)
        futures = [
            scheduler.turn(kind).submit(done.append, (kind, number))
            for number, kind in enumerate(kinds)
        ]
        assert scheduler.waiting == len(kinds)
        gate.set()
        first.result(10)
        for future in futures:
            future.result(10)
    assert done == sorted((kind, number) for number, kind in enumerate(kinds))


def test_who_leaves_takes_back_what_has_not_begun_and_the_others_go_on() -> None:
    gate, begun = threading.Event(), threading.Event()
    done: list[str] = []
    with Scheduler(1) as scheduler:
        leaver, other = scheduler.turn(Priority.COMMAND), scheduler.turn(Priority.FILE)
        under_way = leaver.submit(lambda: (begun.set(), gate.wait(10), done.append("under way")))
        assert begun.wait(10)
        waiting = leaver.submit(done.append, "never")
        later = other.submit(done.append, "other")
        leaver.withdraw()
        assert scheduler.waiting == 1
        with pytest.raises(CancelledError):
            waiting.result(10)
        with pytest.raises(CancelledError):
            leaver.submit(done.append, "nor this")
        gate.set()
        under_way.result(10)
        later.result(10)
    assert done == ["under way", "other"]


def test_an_error_is_the_callers_alone() -> None:
    with Scheduler(1) as scheduler:
        turn = scheduler.turn(Priority.LIVE)
        failing = turn.submit(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failing.result(10)
        assert turn.submit(lambda: 5).result(10) == 5


def test_at_the_end_what_waits_is_cancelled_and_what_runs_is_finished() -> None:
    gate, begun = threading.Event(), threading.Event()
    scheduler = Scheduler(1)
    running = scheduler.submit(Priority.FILE, lambda: (begun.set(), gate.wait(10), "done")[-1])
    assert begun.wait(10)
    waiting = scheduler.submit(Priority.LIVE, lambda: None)
    assert scheduler.oldest_s >= 0
    threading.Timer(0.05, gate.set).start()
    scheduler.close()
    assert running.result(0) == "done"
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        scheduler.submit(Priority.LIVE, lambda: None)
