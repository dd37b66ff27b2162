"""What a transcription request asks for, from its form; and what of that cannot be had.

The fields are those of the package `openai`, `TranscriptionCreateParams`. Arrays come with brackets
(`include[]`), without, or repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from stt.serve.engine import Served
from stt.serve.problems import Problem

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
FORMATS: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
_GRANULARITIES = ("word", "segment")
_EXTENSIONS = ("stt.progress", "stt.segments", "stt.transcript")
"""Of `include`, in a stream: more events, for the page."""
_READ = frozenset(
    {
        *("file", "model", "response_format", "stream", "temperature", "timestamp_granularities"),
        *("include", "chunking_strategy", "language", "languages"),
    }
)
"""Fields that are looked at; all others are told as ignored where they say something."""
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,40}")
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, apart from its recording."""

    model: str
    """Any name."""
    response_format: ResponseFormat
    stream: bool
    words: bool
    """Whether verbose_json has words."""
    segments: bool
    """Whether verbose_json has segments."""
    include: frozenset[str]
    languages: tuple[str, ...]
    """As the client writes them, in small letters."""
    unread: tuple[str, ...]
    """Names of what was said and cannot be honoured, whatever the model."""

    @classmethod
    def of(cls, fields: Mapping[str, tuple[str, ...]]) -> Asked:
        """Read a form's fields.

        Raises:
            Problem: 400, one has a value that it cannot have.
        """
        said = _unbracketed(fields)
        stream = _flag(said, "stream")
        response_format = _response_format(said)
        granularities = _granularities(said)
        include = frozenset(said.get("include", ()))
        unread = [name for name in said if name not in _READ]
        if _temperature(said) != 0:
            unread.append("temperature")
        if any(value != "auto" for value in said.get("chunking_strategy", ())):
            unread.append("chunking_strategy")
        known = ("logprobs", *(_EXTENSIONS if stream else ()))
        unread += [f"include.{name}" for name in sorted(include - {*known})]
        if "logprobs" in include and not stream and response_format != "json":
            unread.append("include.logprobs")
        if granularities and (stream or response_format != "verbose_json"):
            unread.append("timestamp_granularities")
        if stream and response_format not in ("json", "text"):
            unread.append("response_format")
        return cls(
            model=_last(said, "model"),
            response_format=response_format,
            stream=stream,
            words="word" in granularities,
            segments=not granularities or "segment" in granularities,
            include=include,
            languages=tuple(
                value.lower() for name in ("language", "languages") for value in said.get(name, ())
            ),
            unread=tuple(unread),
        )

    @property
    def logprobs(self) -> bool:
        """Whether probabilities are wanted, where there is a place for them."""
        return "logprobs" in self.include and (self.stream or self.response_format == "json")

    def ignored(self, served: Served | None) -> tuple[str, ...]:
        """Return the names of what cannot be honoured with the model that runs."""
        names = list(self.unread)
        language = served.language if served else None
        if any(said not in (language, NAMES.get(language or "")) for said in self.languages):
            names.append("language")
        if served and not served.tells_words:
            if self.words and "timestamp_granularities" not in names:
                names.append("timestamp_granularities.word")
            if self.logprobs:
                names.append("include.logprobs")
        shown = [name if _NAME.fullmatch(name) else "a-field-with-another-name" for name in names]
        return tuple(dict.fromkeys(shown))[:_MOST_NAMES]


NAMES: Mapping[str, str] = {"en": "english"}
"""ISO 639-1 code -> name as OpenAI's interface writes it, of languages that a model knows alone."""


def _unbracketed(fields: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Join `include[]`, `include[0]` and `include`; of what is empty nothing is said."""
    said: dict[str, tuple[str, ...]] = {}
    for name, values in fields.items():
        plain = name.partition("[")[0]
        filled = tuple(value.strip() for value in values if value.strip())
        if filled:
            said[plain] = said.get(plain, ()) + filled
    return said


def _last(said: Mapping[str, tuple[str, ...]], name: str) -> str:
    return said.get(name, ("",))[-1]


def _flag(said: Mapping[str, tuple[str, ...]], name: str) -> bool:
    value = _last(said, name).lower()
    if value not in (*_YES, *_NO):
        raise _invalid(name, value, ("true", "false"))
    return value in _YES


def _temperature(said: Mapping[str, tuple[str, ...]]) -> float:
    value = _last(said, "temperature")
    try:
        return float(value or 0)
    except ValueError as error:
        raise Problem(
            400, f"temperature: {value!r} is no number", code="invalid_value", param="temperature"
        ) from error


def _response_format(said: Mapping[str, tuple[str, ...]]) -> ResponseFormat:
    value = _last(said, "response_format") or "json"
    for known in FORMATS:
        if value == known:
            return known
    if value == "diarized_json":
        raise Problem(
            400,
            "diarized_json: this server does not tell speakers apart; ask for verbose_json",
            code="unsupported_value",
            param="response_format",
        )
    raise _invalid("response_format", value, FORMATS)


def _granularities(said: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    values = tuple(
        part.strip()
        for value in said.get("timestamp_granularities", ())
        for part in value.split(",")
    )
    for value in values:
        if value not in _GRANULARITIES:
            raise _invalid("timestamp_granularities", value, _GRANULARITIES)
    return values


def _invalid(name: str, value: str, allowed: tuple[str, ...]) -> Problem:
    return Problem(
        400,
        f"{name}: {value[:80]!r} is none of {', '.join(allowed)}",
        code="invalid_value",
        param=name,
    )
