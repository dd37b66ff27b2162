"""Recordings as streams: any container, rate and channel count in, float32 mono blocks out.

libsndfile reads wav, flac, ogg, opus and mp3; PyAV (FFmpeg) reads m4a, mp4, webm, mkv and the rest.
A block is about a second, so memory does not grow with the length of the recording.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from stt.errors import AudioError

if TYPE_CHECKING:
    import soundfile

Samples = npt.NDArray[np.float32]

STDIN = "-"
AUDIO_SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .m4a .m4b .mp4 .m4v .mov .webm .mkv .mka .avi .aac .ac3 "
    ".aif .aiff .aifc .au .caf .w64 .rf64 .wma .wmv .amr .3gp .ts .mpg .mpeg .flv .wv .ape .sph".split()
)
"""File names taken up when a folder is searched; a file named outright may have any name."""

# Programs that write wav to a pipe cannot know its size and leave 0 or a value near the top.
_WAV_SIZE_UNKNOWN = 0x7FFF_0000
_DATA_CHUNK = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# A container's duration is rounded and includes encoder padding: only a real gap is a truncation.
_GAP_SECONDS, _GAP_SHARE = 1.0, 0.02


@dataclass(frozen=True, slots=True)
class AudioStream:
    """An opened recording. Iterate `blocks` once."""

    name: str
    """As the user gave it; used in messages."""
    sample_rate: int
    """Hz."""
    duration: float | None
    """Seconds, as the container says; None when it does not."""
    blocks: Iterator[Samples]
    """float32 [n] mono, full scale ±1. Raises AudioError when the data turn out to be damaged."""


@contextmanager
def open_audio(source: str | Path) -> Iterator[AudioStream]:
    """Open a file, or standard input for '-', as an AudioStream.

    Raises:
        AudioError: missing, empty, truncated, corrupt, silent container, or not audio at all.
    """
    name = str(source)
    with ExitStack() as stack:
        path = stack.enter_context(_spooled_stdin()) if name == STDIN else Path(source)
        _check_file(path, name)
        stream = _open_soundfile(path, name, stack) or _open_av(path, name, stack)
        yield checked(stream)


@contextmanager
def _spooled_stdin() -> Iterator[Path]:
    """Copy standard input to a temporary file: many containers keep their index at the end."""
    with tempfile.TemporaryDirectory(prefix="stt-stdin-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as out:
            stdin: BinaryIO = sys.stdin.buffer
            shutil.copyfileobj(stdin, out, 1 << 20)
        yield path


def _check_file(path: Path, name: str) -> None:
    if not path.exists():
        raise AudioError(f"{name}: no such file; check the path and its spelling")
    if path.is_dir():
        raise AudioError(f"{name}: is a folder; name a file in it")
    try:
        with path.open("rb") as file:
            head = file.read(1)
    except OSError as error:
        raise AudioError(
            f"{name}: cannot be opened ({error.strerror}); check its rights"
        ) from error
    if not head:
        raise AudioError(f"{name}: the file is empty (0 bytes); copy or record it again")


def checked(stream: AudioStream) -> AudioStream:
    """Return the same stream, refusing samples that are not numbers and a stream without any."""
    return replace(stream, blocks=_checked_blocks(stream))


def _checked_blocks(stream: AudioStream) -> Iterator[Samples]:
    done = 0
    for block in stream.blocks:
        if not np.isfinite(block).all():
            second = (done + int(np.argmin(np.isfinite(block)))) / stream.sample_rate
            raise AudioError(
                f"{stream.name}: samples that are not numbers (NaN or infinity) at {second:.2f} s; "
                "export the recording again, or as 16-bit"
            )
        done += len(block)
        yield block
    if done == 0:
        raise AudioError(f"{stream.name}: holds no audio (0 samples); record or export it again")


def _truncated(name: str, read_s: float, promised_s: float) -> AudioError:
    return AudioError(
        f"{name}: truncated: {promised_s:.1f} s promised, {read_s:.1f} s there; copy it again, or "
        f"save what is there with `ffmpeg -i FILE part.wav` and transcribe that"
    )


# --- libsndfile ---------------------------------------------------------------------------------


def _open_soundfile(path: Path, name: str, stack: ExitStack) -> AudioStream | None:
    """Open with libsndfile, or return None where it does not know the format."""
    import soundfile

    try:
        file = stack.enter_context(soundfile.SoundFile(path))
    except soundfile.LibsndfileError:
        return None
    rate = int(file.samplerate)
    if promised := _DATA_CHUNK.search(file.extra_info):
        said, there = (int(number) for number in promised.groups())
        if there < said < _WAV_SIZE_UNKNOWN:
            seconds = file.frames / rate
            raise _truncated(name, seconds, seconds * said / max(there, 1))
    return AudioStream(name, rate, file.frames / rate, _soundfile_blocks(file, name))


def _soundfile_blocks(file: soundfile.SoundFile, name: str) -> Iterator[Samples]:
    import soundfile

    done = 0
    while True:
        try:
            block = file.read(file.samplerate, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name}: damaged or truncated after {done / file.samplerate:.1f} s "
                f"({error.error_string.strip().rstrip('.')}); copy or export it again"
            ) from error
        if not len(block):
            break
        done += len(block)
        yield _mono(block)
    if file.frames - done > max(_GAP_SECONDS, file.frames / file.samplerate * _GAP_SHARE) * (
        file.samplerate
    ):
        raise _truncated(name, done / file.samplerate, file.frames / file.samplerate)


def _mono(block: npt.NDArray[np.float32]) -> Samples:
    """Average the channels of [n, channels]."""
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    return block.mean(axis=1, dtype=np.float32)


# --- PyAV ---------------------------------------------------------------------------------------


def _open_av(path: Path, name: str, stack: ExitStack) -> AudioStream:
    import av

    try:
        container: Any = stack.enter_context(av.open(str(path), mode="r", metadata_errors="ignore"))
    except av.FFmpegError as error:
        raise AudioError(
            f"{name}: not a recording that can be read ({error.strerror or error}); "
            "if it plays elsewhere, convert it with `ffmpeg -i FILE out.wav`"
        ) from error
    tracks = container.streams.audio
    if not tracks:
        raise AudioError(f"{name}: has no sound track; nothing to transcribe")
    track = tracks[0]
    if not track.rate:
        raise AudioError(f"{name}: its sound track names no sample rate; convert it to wav first")
    duration = None
    if track.duration is not None and track.time_base is not None:
        duration = float(track.duration * track.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    promised = duration if track.duration is not None else None
    blocks = _av_blocks(container, track, name, promised)
    return AudioStream(name, int(track.rate), duration, blocks)


def _av_blocks(container: Any, track: Any, name: str, promised: float | None) -> Iterator[Samples]:
    """Decode one track. `promised` is the track's own duration in seconds, where it states one."""
    import av

    rate, done, pending = int(track.rate), 0, 0
    parts: list[Samples] = []
    resampler = av.AudioResampler(format="fltp", rate=rate)
    try:
        for frame in container.decode(track):
            for plain in resampler.resample(frame):
                mono = plain.to_ndarray().mean(axis=0, dtype=np.float32)
                parts.append(mono)
                pending += len(mono)
            if pending >= rate:
                done += pending
                yield np.concatenate(parts)
                parts, pending = [], 0
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(
            f"{name}: damaged after {(done + pending) / rate:.1f} s ({error}); "
            "copy or export it again"
        ) from error
    if pending:
        done += pending
        yield np.concatenate(parts)
    if promised and promised - done / rate > max(_GAP_SECONDS, promised * _GAP_SHARE):
        raise _truncated(name, done / rate, promised)
