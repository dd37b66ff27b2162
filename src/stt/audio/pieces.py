"""Files of sound that hold more than their header says: the pieces they are to be read in.

A recorder that lost power leaves sound behind the size in its header. `cat a.wav b.wav` leaves a
second header, and its sound, behind the first. Readers stop at the first size, without a word.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stt.audio.damage import SIZE_UNKNOWN, Damage

_LEAST_S = 0.1
"""Seconds of data behind the end that are worth a word."""
_ALIKE = 0.3
"""Correlation of neighbouring samples from which bytes are taken for sound; of other data it is
about 0, of speech 0.6 and more."""
_PROBE = 1 << 16
"""Bytes looked at for that."""
_FLAC_HEADS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the GUIDs of wave, fmt and data
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
Walk = Callable[[BinaryIO, int], tuple[bytes, int, int] | None]
"""(file, place) -> a chunk's name, where its content begins, where the chunk ends."""


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
        flac = file.read(4) == b"fLaC"
        found = _flacs(file, size) if flac else _chunked(file, size, name, damage)
    return found or [Piece(0, size, is_whole_file=True)]


def _flacs(file: BinaryIO, size: int) -> list[Piece]:
    """Find the heads of FLAC streams, which are followed by a STREAMINFO of 34 bytes."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = sorted(at for head in _FLAC_HEADS for at in _all(data, head))
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
    while (form := _form(file, at, size)) is not None:
        behind = _behind(file, form, size)
        if behind < size and not _is_head(file, behind):
            rest = size - form.data - form.said
            if form.said == 0 or form.said >= SIZE_UNKNOWN or _is_sound(file, behind, form):
                behind = _next_wave(file, behind, size)
                found.append(form.piece(behind))
                if name != "-" or 0 < form.said < SIZE_UNKNOWN:  # a pipe knows no sizes
                    damage.note(_told(form, behind))
            elif rest >= _LEAST_S * form.bytes_per_second and not _is_padding(file, behind):
                damage.note(
                    f"{rest:,} bytes behind the end of the sound, which are none, are left out"
                )
                behind = size
        if not found or found[-1].start != form.data:
            found.append(Piece(at, min(behind, size) - at))
        at = behind
    if found and at < size and _is_head(file, at):  # its sizes are right
        found.append(Piece(at, size - at))
    return found if len(found) > 1 or any(piece.head for piece in found) else []


def _told(form: _Form, end: int) -> str:
    stated, there = (n / form.bytes_per_second for n in (form.said, end - form.data))
    return (
        f"its header states {stated:.1f} s, {there - stated:.1f} s more lie behind: they are read "
        "too"
    )


def _next_wave(file: BinaryIO, at: int, size: int) -> int:
    """Return where another wav begins, or the end of the file."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = data.find(b"WAVEfmt ", at)
    return found - 8 if found >= at + 8 and _is_head(file, found - 8) else size


@dataclass(frozen=True, slots=True)
class _Form:
    """What a header says of its sound."""

    data: int
    """Where its samples begin."""
    said: int
    """Bytes of them, as the header says."""
    after: int
    """Where what follows them begins, by the same."""
    bytes_per_second: float
    width: int
    """Bytes of a frame."""
    dtype: str
    """NumPy's name for a sample; '' for what is not plain samples."""
    step: int
    """Bytes of a sample."""
    walk: Walk
    head: Callable[[int], bytes]
    """Makes a header for so many bytes of the same sound."""

    def piece(self, end: int) -> Piece:
        """Return the samples up to a place in the file, under a header that says so."""
        return Piece(self.data, end - self.data, self.head(end - self.data))


def _form(file: BinaryIO, at: int, size: int) -> _Form | None:
    """Read the header at a place; None where there is none, or its samples reach the end."""
    head = _read(file, at, 40)
    if head[:4] == b".snd" and len(head) >= 24:
        return _au(head, at, size)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wave(file, at + 12, _riff_chunk, size)
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _wave(file, at + 40, _w64_chunk, size)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, at + 12, head[8:12], size)
    return None


def _is_head(file: BinaryIO, at: int) -> bool:
    head = _read(file, at, 28)
    return (
        (head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE")
        or (head[:4] == b"riff" and head[24:28] == b"wave")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or head[:4] == b".snd"
    )


# --- wav, rf64, w64 --------------------------------------------------------------------------


def _riff_chunk(file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
    head = _read(file, at, 8)
    if len(head) < 8 or not _is_name(head[:4]):
        return None
    size = int.from_bytes(head[4:], "little")
    return head[:4], at + 8, at + 8 + size


def _w64_chunk(file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
    head = _read(file, at, 24)
    if len(head) < 24 or head[4:16] != _W64_REST:
        return None
    size = int.from_bytes(head[16:24], "little")  # with its head
    return head[:4], at + 24, at + max(24, size)


def _wave(
    file: BinaryIO,
    at: int,
    walk: Walk,
    size: int,
) -> _Form | None:
    form, long = b"", 0
    while (chunk := walk(file, at)) is not None:
        name, content, after = chunk
        if name == b"data":
            said = after - content
            if said == 0xFFFFFFFF and long:
                said = long
            return _wave_form(form, content, said, walk) if content + said < size else None
        if name == b"ds64":
            long = int.from_bytes(_read(file, content + 8, 8), "little")
        if name == b"fmt ":
            form = _read(file, content, min(after - content, 64))
        at = _next(file, after, walk)
    return None


def _wave_form(
    form: bytes,
    data: int,
    said: int,
    walk: Walk,
) -> _Form | None:
    if len(form) < 16:
        return None
    kind, _, _, speed, width, bits = struct.unpack("<HHIIHH", form[:16])
    if kind == _EXTENSIBLE and len(form) >= 26:
        kind = int.from_bytes(form[24:26], "little")
    step = (bits + 7) // 8
    dtype = ""
    if kind == _PCM and bits:
        dtype = "u1" if step == 1 else "<i2"
    elif kind == _FLOAT and step in (4, 8):
        dtype = f"<f{step}"

    def head(size: int) -> bytes:
        """RF64 (EBU Tech 3306), which has no limit of size."""
        fmt = b"fmt " + struct.pack("<I", len(form)) + form + bytes(len(form) % 2)
        whole = 4 + 36 + len(fmt) + 8 + size
        long = struct.pack("<QQQI", whole, size, size // max(1, width), 0)
        ds64 = b"ds64" + struct.pack("<I", 28) + long
        return b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff"

    return _Form(
        data, said, data + said, max(1.0, float(speed)), max(1, width), dtype, step, walk, head
    )


# --- aiff, au --------------------------------------------------------------------------------


def _aiff_chunk(file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
    head = _read(file, at, 8)
    if len(head) < 8 or not _is_name(head[:4]):
        return None
    return head[:4], at + 8, at + 8 + int.from_bytes(head[4:], "big")


def _aiff(file: BinaryIO, at: int, kind: bytes, size: int) -> _Form | None:
    common = b""
    while (chunk := _aiff_chunk(file, at)) is not None:
        name, content, after = chunk
        if name == b"COMM":
            common = _read(file, content, min(after - content, 256))
        if name == b"SSND" and len(common) >= 18:
            offset = int.from_bytes(_read(file, content, 4), "big")
            said = max(0, after - content - 8)
            data = content + 8 + offset
            if data + said >= size:
                return None
            return _aiff_form(common, kind, data, said)
        at = _next(file, after, _aiff_chunk)
    return None


def _aiff_form(common: bytes, kind: bytes, data: int, said: int) -> _Form | None:
    channels, _, bits = struct.unpack(">hIh", common[:8])
    exponent, mantissa = struct.unpack(">HQ", common[8:18])  # IEEE 754 extended
    rate = float(mantissa) * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
    step = (bits + 7) // 8
    if kind == b"AIFC" and common[18:22] not in (b"NONE", b"twos"):
        return None
    if channels < 1 or step < 1 or rate <= 0:
        return None
    width = channels * step

    def head(size: int) -> bytes:
        frames = size // width
        comm = common[:2] + struct.pack(">I", frames) + common[6:]
        body = kind + b"COMM" + struct.pack(">I", len(comm)) + comm + bytes(len(comm) % 2)
        body += b"SSND" + struct.pack(">III", size + 8, 0, 0)
        return b"FORM" + struct.pack(">I", len(body) + size) + body

    dtype = "i1" if step == 1 else ">i2"
    return _Form(data, said, data + said, width * rate, width, dtype, step, _aiff_chunk, head)


_AU_SAMPLES = {1: ("", 1), 2: ("i1", 1), 3: (">i2", 2), 4: (">i2", 3), 5: (">i2", 4)} | {
    6: (">f4", 4),
    7: (">f8", 8),
    27: ("", 1),
}
"""Encoding -> how samples look (big-endian: a sample's first two bytes), bytes of one."""


def _au(header: bytes, at: int, size: int) -> _Form | None:
    offset, said, encoding, rate, channels = struct.unpack(">IIIII", header[4:24])
    dtype, step = _AU_SAMPLES.get(encoding, ("", 0))
    data = at + offset
    if said == 0xFFFFFFFF or not step or not 1 <= channels <= 256 or not rate:
        return None
    if data + said >= size:
        return None

    def head(size: int) -> bytes:
        return b".snd" + struct.pack(">IIIII", 24, min(size, 0xFFFFFFFF), encoding, rate, channels)

    width = channels * step
    return _Form(
        data, said, data + said, float(width * rate), width, dtype, step, lambda *_: None, head
    )


# --- what lies behind the end ----------------------------------------------------------------


def _behind(file: BinaryIO, form: _Form, size: int) -> int:
    """Return where the chunks end that follow the samples; nothing is known of what lies there."""
    at = form.after
    while at < size:
        at = _next(file, at, form.walk)
        if _is_head(file, at) or (chunk := form.walk(file, at)) is None or chunk[2] > size + 1:
            return at
        at = chunk[2]
    return size


def _next(file: BinaryIO, at: int, walk: Walk) -> int:
    """Return where a chunk begins: sizes are made even (in w64 a multiple of 8), by most."""
    to = 8 if walk is _w64_chunk else 2
    even = -(-at // to) * to if to == 8 else at + at % 2
    if even != at and (_is_head(file, at) or walk(file, at) is not None):
        return at
    return even


def _is_name(name: bytes) -> bool:
    """Whether four bytes can be a chunk's name."""
    return all(0x20 <= byte < 0x7F for byte in name) and any(chr(byte).isalnum() for byte in name)


def _is_padding(file: BinaryIO, at: int) -> bool:
    """Whether zeros, or a tag of a music program, are what lies there."""
    data = _read(file, at, _PROBE)
    return not any(data) or data.startswith((b"TAG", b"APETAGEX", b"ID3"))


def _is_sound(file: BinaryIO, at: int, form: _Form) -> bool:
    """Whether what lies there is like samples of the same kind: each near the one before."""
    place = form.data + -(-(at - form.data) // form.width) * form.width
    data = _read(file, place, _PROBE // form.width * form.width)
    if not form.dtype or len(data) < form.width * 100:
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


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
