"""Files of sound that hold more than their header says: the pieces they are to be read in.

A recorder that lost power leaves sound behind the size in its header. `cat a.wav b.wav` leaves a
second header, and its sound, behind the first. Readers stop at the first size, without a word.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stt.audio.damage import SIZE_UNKNOWN, Damage
from stt.audio.headers import Form, bytes_at, is_head, next_chunk, read_form

_LEAST_S = 0.1
"""Seconds of data behind the end that are worth a word."""
_ALIKE = 0.3
"""Correlation of neighbouring samples from which bytes are taken for sound; of other data it is
about 0, of speech 0.6 and more."""
_PROBE = 1 << 16
"""Bytes looked at for that."""
_HEADS = {
    b"fLaC": (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22"),  # STREAMINFO of 34 bytes
    b"caff": (b"caff\x00\x01\x00\x00desc",),
}
"""First bytes -> all that recordings begin with whose sizes need not be followed."""


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

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self._at

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """See io.RawIOBase."""
        return True

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


def _headed(file: BinaryIO, size: int, heads: tuple[bytes, ...]) -> list[Piece]:
    """Find where recordings begin by their first bytes; [] where there is one."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = sorted(at for head in heads for at in _all(data, head))
    if len(starts) < 2:
        return []
    return [
        Piece(start, end - start) for start, end in zip(starts, [*starts[1:], size], strict=True)
    ]


def _all(data: mmap.mmap, what: bytes) -> Iterator[int]:
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + 1)


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


def another_behind(path: Path) -> bool:
    """Whether a file's first 12 bytes come again in it: another recording lies behind it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return len(data) > 12 and data.find(data[:12], 12) >= 0
