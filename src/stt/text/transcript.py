"""A transcript, and every format it can be written in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stt.errors import UsageError
from stt.system.files import write_text
from stt.system.packages import stt_version
from stt.text.formats import PARAGRAPHS_LOOK, as_ass, as_srt, as_tsv, as_vtt, paragraphs
from stt.text.subtitles import Cue, cues
from stt.transcript import DEFAULT_STYLE, Choice, Coverage, Segment, SubtitleStyle, Word

JSON_SCHEMA_VERSION = 1
"""Raised when a reader of the old form would fail; described in docs/transcript.schema.json."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one recording, and exactly what produced it."""

    source: str
    """The path as the user gave it, '-' for standard input, or 'array'."""
    duration: float
    """Seconds of audio read."""
    segments: tuple[Segment, ...]
    model: str
    """Name of the model folder, e.g. parakeet or starter."""
    choice: Choice
    """What ran; FP32 where the recording went on in it, the reason says from when."""
    elapsed: float
    """Seconds of wall time spent on this recording, model loading not included."""
    coverage: Coverage | None = None
    """None for what was heard live."""
    language: str | None = None
    """ISO 639-1 code where the model knows but one, e.g. 'en'; None: it does not tell, or the text
    is too improbable to be in it, which a note in the coverage says."""
    date: str | None = field(default=None, compare=False)
    """When the transcript was made, ISO 8601 with the offset from UTC; None: not known."""

    def to(self, form: str, style: SubtitleStyle | None = None) -> str:
        """Return it as text.

        Args:
            form: txt, srt, vtt, ass, json or tsv.
            style: how subtitles are made; None: as by default.

        Raises:
            UsageError: there is no such format.
        """
        if form not in FORMATS:
            raise UsageError(f"{form!r} is no format; choose {', '.join(FORMATS)}")
        return FORMATS[form](self, style or DEFAULT_STYLE)

    def save(self, path: str | Path, style: SubtitleStyle | None = None) -> None:
        """Write it to a file, whole or not at all, in the format that the name ends in.

        Args:
            path: e.g. talk.srt; a file that is there is replaced.
            style: how subtitles are made; None: as by default.

        Raises:
            UsageError: the name ends in no format's suffix.
            OutputError: the file cannot be written; what was there stays.
        """
        path = Path(path)
        form = path.suffix.lower().removeprefix(".")
        if form not in FORMATS:
            endings = ", ".join(f".{known}" for known in FORMATS)
            raise UsageError(f"{path}: no format has this ending; give a name with {endings}")
        write_text(path, self.to(form, style))

    @property
    def text(self) -> str:
        """The whole text on one line."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of work (inverse real-time factor)."""
        return self.duration / self.elapsed if self.elapsed > 0 else 0.0


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


def _cues(transcript: Transcript, style: SubtitleStyle) -> list[Cue]:
    return cues(transcript.segments, transcript.duration, style)


_SUBTITLES: Mapping[str, Callable[[Transcript, SubtitleStyle], str]] = MappingProxyType(
    {
        "srt": lambda transcript, style: as_srt(_cues(transcript, style)),
        "vtt": lambda transcript, style: as_vtt(
            _cues(transcript, style), timed=style.word_timestamps
        ),
        "ass": lambda transcript, style: as_ass(
            _cues(transcript, style), timed=style.word_timestamps
        ),
    }
)
"""What looks otherwise with another style."""
FORMATS: Mapping[str, Callable[[Transcript, SubtitleStyle], str]] = MappingProxyType(
    {
        "txt": lambda transcript, _: paragraphs(transcript.segments),
        **_SUBTITLES,
        "json": lambda transcript, _: as_json(transcript),
        "tsv": lambda transcript, _: as_tsv(transcript.segments),
    }
)


def look(form: str, style: SubtitleStyle) -> str:
    """Return what the text of a format depends on beside the transcript, to be compared."""
    if form in _SUBTITLES:
        return repr(style)
    return PARAGRAPHS_LOOK if form == "txt" else ""


_OF_THE_RUN = re.compile(rb'^  "(?:date|processing_time)": .*\n', re.MULTILINE)


def essence(form: str, data: bytes) -> bytes:
    """Return what a result says, without when it was made and how long that took: to compare."""
    return _OF_THE_RUN.sub(b"", data) if form == "json" else data


def now() -> str:
    """Return the time of day as ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
