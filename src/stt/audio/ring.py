"""Between the sound system and recognition: a ring that never waits, a backlog that never drops."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Ring:
    """Bytes from one thread to one other without a lock: the sound system's thread never waits.

    Each side changes only its own position, after it has copied.
    """

    def __init__(self, size: int) -> None:
        """Make room for `size` bytes."""
        self._bytes: Bytes = np.zeros(size, np.uint8)
        self._size = size
        self._put = 0  # changed by `write` alone
        self._got = 0  # changed by `read` alone

    def __len__(self) -> int:
        return self._put - self._got

    def write(self, data: Bytes) -> bool:
        """Append uint8 [n]; False, and nothing is written, where there is no room."""
        count = len(data)
        if count > self._size - (self._put - self._got):
            return False
        start = self._put % self._size
        first = min(count, self._size - start)
        self._bytes[start : start + first] = data[:first]
        self._bytes[: count - first] = data[first:]
        self._put += count
        return True

    def read(self, count: int) -> Bytes:
        """Take the oldest `count` bytes, which must be there: uint8 [count], a copy."""
        start = self._got % self._size
        first = min(count, self._size - start)
        data = np.concatenate([self._bytes[start : start + first], self._bytes[: count - first]])
        self._got += count
        return data


class Backlog:
    """Samples that wait to be recognised: in memory, and beyond a limit in a temporary file.

    However far recognition falls behind, nothing is dropped and memory stays. Items are pairs
    (what, samples or None); one thread puts, another gets.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        """Keep up to `limit` samples in memory, the rest in a file in `folder`."""
        self._limit, self._folder = limit, folder
        self._items: deque[tuple[Any, Samples | int | None]] = deque()  # int: samples in the file
        self._there = threading.Condition()
        self._file: IO[bytes] | None = None
        self._read_at = self._write_at = 0
        self._in_memory = 0
        self.samples = 0
        """How many samples wait."""

    def put(self, what: object, samples: Samples | None = None) -> None:
        """Append an item; `samples` float32 [n]."""
        with self._there:
            held: Samples | int | None = samples
            if samples is not None:
                self.samples += len(samples)
                if self._in_memory + len(samples) > self._limit and self._spill(samples):
                    held = len(samples)
                else:
                    self._in_memory += len(samples)
            self._items.append((what, held))
            self._there.notify()

    def get(self, timeout: float) -> tuple[Any, Samples | None] | None:
        """Take the oldest item; None when there is none for `timeout` seconds."""
        with self._there:
            if not self._items and not self._there.wait_for(lambda: self._items, timeout):
                return None
            what, held = self._items.popleft()
            if isinstance(held, int):
                samples: Samples | None = self._unspill(held)
            else:
                samples = held
                self._in_memory -= 0 if held is None else len(held)
            self.samples -= 0 if samples is None else len(samples)
            return what, samples

    def close(self) -> None:
        """Delete the file and forget what waits; `get` finds the end (None, None) from now on."""
        with self._there:
            self._items.clear()
            self._items.append((None, None))
            self.samples = self._in_memory = 0
            if self._file is not None:
                self._file.close()
                self._file = None

    def _spill(self, samples: Samples) -> bool:
        """Append to the file; False where the disk refuses, and memory must do."""
        try:
            if self._file is None:
                # buffering=0: what the disk refuses is known at once
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - `close`
            self._file.seek(self._write_at)
            whole = self._file.write(samples.tobytes()) == samples.nbytes
        except OSError:
            return False
        self._write_at += samples.nbytes if whole else 0
        return whole

    def _unspill(self, count: int) -> Samples:
        assert self._file is not None
        self._file.seek(self._read_at)
        samples = np.frombuffer(self._file.read(4 * count), np.float32)
        self._read_at += 4 * count
        if self._read_at == self._write_at:  # caught up: give the disk back
            self._read_at = self._write_at = 0
            self._file.truncate(0)
        return samples
