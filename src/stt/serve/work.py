"""A recording under way: a thread that transcribes it, its steps for the event loop."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from stt.audio import files
from stt.audio.selection import ALL_OF_IT, Selection, clock
from stt.audio.stream import RawAudio
from stt.errors import AudioError
from stt.pipeline import Step
from stt.serve.engine import Engine
from stt.serve.scheduler import LONGEST_COMMAND_S, Priority, Turn
from stt.text.transcript import Transcript
from stt.transcriber import TranscriptBuilder

_READERS = {Priority.LIVE: 8, Priority.COMMAND: 64, Priority.FILE: 16}
"""Recordings read at a time: a short one never waits for a place among the long ones."""


class TooLong(AudioError):  # noqa: N818 - says what it is
    """A recording has more seconds than are taken."""

    def __init__(self, name: str, most_s: float) -> None:
        super().__init__(f"{name}: is longer than {clock(most_s)}, the most that is taken here")


class Readers:
    """Threads that read recordings."""

    def __init__(self) -> None:
        self._pools = {
            priority: ThreadPoolExecutor(most, f"stt-{priority.name.lower()}")
            for priority, most in _READERS.items()
        }

    def of(self, priority: Priority) -> ThreadPoolExecutor:
        """Return those for recordings of this priority."""
        return self._pools[priority]

    def close(self) -> None:
        """Begin no more; those at work end by themselves."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that somebody wants transcribed."""

    sound: Path | RawAudio
    name: str
    """As the client calls it."""
    priority: Priority
    most_s: float = math.inf
    """Seconds of it that are taken; where there are more, nothing of it is."""
    selection: Selection = ALL_OF_IT


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a recording, and its seconds where known."""

    step: Step
    duration: float | None


_Item: TypeAlias = "Progress | Transcript | Exception"


class Work:
    """One recording's way through the engine: `async with`, then `async for` once.

    Left early, it stops: what has not begun of it is taken back, and no more than the utterances
    under way are finished. When the block has been left, nothing reads the file any more.
    """

    def __init__(self, engine: Engine, recording: Recording, readers: Readers) -> None:
        """`readers` are those of all requests."""
        self._engine, self._recording, self._readers = engine, recording, readers
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: Future[None] | None = None
        self._left = threading.Event()
        self._turn: Turn | None = None

    async def __aenter__(self) -> Work:
        self._loop = asyncio.get_running_loop()
        self._reading = self._readers.of(self._recording.priority).submit(self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._left.set()
        if self._turn is not None:
            self._turn.withdraw()
        reading = self._reading
        if reading is not None and not reading.cancel():
            # also where the request itself was cancelled: its file is deleted next
            await asyncio.shield(asyncio.wrap_future(reading))

    async def __aiter__(self) -> AsyncIterator[Progress | Transcript]:
        """Yield what is found, step by step, and the transcript in the end.

        Raises:
            AudioError: nothing of the recording can be read.
            ModelError: the model cannot be loaded, or gives nothing usable.
        """
        while True:
            item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Transcript):
                return

    async def soon(self, timeout_s: float) -> Progress | Transcript | None:
        """Wait for the next, at most so long; None: there is none yet. Raises as iterating does."""
        try:
            item = await asyncio.wait_for(self._items.get(), timeout_s)
        except asyncio.TimeoutError:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    async def transcript(
        self, note: Callable[[Progress | Transcript], None] = lambda _: None
    ) -> Transcript:
        """Wait for the transcript, having each step noted, and it; raises as iterating does."""
        async for item in self:
            note(item)
            if isinstance(item, Transcript):
                return item
        raise AssertionError("the last item is the transcript")

    # --- the reading thread -----------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._transcribe()
        except CancelledError:  # it was left
            pass
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._tell(error)

    def _transcribe(self) -> None:
        recording = self._recording
        with self._engine.lent(recording.priority) as (transcriber, turn):
            self._turn = turn
            if self._left.is_set():
                return
            hearing = replace(transcriber, selection=recording.selection)
            builder = TranscriptBuilder(
                hearing.model, hearing.choice, recording.selection, hearing.language
            )
            sound = recording.sound
            named = files.Recording(recording.name, sound) if isinstance(sound, Path) else sound
            with closing(hearing.steps(named)) as steps:
                for step, duration in steps:
                    builder.take(step)
                    self._judge(step, turn)
                    self._tell(Progress(step.overall(duration), duration))
                    if self._left.is_set():
                        return
            self._tell(builder.transcript(recording.name))

    def _judge(self, step: Step, turn: Turn) -> None:
        """Believe what is heard, not what the file's header said."""
        recording = self._recording
        if step.heard > recording.most_s:
            raise TooLong(recording.name, recording.most_s)
        if step.heard > LONGEST_COMMAND_S and recording.priority is Priority.COMMAND:
            turn.demote(Priority.FILE)

    def _tell(self, item: _Item) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
