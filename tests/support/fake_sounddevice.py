"""The module `sounddevice` without a sound card: what a test puts in comes out of the callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BYTES = {"float32": 4, "int16": 2, "int32": 4, "int24": 3}
UNAVAILABLE, BAD_RATE, NOT_INITIALIZED = -9985, -9997, -10000


class PortAudioError(Exception):
    """As sounddevice has it: text, code, (host API, code, text)."""


class Flags(NamedTuple):
    """The callback's `status`."""

    input_overflow: bool = False


def encode(values: npt.NDArray[Any], dtype: str) -> bytes:
    """Float [n] or [n, channels], full scale ±1, as the bytes a device would give."""
    if dtype == "float32":
        return values.astype("<f4").tobytes()
    bits = 8 * BYTES[dtype]
    scaled = np.clip(np.round(values * 2.0 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if dtype == "int24":
        return scaled.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    return scaled.astype(f"<i{bits // 8}").tobytes()


class Stream:
    """An open RawInputStream; `feed` plays PortAudio's thread."""

    def __init__(self, sd: FakeSounddevice, **asked: Any) -> None:
        self.asked = asked
        self.rate, self.channels = asked["samplerate"], asked["channels"]
        self.dtype: str = asked["dtype"]
        self.running = self.closed = False
        self._sd = sd

    def start(self) -> None:
        if self._sd.fails_to_start:
            raise PortAudioError("Error starting stream", UNAVAILABLE)
        self.running = True

    def close(self, ignore_errors: bool = True) -> None:
        assert not self.closed, "PortAudio would use freed memory"
        assert self._sd.initialised, "PortAudio would use freed memory"
        self.closed, self.running = True, False
        self.asked["finished_callback"]()

    def feed(self, values: npt.NDArray[Any], *, overflow: bool = False) -> None:
        """Give float [n] on all channels, or [n, channels], to the callback."""
        assert self.running
        if values.ndim == 1:
            values = np.repeat(values[:, None], self.channels, axis=1)
        data = bytearray(encode(values, self.dtype))
        self.asked["callback"](memoryview(data), len(values), None, Flags(overflow))
        data[:] = b"\xaa" * len(data)  # PortAudio uses its buffer again

    def end(self) -> None:
        """Stop by itself, as when the device is unplugged."""
        self.running = False
        self.asked["finished_callback"]()


class FakeSounddevice:
    """Devices as a list that a test may change; what `sounddevice` has been asked for."""

    PortAudioError = PortAudioError

    def __init__(self, *names: str, default: int | None = 0) -> None:
        self.apis = ["ALSA"]
        self.devices = [entry(name) for name in names or ("desk mic",)]
        self.default = default
        self.accepts: Callable[[dict[str, Any]], bool] = lambda asked: True
        self.refusal = PortAudioError("Error opening RawInputStream: Invalid sample rate", BAD_RATE)
        self.fails_to_start = False
        self.fails_to_initialise = False
        self.initialised = True
        self.scans = 0
        self.streams: list[Stream] = []
        self.tried: list[tuple[int, int, str]] = []

    @property
    def stream(self) -> Stream:
        """The last one opened."""
        return self.streams[-1]

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": name} for name in self.apis]

    def query_devices(self, kind: str | None = None) -> Any:
        if not self.initialised:
            raise PortAudioError("PortAudio not initialized", NOT_INITIALIZED)
        listed = [each | {"index": index} for index, each in enumerate(self.devices)]
        if kind is None:
            return listed
        if self.default is None or self.default >= len(listed):
            raise PortAudioError("Error querying device -1")
        return listed[self.default]

    def check_input_settings(self, **asked: Any) -> None:
        if not self.accepts(asked):
            raise self.refusal

    def RawInputStream(self, **asked: Any) -> Stream:  # noqa: N802 - sounddevice's name
        self.tried.append((asked["samplerate"], asked["channels"], asked["dtype"]))
        if not self.accepts(asked):
            raise self.refusal
        self.streams.append(Stream(self, **asked))
        return self.stream

    def _terminate(self) -> None:
        if not self.initialised:
            raise PortAudioError("PortAudio not initialized", NOT_INITIALIZED)
        assert all(stream.closed for stream in self.streams), "it would close them under our feet"
        self.initialised = False

    def _initialize(self) -> None:
        if self.fails_to_initialise:
            raise PortAudioError("Error initializing PortAudio: Unanticipated host error", -9999)
        self.initialised = True
        self.scans += 1


def entry(name: str, *, api: int = 0, channels: int = 2, rate: float = 48_000.0) -> dict[str, Any]:
    """A device as PortAudio lists it."""
    return {
        "name": name,
        "hostapi": api,
        "max_input_channels": channels,
        "max_output_channels": 0,
        "default_samplerate": rate,
    }
