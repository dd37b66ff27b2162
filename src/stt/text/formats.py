"""Transcript -> text in each format, and text -> file without ever leaving half of one."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stt.errors import OutputError
from stt.system.packages import stt_version
from stt.text.paragraphs import LOOK as PARAGRAPHS
from stt.text.paragraphs import paragraphs
from stt.text.subtitle_formats import as_ass, as_srt, as_vtt
from stt.text.subtitles import DEFAULT_STYLE, SubtitleStyle, channel_label, one_line
from stt.transcript import Coverage, Segment, Transcript, Word

__all__ = [
    "FORMATS",
    "JSON_SCHEMA_VERSION",
    "TEMPORARY",
    "as_json",
    "as_tsv",
    "as_txt",
    "essence",
    "look",
    "os_error_text",
    "replace_file",
    "write_text",
    "written",
]

TEMPORARY = f".stt-{'[0-9a-f]' * 12}.tmp"
"""Pattern of the names of files that are not whole yet; the user's own never fit it by chance."""
JSON_SCHEMA_VERSION = 1
"""Raised when a reader of the old form would fail; described in docs/transcript.schema.json."""


# --- formats ---------------------------------------------------------------------------------


def as_txt(transcript: Transcript) -> str:
    """A line for each paragraph, an empty line between two."""
    return paragraphs(transcript.segments)


def as_tsv(transcript: Transcript) -> str:
    """Whisper's table: start and end in milliseconds, text; tabs in the text become spaces."""
    rows = (
        f"{_ms(segment.start)}\t{_ms(segment.end)}\t{text}"
        for segment in transcript.segments
        if (text := _line(segment))
    )
    return _joined(["start\tend\ttext", *rows])


def _line(segment: Segment) -> str:
    text = one_line(segment.text)
    return f"{channel_label(segment.channel)}{text}" if text else ""


def as_json(transcript: Transcript) -> str:
    """Everything known, as docs/transcript.schema.json describes; keys in a fixed order."""
    document = {
        "schema_version": JSON_SCHEMA_VERSION,
        "stt_version": stt_version(),
        "source": without_surrogates(transcript.source),
        "date": transcript.date,
        "duration": round(transcript.duration, 3),
        "processing_time": round(transcript.elapsed, 3) if transcript.coverage else None,
        "language": transcript.language,
        "model": without_surrogates(transcript.model),
        "precision": transcript.choice.precision,
        "provider": transcript.choice.provider,
        "reason": transcript.choice.reason,
        "coverage": coverage_values(transcript.coverage),
        "text": transcript.text,
        "segments": [_segment_values(segment) for segment in transcript.segments],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


_PLAIN: Mapping[str, Callable[[Transcript], str]] = MappingProxyType(
    {"txt": as_txt, "json": as_json, "tsv": as_tsv}
)
_SUBTITLES: Mapping[str, Callable[[Transcript, SubtitleStyle], str]] = MappingProxyType(
    {"srt": as_srt, "vtt": as_vtt, "ass": as_ass}
)
FORMATS = (*_PLAIN, *_SUBTITLES)
"""File endings, without the dot."""


def written(form: str, transcript: Transcript, style: SubtitleStyle = DEFAULT_STYLE) -> str:
    """Return a transcript in one of FORMATS."""
    if form in _PLAIN:
        return _PLAIN[form](transcript)
    return _SUBTITLES[form](transcript, style)


def look(form: str, style: SubtitleStyle) -> str:
    """Return what the text of a format depends on beside the transcript, to be compared."""
    if form in _SUBTITLES:
        return repr(style)
    return PARAGRAPHS if form == "txt" else ""


_OF_THE_RUN = re.compile(rb'^  "(?:date|processing_time)": .*\n', re.MULTILINE)


def essence(form: str, data: bytes) -> bytes:
    """Return what a result says, without when it was made and how long that took: to compare."""
    return _OF_THE_RUN.sub(b"", data) if form == "json" else data


def coverage_values(coverage: Coverage | None) -> dict[str, Any] | None:
    """What JSON tells of a coverage."""
    if coverage is None:
        return None
    return {
        "decoded": round(coverage.decoded, 3),
        "skipped": {reason: round(seconds, 3) for reason, seconds in coverage.skipped.items()},
        "like_speech": round(coverage.like_speech, 3),
        "failures": list(coverage.failures),
        "invented_words": coverage.invented,
        "notes": list(coverage.notes),
    }


def _segment_values(segment: Segment) -> dict[str, Any]:
    channel = {"channel": segment.channel} if segment.channel else {}
    words = [_spoken_values(word) for word in segment.words]
    return _spoken_values(segment) | channel | {"words": words}


def _spoken_values(spoken: Segment | Word) -> dict[str, Any]:
    return {
        "start": round(spoken.start, 3),
        "end": round(spoken.end, 3),
        "text": spoken.text,
        "confidence": round(spoken.confidence, 4),
    }


def without_surrogates(name: str) -> str:
    """A file name whose bytes are not UTF-8, with U+FFFD for those bytes: JSON must be UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _joined(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- files -----------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8, whole or not at all.

    Raises OutputError, naming the file and the cure, and leaves what was there before.
    """
    try:
        replace_file(path, text)
    except OSError as error:
        raise OutputError(os_error_text(error, path)) from error


def replace_file(path: Path, text: str) -> None:
    """Write a new file beside the old and rename it into place; raises OSError.

    A symbolic link keeps pointing where it did: what it points to is replaced. A device or pipe
    (/dev/stdout) cannot be replaced and is written to. An existing file keeps its permissions, and
    one that may not be written to is not replaced either, though its folder would allow it.
    """
    data = text.encode("utf-8")
    exists = path.exists()
    if exists and not path.is_file():
        path.write_bytes(data)  # raises IsADirectoryError for a folder
        return
    path = path.resolve()
    if exists and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # A name of its own, as a long one with an ending added might exceed what the system allows.
    temporary = path.with_name(f".stt-{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exists:
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def os_error_text(error: OSError, path: Path) -> str:
    """One line: what failed at `path`, and what to do about it."""
    folder = path.parent
    cures = {
        errno.ENOSPC: "the disk is full; make room, or choose a folder on another disk",
        errno.EDQUOT: "your disk quota is used up; make room, or choose a folder elsewhere",
        errno.EROFS: f"the disk of {folder} is read-only; choose another folder",
        errno.ENOENT: f"the folder {folder} does not exist; make it first",
        errno.ENOTDIR: f"{folder} is not a folder; choose another place",
        errno.EISDIR: "is a folder; give the name of a file in it",
        errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
    }
    denied = f"no permission; allow writing to it and to {folder}, or choose another folder"
    cures |= {errno.EACCES: denied, errno.EPERM: denied}
    cure = cures.get(error.errno or 0, f"{error.strerror or error}; choose another place")
    return f"cannot write {path}: {cure}"
