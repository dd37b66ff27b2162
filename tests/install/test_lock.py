"""The lock between processes: one at a time, and no file left."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from stt.install.installation import exclusive


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
    counters = [context.Process(target=count, args=(tmp_path, 100)) for _ in range(4)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join(60)
    assert (tmp_path / "number").read_text() == "400"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_the_file_is_deleted_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / ".lock"):
        raise KeyError
    assert not any(tmp_path.iterdir())
