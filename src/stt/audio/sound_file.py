"""What libsndfile reads: wav, flac, aiff, au, caf and w64.

It knows exactly when one is cut short. It stops where the header says, without a word, though more
sound may lie behind: a recorder that lost power leaves a stale size, and `cat a.wav b.wav` a second
header. So a file is read as the pieces that lie in it.
"""

from __future__ import annotations

import io
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from stt.audio.headers import Form, bytes_at, is_head, next_chunk, read_form
from stt.audio.selection import Selection
from stt.audio.stream import (
    BLOCK,
    SIZE_UNKNOWN,
    Damage,
    RawAudio,
    check_length,
    damaged,
    is_placeholder,
    is_short,
)
from stt.types import Samples

if TYPE_CHECKING:
    import soundfile

# What libsndfile is asked to open. Left to itself it goes by the suffix where it knows no header,
# and a text called .au, .vox or .gsm becomes noise.
HEADS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"FORM", b".snd", b"caff")
_FRAMES_UNKNOWN = 1 << 62
_SIZES = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_LEAST_S = 0.1
"""Seconds of data behind the end that are worth a word."""
_ALIKE = 0.3
"""Correlation of neighbouring samples from which bytes are taken for sound; of other data it is
about 0, of speech 0.6 and more."""
_PROBE = 1 << 16
"""Bytes looked at for that."""
_HEADS = {
    b"fLaC": rb"fLaC[\x00\x80]\x00\x00\x22",  # STREAMINFO of 34 bytes
    b"caff": rb"caff\x00\x01\x00\x00desc",
}
"""First bytes -> pattern of the heads of recordings whose sizes need not be followed."""


def open_sound_file(
    path: Path, name: str, stack: ExitStack, selection: Selection, damage: Damage
) -> RawAudio | None:
    """Open with libsndfile, or return None where PyAV must do it.

    Args:
        path: a regular file that begins with one of HEADS.
        name: what messages call it.
        stack: closes it.
        selection: its start is sought to where that costs nothing.
        damage: takes what is wrong with it.
    """
    if path.suffix.lower() == ".raw":  # soundfile goes by the name here
        return None
    found = pieces(path, name, damage)
    files: list[soundfile.SoundFile] = []
    for piece in found:
        file = _opened(path, piece, stack)
        if file is None and not files:
            return None
        if file is None or (files and file.samplerate != files[0].samplerate):
            kind = f"at {file.samplerate:,} Hz" if file else "of another kind"
            damage.note(f"a recording {kind} that lies behind its end is left out: cut it off")
        else:
            files.append(file)
    first, rate = files[0], int(files[0].samplerate)
    if len(files) == 1 and found[0].is_whole_file:
        _check_sizes(first, name, damage)
    elif len(files) > 1:
        damage.note(f"{len(files)} recordings joined in one file: all of them are read")
    frames = sum(file.frames for file in files)
    began = 0
    if len(files) == 1 and 0 < (start := round(selection.start * rate)) < frames:
        began = first.seek(start)
    blocks = _joined(files, name, path, began, damage)
    return RawAudio(rate, frames / rate, first.channels, blocks, began)


def _opened(path: Path, piece: Piece, stack: ExitStack) -> soundfile.SoundFile | None:
    import soundfile

    # names need not be text on Linux; soundfile encodes str strictly
    source = os.fsencode(path) if os.name == "posix" else str(path)
    try:
        if not piece.is_whole_file:
            source = stack.enter_context(Spliced(path, piece))  # type: ignore[assignment]
        file = stack.enter_context(soundfile.SoundFile(source))
    except soundfile.LibsndfileError:
        return None
    # a piped flac or wav may not know its length; mp3 may be inside a wav
    if not 0 < file.frames < _FRAMES_UNKNOWN or file.subtype.startswith("MPEG"):
        return None
    return file


def _check_sizes(file: soundfile.SoundFile, name: str, damage: Damage) -> None:
    """Meet damage where the header promises clearly more than there is."""
    if not (promised := _SIZES.search(file.extra_info)):
        return
    said, there = (int(number) for number in promised.groups())
    if there >= said:
        return
    seconds = file.frames / file.samplerate
    stated = seconds * said / max(there, 1)
    if is_placeholder(said):
        if name != "-":  # what is piped in seldom knows its length
            damage.note("its header does not know its length; it is read to its end")
    elif is_short(seconds, stated):
        check_length(name, seconds, stated, damage)
    else:
        damage.note(f"{said - there:,} bytes are missing at its end")


def _joined(
    files: list[soundfile.SoundFile], name: str, path: Path, began: int, damage: Damage
) -> Iterator[Samples]:
    done = began
    for number, file in enumerate(files):
        alone = len(files) == 1
        for block in _blocks(file, name, path if alone else None, done, damage):
            done += len(block)
            yield block
        if number + 1 < len(files):
            file.close()


def _blocks(
    file: soundfile.SoundFile, name: str, path: Path | None, done: int, damage: Damage
) -> Iterator[Samples]:
    """Yield the rest of a file, `done` samples having been read; `path`: FFmpeg may read it too."""
    import soundfile

    rate, begun = file.samplerate, done - file.tell()
    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            detail = error.error_string.strip().rstrip(".").removeprefix("Error : ")
            met = damaged(name, done / rate, detail)
            at_end = not is_short(0.0, (begun + file.frames - done) / rate)
            if not damage.tolerant and not at_end:
                raise met from error
            behind = Damage(tolerant=True)
            for block in _past_damage(path, name, done, behind) if path else ():
                done += len(block)
                yield block
            missing = (begun + file.frames - done) / rate
            if not is_short(0.0, missing) and at_end:
                damage.note(f"its last {max(0.0, missing):.2f} s cannot be read ({detail})")
                return
            damage.failures += behind.failures
            if not damage.failures:
                damage.meet(met)
            return
        if not len(block):
            break
        done += len(block)
        yield block
    check_length(name, done / rate, (begun + file.frames) / rate, damage)


def _past_damage(path: Path, name: str, done: int, damage: Damage) -> Iterator[Samples]:
    """Go on with FFmpeg, which finds sound behind damage, after `done` samples."""
    from stt.audio.containers import open_container

    with ExitStack() as stack:
        raw = open_container(path, name, stack, Selection(), damage)
        for block in raw.blocks:
            fresh = block[done:]
            done -= len(block) - len(fresh)
            yield fresh


# --- pieces -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A recording within a file: bytes of it, behind another header where its own is stale."""

    start: int
    """Of its bytes in the file."""
    size: int
    """Bytes."""
    head: bytes = b""
    """What is read before them."""
    is_whole_file: bool = False


class Spliced(io.RawIOBase):
    """A piece as a file of its own, for reading."""

    def __init__(self, path: Path, piece: Piece) -> None:
        """Raise OSError where the file cannot be opened."""
        self._file = path.open("rb")
        self._piece = piece
        self._length = len(piece.head) + piece.size
        self._at = 0

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        view = memoryview(buffer).cast("B")
        head = self._piece.head
        if self._at < len(head):
            data = head[self._at : self._at + len(view)]
        else:
            self._file.seek(self._piece.start + self._at - len(head))
            data = self._file.read(min(len(view), max(0, self._length - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See io.RawIOBase."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def close(self) -> None:
        """See io.RawIOBase."""
        self._file.close()
        super().close()


def pieces(path: Path, name: str, damage: Damage) -> list[Piece]:
    """Return the recordings that a file holds, one after the other; nearly always it is one.

    `damage` takes a note of data that are left out, and of a header that is stale.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        heads = _HEADS.get(file.read(4))
        found = _headed(file, size, heads) if heads else _chunked(file, size, name, damage)
    return found or [Piece(0, size, is_whole_file=True)]


def _headed(file: BinaryIO, size: int, heads: bytes) -> list[Piece]:
    """Find where recordings begin by their first bytes; [] where there is one."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = [found.start() for found in re.finditer(heads, data)]
    if len(starts) < 2:
        return []
    return [Piece(start, end - start) for start, end in pairwise([*starts, size])]


def _chunked(file: BinaryIO, size: int, name: str, damage: Damage) -> list[Piece]:
    """Follow the sizes from head to head; [] where those of the first one are right."""
    found: list[Piece] = []
    at = 0
    while (form := read_form(file, at, size)) is not None:
        behind = _behind(file, form, size)
        if behind < size and not is_head(file, behind):
            rest = size - form.data - form.said
            if form.said == 0 or form.said >= SIZE_UNKNOWN or _is_sound(file, behind, form):
                behind = _next_wave(file, behind, size)
                there = behind - form.data
                found.append(Piece(form.data, there, form.head(there)))
                if name != "-" or 0 < form.said < SIZE_UNKNOWN:  # a pipe knows no sizes
                    damage.note(_stale_header(form, behind))
            elif rest >= _LEAST_S * form.bytes_per_second and not _is_padding(file, behind):
                damage.note(
                    f"{rest:,} bytes behind the end of the sound, which are none, are left out"
                )
                behind = size
        if not found or found[-1].start != form.data:
            found.append(Piece(at, min(behind, size) - at))
        at = behind
    if found and at < size and is_head(file, at):  # its sizes are right
        found.append(Piece(at, size - at))
    return found if len(found) > 1 or any(piece.head for piece in found) else []


def _stale_header(form: Form, end: int) -> str:
    stated, there = (n / form.bytes_per_second for n in (form.said, end - form.data))
    return (
        f"its header states {stated:.1f} s, {there - stated:.1f} s more lie behind: they are read "
        "too"
    )


def _next_wave(file: BinaryIO, at: int, size: int) -> int:
    """Return where another wav begins, or the end of the file."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = data.find(b"WAVEfmt ", at)
    return found - 8 if found >= at + 8 and is_head(file, found - 8) else size


def _behind(file: BinaryIO, form: Form, size: int) -> int:
    """Return where the chunks end that follow the samples; nothing is known of what lies there."""
    at = form.after
    while at < size:
        at = next_chunk(file, at, form.walk)
        if is_head(file, at) or (chunk := form.walk(file, at)) is None or chunk[2] > size + 1:
            return at
        at = chunk[2]
    return size


def _is_padding(file: BinaryIO, at: int) -> bool:
    """Whether zeros, or a tag of a music program, are what lies there."""
    data = bytes_at(file, at, _PROBE)
    return not any(data) or data.startswith((b"TAG", b"APETAGEX", b"ID3"))


def _is_sound(file: BinaryIO, at: int, form: Form) -> bool:
    """Whether what lies there is like samples of the same kind: each near the one before."""
    place = form.data + -(-(at - form.data) // form.width) * form.width
    data = bytes_at(file, place, _PROBE // form.width * form.width)
    if not form.dtype or form.step > form.width or len(data) < form.width * 100:
        return False
    whole = len(data) // form.width * form.width
    frames = np.frombuffer(data[:whole], np.uint8).reshape(-1, form.width)
    kind = np.dtype(form.dtype)
    first = 0 if kind.byteorder == ">" or kind.itemsize == form.step else form.step - kind.itemsize
    raw = np.ascontiguousarray(frames[:, first : first + kind.itemsize])
    samples = raw.view(kind)[:, 0].astype(np.float64)
    if not np.isfinite(samples).all() or np.abs(samples).max() > 1e6:
        return False
    samples -= samples.mean()
    power = float(samples @ samples)
    return power > 0 and float(samples[1:] @ samples[:-1]) / power > _ALIKE
