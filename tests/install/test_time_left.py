"""The time left follows what was measured."""

from __future__ import annotations

import pytest

from stt.install.installation import TimeLeft


def test_it_follows_the_measured_rate() -> None:
    left: list[float] = []
    clock = TimeLeft(left.append, {"load": 10.0})
    clock.plan({"load": 2.0, "speech": 100.0}, {"speech": 50.0})
    first = clock.seconds
    clock.did("speech", 50.0, 100.0)
    assert clock.seconds == pytest.approx(20 + 100 * 2)
    clock.did("load", 1.0, 1.0)
    assert clock.seconds == pytest.approx(1 + 100 * 2)
    assert left == pytest.approx([first, 220.0, 201.0])
    assert clock.rates == {"speech": 2.0, "load": 1.0}


def test_it_ends_at_nothing_even_where_more_was_done_than_planned() -> None:
    clock = TimeLeft(lambda _: None)
    clock.plan({"decode": 1.0})
    clock.did("decode", 3.0, 1.0)
    assert clock.seconds == 0


@pytest.mark.parametrize(
    ("seconds", "expected"), [(2, "5 s"), (44, "40 s"), (89, "90 s"), (200, "3 min")]
)
def test_people_are_told_a_round_figure(seconds: float, expected: str) -> None:
    clock = TimeLeft(lambda _: None, {"load": 1.0})
    clock.plan({"load": seconds})
    assert clock.rounded() == expected
