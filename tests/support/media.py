"""Recordings made on the spot, with soundfile and PyAV alone."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from stt.types import Samples


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Samples:
    """A sine at half of full scale."""
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * hertz * time), np.float32)


def click(at: float, seconds: float, rate: int = 48_000) -> Samples:
    """Silence with 5 ms of a tone."""
    samples = np.zeros(round(seconds * rate), np.float32)
    start = round(at * rate)
    samples[start : start + rate // 200] = tone(0.005, rate, 3000.0)
    return samples


def loudest(samples: Samples, rate: int) -> float:
    """Seconds at which the energy lies."""
    power = samples.astype(np.float64) ** 2
    return float((np.arange(len(power)) * power).sum() / power.sum() / rate)


def wav(
    samples: Samples,
    rate: int,
    *,
    riff: int | None = None,
    data: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A 16-bit mono wav with sizes and chunks of one's choice."""
    body = np.asarray(samples * 32767, "<i2").tobytes()
    said = len(body) if data is None else data
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    rest = b"WAVEfmt \x10\0\0\0" + form + before + b"data" + struct.pack("<I", said) + body + after
    return b"RIFF" + struct.pack("<I", len(rest) if riff is None else riff) + rest


class _Pipe(io.RawIOBase):
    """A file that cannot be sought in, so that a muxer leaves sizes and durations open."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)

    def writable(self) -> bool:
        return True


def encode(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str,
    *,
    video: bool = False,
    late: float = 0.0,
    form: str | None = None,
    piped: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write float32 [n] or [n, channels] with PyAV, the sound beginning `late` seconds."""
    if codec == "soundfile":  # PyAV's wheels cannot write Vorbis
        return write(path, samples, rate)
    planes = np.atleast_2d(samples.T)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(planes)]
    target: Any = _Pipe() if piped else str(path)
    with av.open(target, "w", format=form, options=options or {}) as out:
        sound: Any = out.add_stream(codec, rate=rate, layout=layout)
        if codec == "wavpack":
            sound.format = "fltp"  # PyAV takes the first it knows: 8 bits
        if codec == "wmav2":
            sound.bit_rate = 128_000  # has no default
        if video:
            _add_picture(out, len(samples) / rate + late)
        resampler = av.AudioResampler(format=sound.format.name, layout=layout, rate=rate)
        for start in range(0, planes.shape[1], 1024):
            part = np.ascontiguousarray(planes[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for ready in resampler.resample(frame):
                _mux(out, sound, ready, late)
        for ready in resampler.resample(None):
            _mux(out, sound, ready, late)
        _mux(out, sound, None, late)
    if piped:
        path.write_bytes(target.data)
    return path


def _mux(out: Any, sound: Any, frame: Any, late: float) -> None:
    for packet in sound.encode(frame):
        if packet.pts is not None and packet.time_base:
            packet.pts += round(late / packet.time_base)
            packet.dts += round(late / packet.time_base)
        out.mux(packet)


def _add_picture(out: Any, seconds: float) -> None:
    """A grey picture, five a second."""
    stream = out.add_stream("mpeg4", rate=5)
    stream.width = stream.height = 32
    for number in range(round(seconds * 5)):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
        frame.pts = number
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def silent_video(path: Path) -> Path:
    """A video without a sound track."""
    with av.open(str(path), "w") as out:
        _add_picture(out, 2.0)
    return path


def write(path: Path, samples: Samples, rate: int, subtype: str | None = None) -> Path:
    """Write with soundfile, by suffix."""
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def tracks(
    path: Path,
    sounds: list[Samples],
    rate: int,
    codec: str,
    *,
    languages: tuple[str, ...] = (),
    default: int | None = None,
) -> Path:
    """Write several sound tracks side by side; `default`: the place of the one flagged so."""
    from av.stream import Disposition

    with av.open(str(path), "w") as out:
        streams: list[Any] = []
        for place, sound in enumerate(sounds):
            layout = "mono" if sound.ndim == 1 else "stereo"
            stream: Any = out.add_stream(codec, rate=rate, layout=layout)
            if place < len(languages) and languages[place]:
                stream.metadata["language"] = languages[place]
            stream.disposition = Disposition.default if place == default else Disposition(0)
            streams.append(stream)
        ready = []
        for stream, sound in zip(streams, sounds, strict=True):
            layout = "mono" if sound.ndim == 1 else "stereo"
            resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
            planes = np.atleast_2d(sound.T)
            for start in range(0, planes.shape[1], 1024):
                part = np.ascontiguousarray(planes[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                ready += [(start, stream, one) for one in resampler.resample(frame)]
        for _, stream, frame in sorted(ready, key=lambda item: item[0]):
            out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path
