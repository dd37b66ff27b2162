"""Recordings as streams: any container, rate and channel count in, float32 mono blocks out.

libsndfile reads wav, flac, aiff, au, caf and w64, see `sound_file`. PyAV (FFmpeg) reads the rest,
see `containers`: also mp3, where libsndfile's mpg123 prints on the user's screen, and ogg, of which
libsndfile reads only the first of several recordings joined in one file. Blocks are about a second,
so memory does not grow with the length of the recording.
"""

from __future__ import annotations

import errno
import re
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stt.audio.channels import CANCELLING_NOTE, Downmix, one_channel
from stt.audio.samples import sound
from stt.audio.selection import ALL_OF_IT, Selection, channel_number, clock, no_such_track
from stt.audio.sound_file import HEADS, open_sound_file
from stt.audio.stream import AudioStream, Damage, RawAudio, blocks_read, reading
from stt.errors import AudioError
from stt.system.files import printable
from stt.system.temporary import copied
from stt.types import Samples

STDIN = "-"
AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("wav", "wave", "w64", "rf64", "flac", "aif", "aiff", "aifc", "au", "caf", "sph"),
        *("mp3", "ogg", "oga", "opus", "aac", "ac3", "amr", "ape", "m4a", "m4b", "mka", "wma"),
        *("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"),
        "wv",
    )
)
"""File names taken up when a folder is searched; a file named outright may have any name."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Hz. Outside lies no recording of speech but a damaged header."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that can be opened several times, whatever it was given as."""

    name: str
    """As the user gave it."""
    path: Path
    """A regular file."""


@contextmanager
def open_audio(
    source: str | Path, *, tolerant: bool = False, selection: Selection = ALL_OF_IT
) -> Iterator[AudioStream]:
    """Open a file, or standard input for '-', as an AudioStream.

    Args:
        source: a path, or '-'.
        tolerant: what can be read of a damaged recording is wanted; `damage` then tells of the
            rest.
        selection: what of it is heard; of several parts the first.

    Raises:
        AudioError: missing, empty, truncated, corrupt, silent container, or not audio at all; or
            what was selected is not there.
    """
    with (
        found(source) as recording,
        open_recording(recording, selection.part(1), tolerant=tolerant) as stream,
    ):
        yield stream


@contextmanager
def found(source: str | Path) -> Iterator[Recording]:
    """Find a file; what is piped in, or lies in a FIFO, is kept in a temporary file meanwhile.

    Raises:
        AudioError: missing, empty, or no file.
    """
    name = printable(str(source))
    with ExitStack() as stack:
        path = Path(source)
        if str(source) == STDIN:
            path = stack.enter_context(_spooled(_stdin(), name))
        elif stat.S_ISFIFO(_mode(path, name)):
            path = stack.enter_context(_spooled(stack.enter_context(path.open("rb")), name))
        yield Recording(str(source), path)


@contextmanager
def open_recording(
    recording: Recording, selection: Selection, *, tolerant: bool = False
) -> Iterator[AudioStream]:
    """Open one track of a recording, its channels mixed or one of them; see open_audio."""
    name, path = printable(recording.name), recording.path
    with ExitStack() as stack:
        head = _head(path, name)
        raw, damage = None, Damage(tolerant=tolerant)
        with reading(name):
            if head.startswith(HEADS):
                raw = open_sound_file(path, name, stack, selection, damage)
                if raw is not None and selection.track not in ("", "1"):
                    raise no_such_track(name, selection.track, raw.tracks)
            if raw is None:
                from stt.audio.containers import open_container

                raw = open_container(path, name, stack, selection, damage)
        if not LOWEST_RATE <= raw.sample_rate <= HIGHEST_RATE:
            raise AudioError(
                f"{name}: says its sample rate is {raw.sample_rate:,} Hz, so its header is "
                "damaged; copy or export it again"
            )
        yield mono_stream(raw, recording.name, selection, damage)


def mono_stream(raw: RawAudio, source: str, selection: Selection, damage: Damage) -> AudioStream:
    """Return what of a sound track is heard: a stretch of it, mixed or one channel.

    Raises:
        AudioError: it has no such channel.
    """
    name = printable(source)
    blocks = _stretch(raw, selection, name, damage)
    if selection.channel:
        number = channel_number(selection.channel)
        if number > raw.channels:
            has = "1 channel (mono)" if raw.channels == 1 else f"{raw.channels} channels"
            raise AudioError(
                f"{name}: has no channel {selection.channel}, it has {has}; give another, or none "
                "to hear all"
            )
        blocks = one_channel(blocks, number)
    else:
        blocks = _downmixed(blocks, raw.sample_rate, damage)
    duration = raw.duration
    if duration is not None and selection.end is not None:
        duration = min(duration, selection.end)
    checked = _checked(blocks, raw.sample_rate, name, damage)
    heard = (raw.channels, raw.track, raw.tracks)
    return AudioStream(source, raw.sample_rate, duration, checked, damage, selection.start, *heard)


def _downmixed(blocks: Iterator[Samples], rate: int, damage: Damage) -> Iterator[Samples]:
    downmix = Downmix(rate)
    for block in downmix.mixed(blocks):
        if downmix.cancels:
            damage.note(CANCELLING_NOTE)
        yield block


def _stretch(raw: RawAudio, selection: Selection, name: str, damage: Damage) -> Iterator[Samples]:
    """Yield the part of a sound track's blocks that lies between the selection's start and end.

    `damage` takes a note where it ends before the end that was asked for.

    Raises:
        AudioError: the start lies beyond the recording's end.
    """
    rate, place = raw.sample_rate, raw.began
    first = round(selection.start * rate)
    last = None if selection.end is None else round(selection.end * rate)
    for block in raw.blocks:
        wanted = block[max(0, first - place) : None if last is None else max(0, last - place)]
        place += len(block)
        if len(wanted):
            yield wanted
        if last is not None and place >= last:
            return
    if first and place <= first:
        raise AudioError(
            f"{name}: the start ({clock(selection.start)}) lies beyond its end "
            f"({clock(place / rate)}); give an earlier one"
        )
    if last is not None and place < last - rate // 10:
        damage.note(f"ends at {clock(place / rate)}, before the end that was asked for")


def _checked(blocks: Iterator[Samples], rate: int, name: str, damage: Damage) -> Iterator[Samples]:
    """Yield blocks of which every sample is sound; a recording without samples is refused."""
    done = 0
    for block in sound(blocks_read(blocks, name), rate, name, damage):
        done += len(block)
        yield block
    if done == 0 and damage.failures:
        raise AudioError(f"{name}: {damage.failures[0]}")
    if done == 0:
        raise AudioError(f"{name}: holds no audio (0 samples); record or export it again")


def check_there(source: str | Path) -> None:
    """Look at a recording without decoding it, before a model is loaded for it.

    Raises:
        AudioError: it is missing, empty, no file, or may not be read.
    """
    name = printable(str(source))
    if str(source) == STDIN:
        _stdin()
    elif stat.S_ISREG(_mode(Path(source), name)):
        _head(Path(source), name)


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(f"{STDIN}: nothing is piped in; use `stt transcribe - < FILE`")
    return sys.stdin.buffer


@contextmanager
def _spooled(pipe: BinaryIO, name: str) -> Iterator[Path]:
    """Copy a pipe to a temporary file: many containers keep their index at the end."""
    with ExitStack() as stack:
        try:
            path = stack.enter_context(copied(pipe))
        except OSError as error:
            raise AudioError(
                f"{name}: what is piped in could not be kept ({error.strerror or error}); set "
                "TMPDIR to a folder with room, or name a file"
            ) from error
        yield path


def _mode(path: Path, name: str) -> int:
    """Return st_mode of a path that may hold a recording."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _missing(name) from error
    except RuntimeError as error:  # Python < 3.13 says so of links in a circle on Windows
        raise AudioError(f"{name}: cannot be opened ({error}); name the recording") from error
    except OSError as error:
        raise _not_opened(error, name) from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{name}: is a folder; name a file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise AudioError(f"{name}: is a device, not a recording; name a file")
    return mode


def _missing(name: str) -> AudioError:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        return AudioError(
            f"{name}: is an address, and stt fetches nothing; download it and name the file, or "
            f"pipe it in: curl -L {shlex.quote(name)} | stt transcribe -"
        )
    return AudioError(f"{name}: no such file; check the path and its spelling")


def _head(path: Path, name: str) -> bytes:
    """Return the first bytes of a file that can be read and is not empty."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise _not_opened(error, name) from error
    if head:
        return head
    if name == STDIN:
        raise AudioError(f"{name}: nothing came in (0 bytes); check the command before the pipe")
    raise AudioError(f"{name}: the file is empty (0 bytes); copy or record it again")


def _not_opened(error: OSError, name: str) -> AudioError:
    cures = {
        errno.ELOOP: "name the recording itself, not a link",
        errno.ENAMETOOLONG: "check the path",
    }
    cure = cures.get(error.errno or 0, "check its rights and those of its folder")
    return AudioError(f"{name}: cannot be opened ({error.strerror}); {cure}")
