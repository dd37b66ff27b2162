"""What the headers of sound files state: where their samples lie, how many there are to be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

_W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the GUIDs of wave, fmt and data
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
Walk = Callable[[BinaryIO, int], tuple[bytes, int, int] | None]
"""(file, place) -> a chunk's name, where its content begins, where the chunk ends."""
_FARTHEST = (1 << 63) - 1
"""Bytes from a file's beginning that can be asked for."""
_OGG_PAGE = 65_307
"""Bytes in the largest page (RFC 3533, section 6)."""


@dataclass(frozen=True, slots=True)
class Form:
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


def read_form(file: BinaryIO, at: int, size: int) -> Form | None:
    """Read the header at a place; None where there is none, or its samples reach the end."""
    head = bytes_at(file, at, 40)
    kind = _kind(head)
    if kind == "au" and len(head) >= 24:
        return _au(head, at, size)
    if kind == "wav":
        return _wave(file, at + 12, _riff_chunk, size)
    if kind == "w64":
        return _wave(file, at + 40, _w64_chunk, size)
    return _aiff(file, at + 12, head[8:12], size) if kind == "aiff" else None


def is_head(file: BinaryIO, at: int) -> bool:
    """Whether a recording of one of these kinds begins at a place."""
    return bool(_kind(bytes_at(file, at, 28)))


def _kind(head: bytes) -> str:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return "w64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    return "au" if head[:4] == b".snd" else ""


def caf_seconds(path: Path) -> float | None:
    """Return the seconds that a CAF's header promises; None where it does not, or is no CAF.

    Apple's Core Audio Format Specification: a description of packets, then chunks with 64-bit
    sizes; that of the data is -1 while it is being written.
    """
    with path.open("rb") as file:
        if bytes_at(file, 0, 4) != b"caff":
            return None
        at, rate, packet, frames = 8, 0.0, 0, 0
        while len(head := bytes_at(file, at, 12)) == 12:
            name, size = struct.unpack(">4sq", head)
            if name == b"desc" and len(form := bytes_at(file, at + 12, 32)) == 32:
                rate, _, _, packet, frames = struct.unpack(">d4sIII", form[:24])
            if name == b"data" and size > 4 and rate > 0 and packet:
                return float((size - 4) // packet * frames / rate)
            if size < 0:
                return None
            at += 12 + size
    return None


# --- wav, rf64, w64 --------------------------------------------------------------------------


def _riff_chunk(
    file: BinaryIO, at: int, order: Literal["little", "big"] = "little"
) -> tuple[bytes, int, int] | None:
    head = bytes_at(file, at, 8)
    if len(head) < 8 or not _is_name(head[:4]):
        return None
    return head[:4], at + 8, at + 8 + int.from_bytes(head[4:], order)


def _w64_chunk(file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
    head = bytes_at(file, at, 24)
    if len(head) < 24 or head[4:16] != _W64_REST:
        return None
    size = int.from_bytes(head[16:24], "little")  # with its head
    return head[:4], at + 24, at + max(24, size)


def _wave(file: BinaryIO, at: int, walk: Walk, size: int) -> Form | None:
    form, long = b"", 0
    while (chunk := walk(file, at)) is not None:
        name, content, after = chunk
        if name == b"data":
            said = after - content
            if said == 0xFFFFFFFF and long:
                said = long
            return _wave_form(form, content, said, walk) if content + said < size else None
        if name == b"ds64":
            long = int.from_bytes(bytes_at(file, content + 8, 8), "little")
        if name == b"fmt ":
            form = bytes_at(file, content, min(after - content, 64))
        at = next_chunk(file, after, walk)
    return None


def _wave_form(form: bytes, data: int, said: int, walk: Walk) -> Form | None:
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

    return Form(
        data, said, data + said, max(1.0, float(speed)), max(1, width), dtype, step, walk, head
    )


# --- aiff, au --------------------------------------------------------------------------------


def _aiff_chunk(file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
    return _riff_chunk(file, at, "big")


def _aiff(file: BinaryIO, at: int, kind: bytes, size: int) -> Form | None:
    common = b""
    while (chunk := _aiff_chunk(file, at)) is not None:
        name, content, after = chunk
        if name == b"COMM":
            common = bytes_at(file, content, min(after - content, 256))
        if name == b"SSND" and len(common) >= 18:
            offset = int.from_bytes(bytes_at(file, content, 4), "big")
            said = max(0, after - content - 8)
            data = content + 8 + offset
            if data + said >= size:
                return None
            return _aiff_form(common, kind, data, said)
        at = next_chunk(file, after, _aiff_chunk)
    return None


def _aiff_form(common: bytes, kind: bytes, data: int, said: int) -> Form | None:
    channels, _, bits = struct.unpack(">hIh", common[:8])
    exponent, mantissa = struct.unpack(">HQ", common[8:18])  # IEEE 754 extended
    rate = float(mantissa) * 2.0 ** min((exponent & 0x7FFF) - 16383 - 63, 0)
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
    return Form(data, said, data + said, width * rate, width, dtype, step, _aiff_chunk, head)


_AU_SAMPLES = {
    **{1: ("", 1), 2: ("i1", 1), 3: (">i2", 2), 4: (">i2", 3), 5: (">i2", 4)},
    **{6: (">f4", 4), 7: (">f8", 8), 27: ("", 1)},
}
"""Encoding -> how samples look (big-endian: a sample's first two bytes), bytes of one."""


def _au(header: bytes, at: int, size: int) -> Form | None:
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
    return Form(
        data, said, data + said, float(width * rate), width, dtype, step, lambda *_: None, head
    )


# --- chunks -----------------------------------------------------------------------------------


def next_chunk(file: BinaryIO, at: int, walk: Walk) -> int:
    """Return where a chunk begins: sizes are made even (in w64 a multiple of 8), by most."""
    to = 8 if walk is _w64_chunk else 2
    even = -(-at // to) * to if to == 8 else at + at % 2
    if even != at and (is_head(file, at) or walk(file, at) is not None):
        return at
    return even


def _is_name(name: bytes) -> bool:
    """Whether four bytes can be a chunk's name."""
    return all(0x20 <= byte < 0x7F for byte in name) and any(chr(byte).isalnum() for byte in name)


def bytes_at(file: BinaryIO, at: int, count: int) -> bytes:
    """Read at a place; fewer bytes where the file ends."""
    if at > _FARTHEST:  # a damaged header's word, which `seek` refuses
        return b""
    file.seek(at)
    return file.read(count)


# --- mp3, ogg ---------------------------------------------------------------------------------


def xing_seconds(path: Path, rate: int) -> float | None:
    """Return the seconds that an mp3's Xing or Info header promises, where it has one.

    The header lies in the first frame, after an ID3v2 tag (gabriel-bouvigne's "MP3 Info Tag").
    """
    with path.open("rb") as file:
        tag = file.read(10)
        size = 0
        if tag[:3] == b"ID3" and len(tag) == 10:  # size: four bytes of seven bits
            size = 10 + sum(byte << 7 * shift for shift, byte in enumerate(reversed(tag[6:])))
        file.seek(size)
        head = file.read(4096)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 12:
        return None
    flags, frames = struct.unpack(">II", head[at + 4 : at + 12])
    return frames * (1152 if rate >= 32_000 else 576) / rate if flags & 1 else None


def ends_mid_page(path: Path) -> bool:
    """Tell whether an Ogg file ends within a page, as only a broken-off copy does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _OGG_PAGE))
        tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return False
    segments = tail[at + 26] if at + 26 < len(tail) else 255
    return at + 27 + segments + sum(tail[at + 27 : at + 27 + segments]) > len(tail)
