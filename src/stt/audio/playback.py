"""A recording in the microphone's place: the same blocks, at the speed of speech or at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace, TracebackType

from stt.audio.files import open_audio
from stt.audio.microphone import Block
from stt.events import Problem
from stt.system.files import printable
from stt.types import Samples

BLOCK_S = 0.05
"""Seconds in a block, as a microphone gives them."""


class Playback:
    """What `stt.audio.microphone.Microphone` is to `stt live`, of a file; a context manager."""

    recording = None
    """Nothing is recorded: the sound is in the file."""
    lost = 0

    def __init__(
        self,
        path: Path,
        *,
        real_time: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Choose the file; it is opened by `with`.

        Args:
            path: any recording that `stt transcribe` reads.
            real_time: give each block when it would have been spoken; else as fast as it is taken.
            clock: seconds of the wall clock.
        """
        self.path = path
        self.device = SimpleNamespace(name=printable(str(path)))
        self.damaged = False
        """Whether something of the file could not be read."""
        self._real_time, self._clock = real_time, clock
        self._stopping = threading.Event()
        self._stack = ExitStack()
        self._given = 0  # samples

    def __enter__(self) -> Playback:
        """Open the file.

        Raises:
            AudioError: it cannot be opened, or is no recording.
        """
        self._stream = self._stack.enter_context(open_audio(self.path, tolerant=True))
        self.rate = self._stream.sample_rate
        """Hz of the blocks."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()
        self._stack.close()

    def stop(self) -> None:
        """Give no more; for any thread or signal handler."""
        self._stopping.set()

    def keep_recording(self) -> None:
        """Do nothing: the file is there."""

    @property
    def seconds(self) -> float:
        """Seconds given so far."""
        return self._given / self.rate

    def blocks(self) -> Iterator[Block | Problem]:
        """Yield the file's sound, mono, and a Problem for each place that cannot be read.

        Raises:
            AudioError: there is no sound in it.
        """
        began = self._clock()
        for samples in self._pieces():
            at = None
            if self._real_time:
                at = began + (self._given + len(samples)) / self.rate
                self._stopping.wait(max(0.0, at - self._clock()))
            if self._stopping.is_set():
                return
            start, self._given = self._given, self._given + len(samples)
            yield Block(samples, start, at=at)
        for line in self._stream.damage.failures:
            self.damaged = True
            yield Problem(self.seconds, "damaged", f"{self.device.name}: {line}")
        for line in self._stream.damage.notes:
            yield Problem(self.seconds, "note", f"{self.device.name}: note: {line}")

    def _pieces(self) -> Iterator[Samples]:
        size = max(1, round(BLOCK_S * self.rate))
        for block in self._stream.blocks:
            for at in range(0, len(block), size):
                yield block[at : at + size]
