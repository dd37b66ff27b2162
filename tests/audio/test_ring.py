"""The ring gives back its bytes in order; the backlog drops nothing, whatever its limit."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.capture import Backlog, Ring


def taken(backlog: Backlog) -> tuple[object, list[float] | None]:
    item = backlog.get(timeout=5)
    assert item is not None
    what, samples = item
    return what, None if samples is None else samples.tolist()


# --- the ring --------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60),
)
def test_any_writes_and_reads_give_the_bytes_back_in_order(
    size: int, steps: list[tuple[bool, int]]
) -> None:
    ring, inside, following = Ring(size), b"", 0
    for writes, count in steps:
        if writes:
            data = bytes((following + k) % 251 for k in range(count))
            fits = len(inside) + count <= size
            assert ring.write(np.frombuffer(data, np.uint8)) == fits
            if fits:
                inside, following = inside + data, following + count
        else:
            there = min(count, len(inside))
            assert ring.read(there).tobytes() == inside[:there]
            inside = inside[there:]
        assert len(ring) == len(inside)


def test_a_write_that_does_not_fit_leaves_the_ring_as_it_was() -> None:
    ring = Ring(5)
    assert ring.write(np.array([1, 2, 3], np.uint8))
    assert not ring.write(np.array([4, 5, 6], np.uint8))
    assert ring.write(np.array([7, 8], np.uint8))
    assert ring.read(5).tolist() == [1, 2, 3, 7, 8]


def test_what_was_read_is_a_copy() -> None:
    ring = Ring(4)
    ring.write(np.array([1, 2, 3, 4], np.uint8))
    data = ring.read(4)
    ring.write(np.array([9, 9, 9, 9], np.uint8))
    assert data.tolist() == [1, 2, 3, 4]


def test_two_threads_at_once_neither_lose_nor_mix_bytes() -> None:
    ring, sent = Ring(1_000), np.random.default_rng(1).integers(0, 256, 300_000, np.uint8)
    wait = threading.Event()  # never set: lets the other thread run

    def write() -> None:
        for part in np.array_split(sent, 1_500):
            while not ring.write(part):
                wait.wait(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    got: list[bytes] = []
    while sum(map(len, got)) < len(sent):
        if not len(ring):
            wait.wait(0.0005)
        got.append(ring.read(len(ring)).tobytes())
    writer.join()
    assert b"".join(got) == sent.tobytes()


# --- the backlog -----------------------------------------------------------------------------


@settings(deadline=None)
@given(
    limit=st.integers(0, 30),
    steps=st.lists(st.one_of(st.none(), st.integers(0, 12), st.just("told")), max_size=60),
)
def test_nothing_is_dropped_and_order_is_kept_whatever_the_limit(
    limit: int, steps: list[int | str | None]
) -> None:
    backlog, waiting, following = Backlog(limit), deque[tuple[object, list[float] | None]](), 0
    for number, step in enumerate(steps):
        if step is None:  # take one
            if waiting:
                assert taken(backlog) == waiting.popleft()
        elif isinstance(step, str):
            backlog.put(step)
            waiting.append((step, None))
        else:
            samples = np.arange(following, following + step, dtype=np.float32)
            following += step
            backlog.put(number, samples)
            waiting.append((number, samples.tolist()))
        assert backlog.samples == sum(len(held) for _, held in waiting if held is not None)
    while waiting:
        assert taken(backlog) == waiting.popleft()
    assert backlog.get(timeout=0) is None
    backlog.close()


def test_memory_stays_while_a_slow_consumer_falls_behind(tmp_path: Path) -> None:
    import tracemalloc

    backlog, block = Backlog(10_000, tmp_path), np.ones(1_000, np.float32)
    for number in range(20):
        backlog.put(number, block.copy())
    tracemalloc.start()
    for number in range(20, 2_020):  # 8 MB
        backlog.put(number, block.copy())
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000
    assert backlog.samples == 2_020_000
    assert [taken(backlog)[0] for _ in range(2_020)] == list(range(2_020))
    backlog.close()


def test_the_file_is_given_back_when_the_consumer_has_caught_up(tmp_path: Path) -> None:
    backlog = Backlog(0, tmp_path)
    for _ in range(3):
        backlog.put("a", np.ones(100, np.float32))
        backlog.put("b", np.ones(100, np.float32))
        assert [taken(backlog)[0], taken(backlog)[0]] == ["a", "b"]
        assert backlog._file is not None and backlog._file.seek(0, 2) == 0
    backlog.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_does_where_the_disk_refuses(tmp_path: Path) -> None:
    backlog = Backlog(2, tmp_path / "not there")
    for number in range(5):
        backlog.put(number, np.full(3, number, np.float32))
    assert [taken(backlog) for _ in range(5)] == [(n, [float(n)] * 3) for n in range(5)]


class FullDisk:
    """A file that takes `room` bytes, and of the write beyond them a part."""

    def __init__(self, real: object, room: int) -> None:
        self._real, self._room = real, room

    def write(self, data: bytes) -> int:
        part = data[: max(0, self._room)]
        self._room -= len(part)
        return int(self._real.write(part))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_a_disk_that_takes_half_a_block_spoils_nothing(tmp_path: Path) -> None:
    backlog = Backlog(0, tmp_path)
    backlog.put(0, np.full(4, 0, np.float32))
    backlog._file = FullDisk(backlog._file, room=24)  # type: ignore[assignment]
    for number in range(1, 5):
        backlog.put(number, np.full(4, number, np.float32))
    assert [taken(backlog) for _ in range(5)] == [(n, [float(n)] * 4) for n in range(5)]
    backlog.close()


def test_get_wakes_for_what_another_thread_puts() -> None:
    backlog = Backlog(10)
    threading.Timer(0.05, backlog.put, ["late"]).start()
    assert backlog.get(timeout=30) == ("late", None)


@pytest.mark.parametrize("limit", [0, 100])
def test_closed_it_gives_the_end_and_nothing_else(limit: int) -> None:
    backlog = Backlog(limit)
    backlog.put("waits", np.ones(5, np.float32))
    backlog.close()
    assert backlog.get(timeout=0) == (None, None)
    assert backlog.samples == 0
