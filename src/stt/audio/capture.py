"""One stream of PortAudio's: the formats to try, the callback, and its bytes as mono sound.

Between the sound system and recognition lie a ring that never waits and a backlog that never drops.
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
import numpy.typing as npt

from stt.audio.devices import RATES, Device, portaudio_text, stream_open
from stt.errors import AudioError
from stt.system.files import printable
from stt.types import Samples

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


RING_S = 30.0
"""Seconds the callback may run ahead of the pump."""
LATENCY_S = 0.2
"""Seconds the sound system may buffer: long enough for a busy interpreter, short beside a word."""
_DTYPES = {"float32": 4, "int16": 2, "int32": 4, "int24": 3}
"""Sample formats in the order they are tried, with their bytes."""
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

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * _DTYPES[self.dtype]


def formats(device: Device, rate: int | None = None) -> Iterator[Format]:
    """Yield formats to try, best first: `rate` or the native one, float, mono.

    PortAudio or the sound system converts where it can, so nearly always the first will do. Mono
    comes first because virtual devices claim 32 channels and mix them well themselves.
    """
    first = [device.default_rate] if rate is None else [rate, device.default_rate]
    others = sorted(RATES, key=lambda other: (other < 16_000, abs(other - device.default_rate)))
    channels = [count for count in (1, 2) if count <= device.max_channels]
    if device.max_channels > 2:
        channels.append(device.max_channels)
    for each in dict.fromkeys([*first, *others]):
        for dtype in _DTYPES:
            for count in channels:
                yield Format(each, count, dtype)


def to_mono(data: npt.NDArray[np.uint8], dtype: str, channels: int) -> Samples:
    """Return captured bytes as float32 [n] mono, full scale ±1.

    The mean of the channels: a voice on one of two comes out 6 dB lower, which the models do not
    mind, while a choice of channel by level would jump about.
    """
    if dtype == "float32":
        values: Samples = data.view(np.float32)
    elif dtype == "int16":
        values = data.view(np.int16).astype(np.float32) / np.float32(2**15)
    elif dtype == "int32":
        values = (data.view(np.int32) / 2.0**31).astype(np.float32)
    else:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = data.reshape(-1, 3)  # the upper bytes of 32 bits, low byte first
        values = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    if channels > 1:
        values = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


class _Mark(NamedTuple):
    """What one callback brought."""

    frames: int
    at: float
    """Seconds of the wall clock."""
    dropped: int
    """Frames before these for which the ring had no room."""
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
        self._ring = Ring(round(RING_S * wanted.rate) * wanted.frame_bytes)
        self._marks: deque[_Mark] = deque()
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
        if self._ring.write(np.frombuffer(data, np.uint8)):
            overflowed = bool(status.input_overflow)
            self._marks.append(_Mark(frames, at, self._dropped, overflowed))
            self._dropped = 0
        else:
            self._dropped += frames

    @property
    def ended(self) -> bool:
        """Whether the stream has ended by itself."""
        return self._ended.is_set()

    def take(self) -> list[Chunk]:
        """Return what came since the last call; after `close`, all that is left."""
        chunks = []
        for _ in range(len(self._marks)):
            mark = self._marks.popleft()
            data = self._ring.read(mark.frames * self.format.frame_bytes)
            samples = to_mono(data, self.format.dtype, self.format.channels)
            if self._resampler is not None:
                samples = self._resampler.resample_chunk(samples)
            dropped = round(mark.dropped * self._scale)
            chunks.append(Chunk(samples, mark.at, dropped, mark.overflowed))
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
