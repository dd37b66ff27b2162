"""The lock between processes: one at a time, no file left. The time left follows the machine."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from stt.install.installation import TimeLeft, exclusive


def count(folder: Path, times: int) -> None:
    """Add to a number in a file, which goes wrong when two do it at once."""
    for _ in range(times):
        with exclusive(folder / ".lock"):
            number = int((folder / "number").read_text())
            time.sleep(0.0005)
            (folder / "number").write_text(str(number + 1))


def test_one_process_at_a_time_though_the_file_is_deleted_each_time(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    counters = [context.Process(target=count, args=(tmp_path, 75)) for _ in range(4)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join(60)
    assert (tmp_path / "number").read_text() == "300"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_the_file_is_deleted_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / ".lock"):
        raise KeyError
    assert not any(tmp_path.iterdir())


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
