"""One stream of PortAudio's: the formats to try, the callback, and its bytes as mono sound.

Between the sound system and recognition lie a queue that never waits and a backlog that drops
nothing.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stt.audio.devices import RATES, Device, portaudio_text, stream_open
from stt.errors import AudioError
from stt.system.files import printable
from stt.types import SAMPLE_RATE, Samples


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
        self.in_memory = 0
        """How many of them are in memory: more than the limit where the disk refuses."""
        self.samples = 0
        """How many samples wait."""

    def put(self, what: object, samples: Samples | None = None) -> None:
        """Append an item; `samples` float32 [n]."""
        with self._there:
            held: Samples | int | None = samples
            if samples is not None:
                self.samples += len(samples)
                if self.in_memory + len(samples) > self._limit and self._spill(samples):
                    held = len(samples)
                else:
                    self.in_memory += len(samples)
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
                self.in_memory -= 0 if held is None else len(held)
            self.samples -= 0 if samples is None else len(samples)
            return what, samples

    def close(self) -> None:
        """Delete the file and forget what waits; `get` finds the end (None, None) from now on."""
        with self._there:
            self._items.clear()
            self._items.append((None, None))
            self.samples = self.in_memory = 0
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


QUEUE_S = 30.0
"""Seconds the callback may run ahead of the pump."""
LATENCY_S = 0.2
"""Seconds the sound system may buffer: long enough for a busy interpreter, short beside a word."""
_DTYPES = ("float32", "int16", "int32", "int24")
"""Sample formats in the order they are tried."""
_GONE = (-9985, -9996)
"""PortAudio's codes for a device that is busy or gone: no other format will help."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a device is opened."""

    rate: int
    """Hz."""
    channels: int
    dtype: str
    """float32, int16, int32 or int24."""


def formats(device: Device, rate: int | None = None) -> Iterator[Format]:
    """Yield formats to try, best first: `rate` or the native one, float, mono.

    PortAudio or the sound system converts where it can, so nearly always the first will do. Mono
    comes first because virtual devices claim 32 channels and mix them well themselves.
    """
    first = [device.default_rate] if rate is None else [rate, device.default_rate]
    others = sorted(
        RATES, key=lambda other: (other < SAMPLE_RATE, abs(other - device.default_rate))
    )
    channels = [count for count in (1, 2) if count <= device.max_channels]
    if device.max_channels > 2:
        channels.append(device.max_channels)
    for each in dict.fromkeys([*first, *others]):
        for dtype in _DTYPES:
            for count in channels:
                yield Format(each, count, dtype)


def to_mono(data: bytes, dtype: str, channels: int) -> Samples:
    """Return captured bytes as float32 [n] mono, full scale ±1.

    The mean of the channels: a voice on one of two comes out 6 dB lower, which the models do not
    mind, while a choice of channel by level would jump about.
    """
    if dtype == "int24":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)  # low byte first
        data, dtype = wide.tobytes(), "int32"
    values: Samples = np.frombuffer(data, dtype)
    if dtype != "float32":
        values = (values / (2.0**15 if dtype == "int16" else 2.0**31)).astype(np.float32)
    if channels > 1:
        values = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


class _Captured(NamedTuple):
    """What one callback brought."""

    data: bytes
    at: float
    """Seconds of the wall clock."""
    dropped: int
    """Frames before these for which there was no room."""
    overflowed: bool
    """Whether PortAudio says that it lost some."""


class Chunk(NamedTuple):
    """A callback's frames as sound at the microphone's rate."""

    samples: Samples
    at: float
    dropped: int
    overflowed: bool


class Capture:
    """One open stream, from the callback to mono sound."""

    def __init__(
        self,
        sd: Any,
        device: Device,
        wanted: Format,
        rate: int | None,
        clock: Callable[[], float],
    ) -> None:
        """Open and start; `rate`: Hz to resample to, None for the stream's own.

        Raises:
            sd.PortAudioError, ValueError: the device does not take this format.
        """
        self.format = wanted
        self._clock = clock
        self._captured: deque[_Captured] = deque()  # one thread appends, one other takes: no lock
        self._room = round(QUEUE_S * wanted.rate)  # frames
        self._put = 0  # frames, changed by `_callback` alone
        self._got = 0  # frames, changed by `take` alone
        self._dropped = 0
        self._ended = threading.Event()
        self._closed = False
        self._scale = 1.0 if rate is None else rate / wanted.rate
        self._resampler = None
        if rate not in (None, wanted.rate):
            import soxr

            self._resampler = soxr.ResampleStream(wanted.rate, rate, 1, dtype="float32")
        with ExitStack() as stack:
            stack.enter_context(stream_open())  # from before it opens until after it is closed
            self._stream = sd.RawInputStream(
                device=device.index,
                samplerate=wanted.rate,
                channels=wanted.channels,
                dtype=wanted.dtype,
                latency=LATENCY_S,
                callback=self._callback,
                finished_callback=self._ended.set,
            )
            # a device may go while it is closed: there is nothing left to lose then
            stack.callback(self._stream.close, ignore_errors=True)
            self._stream.start()
            self._open = stack.pop_all()

    def _callback(self, data: Any, frames: int, _time: Any, status: Any) -> None:
        """Copy; called by PortAudio in its own thread, which must not wait."""
        at = self._clock()
        if self._put + frames - self._got > self._room:
            self._dropped += frames
            return
        overflowed = bool(status.input_overflow)
        self._captured.append(_Captured(bytes(data), at, self._dropped, overflowed))
        self._put += frames
        self._dropped = 0

    @property
    def ended(self) -> bool:
        """Whether the stream has ended by itself."""
        return self._ended.is_set()

    def take(self) -> list[Chunk]:
        """Return what came since the last call; after `close`, all that is left."""
        chunks = []
        for _ in range(len(self._captured)):
            data, at, dropped, overflowed = self._captured.popleft()
            samples = to_mono(data, self.format.dtype, self.format.channels)
            self._got += len(samples)
            if self._resampler is not None:
                samples = self._resampler.resample_chunk(samples)
            chunks.append(Chunk(samples, at, round(dropped * self._scale), overflowed))
        if self._closed and self._resampler is not None:  # it holds back up to 0.14 s
            rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            self._resampler = None
            if len(rest):  # none where the device has given nothing
                chunks.append(Chunk(rest, self._clock(), 0, False))
        return chunks

    def close(self) -> None:
        """Stop and close the stream; may be called twice."""
        self._open.close()
        self._closed = True


def open_capture(sd: Any, device: Device, rate: int | None, clock: Callable[[], float]) -> Capture:
    """Open a device in the first format it takes; blocks come at `rate`, None: its own.

    Raises:
        AudioError: it takes none.
    """
    reason = "it accepts no format"
    for wanted in formats(device, rate):
        try:
            return Capture(sd, device, wanted, rate, clock)
        except (sd.PortAudioError, ValueError) as error:
            reason = portaudio_text(error)
            if len(error.args) > 1 and error.args[1] in _GONE:
                break
    raise AudioError(
        f"the microphone '{printable(device.name)}' cannot be opened ({reason}); close "
        "other programs that use it, allow access to it, or choose another: `stt devices`"
    )
