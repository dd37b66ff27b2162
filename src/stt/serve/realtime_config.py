"""What a client of a realtime session asks for: read from its updates, in both dialects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stt.serve.socket_audio import G711_RATE, LEAST_RATE, MOST_RATE, AudioFormat, Encoding
from stt.serve.turns import Endpointing
from stt.streaming.endpoint import PRE_ROLL, SHORTEST_PATIENCE_S
from stt.streaming.session import FRAME_S

LOGPROBS = "item.input_audio_transcription.logprobs"
INCLUDES = frozenset({LOGPROBS, "stt.draft", "stt.level", "stt.words"})
PRE_ROLL_MS = round(PRE_ROLL * FRAME_S * 1000)
"""Of audio before speech that is heard with it, whatever is asked for."""
_LONGEST_PATIENCE_S = 10.0
_COMMITTED_BY_CLIENT = ("gpt-realtime-whisper", "gpt-live-transcribe")
"""Models of OpenAI's that find no end of speech: clients that name them commit."""
_BETA = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
"""Names of the older dialect for what `audio.input` has now."""
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


class BadEvent(ValueError):  # noqa: N818 - it is the client's
    """A client's event that cannot be followed; the text is for the client."""

    def __init__(
        self, message: str, *, code: str = "invalid_value", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.param = code, param


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What is in force."""

    form: AudioFormat = field(default_factory=AudioFormat)
    endpointing: Endpointing | None = None
    """None: the client has not said, see `ends`."""
    transcription: Mapping[str, Any] | None = None
    """As it was asked for."""
    include: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Names of what was asked for and is not done."""

    @property
    def ends(self) -> Endpointing:
        """Who ends items, and how."""
        if self.endpointing is not None:
            return self.endpointing
        model = str((self.transcription or {}).get("model") or "")
        return Endpointing(by_client=model.startswith(_COMMITTED_BY_CLIENT))


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    @property
    def extra(self) -> dict[str, Any]:
        """What is given and not known here."""
        return self.model_extra or {}

    @property
    def others(self) -> list[str]:
        """Names of what of it is other than null, false or empty."""
        return [name for name, value in self.extra.items() if value]


class _Format(_Asked):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int | None = Field(None, ge=LEAST_RATE, le=MOST_RATE)


class _Turns(_Asked):
    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = Field(None, ge=0, le=1)
    prefix_padding_ms: float | None = Field(None, ge=0)
    silence_duration_ms: float | None = Field(None, ge=0)


class _Transcription(_Asked):
    model: str | None = None
    language: str | None = None


class _Input(_Asked):
    format: _Format | None = None
    turn_detection: _Turns | None = None
    transcription: _Transcription | None = None


class _Audio(_Asked):
    input: _Input = Field(default_factory=_Input)


class _Session(_Asked):
    type: Literal["transcription"] = "transcription"
    audio: _Audio = Field(default_factory=_Audio)
    include: list[str] | None = None


_OURS = {"id", "object", "expires_at", "stt"}
"""What a client may send back as it was told."""


def updated(
    config: SessionConfig, session: Any, *, beta: bool, language: str | None
) -> SessionConfig:
    """Return a configuration with what a client's `session` object changes.

    Args:
        config: what is in force.
        session: of the client's event.
        beta: whether it is in the older dialect.
        language: ISO 639-1 code where the model knows but one.

    Raises:
        BadEvent: it cannot be.
    """
    if not isinstance(session, dict):
        raise BadEvent("session must be an object", code="invalid_type", param="session")
    try:
        asked = _Session.model_validate(_from_beta(session) if beta else session)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(["session", *map(str, first["loc"])])
        raise BadEvent(f"{place}: {first['msg']}", param=place) from error
    given = asked.audio.input
    names = given.model_fields_set
    config = _with_unknown(config, {**asked.extra, **asked.audio.extra, **given.extra})
    if "format" in names:
        config = replace(config, form=_format(given.format))
    if "transcription" in names and given.transcription is not None:
        config = _with_transcription(config, given.transcription, language)
    if "turn_detection" in names:
        config = _with_turns(config, given.turn_detection)
    if "include" in asked.model_fields_set:
        config = _with_include(config, asked.include or [])
    return config


def _from_beta(session: dict[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in session.items() if name not in _BETA}
    given = {_BETA[name]: value for name, value in session.items() if name in _BETA}
    form = given.get("format")
    if isinstance(form, str):
        given["format"] = {"type": _BETA_FORMATS.get(form, form)}
    return {**asked, "type": "transcription", "audio": {"input": given}}


def _with_unknown(config: SessionConfig, extra: dict[str, Any]) -> SessionConfig:
    """`extra`: what no session here has, noise_reduction among it."""
    others = set(config.ignored) - set(extra)
    names = {name for name, value in extra.items() if value and name not in _OURS}
    return replace(config, ignored=tuple(sorted(others | names)))


def _format(asked: _Format | None) -> AudioFormat:
    if asked is None or asked.type == "audio/pcm":
        return AudioFormat("pcm", (asked and asked.rate) or AudioFormat().rate)
    if asked.rate not in {None, G711_RATE}:
        raise BadEvent("G.711 has 8000 Hz", param="session.audio.input.format.rate")
    return AudioFormat(cast("Encoding", asked.type.removeprefix("audio/")), G711_RATE)


def _with_transcription(
    config: SessionConfig, asked: _Transcription, language: str | None
) -> SessionConfig:
    """What a model that hears for itself cannot be told is named."""
    names = {f"transcription.{name}" for name in asked.others}
    if asked.language and asked.language.split("-")[0].lower() != language:
        names.add("transcription.language")
    given = {**(config.transcription or {}), **asked.model_dump(exclude_unset=True)}
    return replace(config, transcription=given, ignored=_named(config, "transcription.", names))


def _with_turns(config: SessionConfig, asked: _Turns | None) -> SessionConfig:
    if asked is None:
        ends, names = Endpointing(by_client=True), set[str]()
    else:
        names = {f"turn_detection.{name}" for name in asked.others}
        if asked.type != "server_vad":
            names.add("turn_detection.type")
        if asked.prefix_padding_ms not in {None, PRE_ROLL_MS}:
            names.add("turn_detection.prefix_padding_ms")
        threshold = 0.5 if asked.threshold is None else asked.threshold
        ends = Endpointing(threshold=threshold, patience_s=_patience(asked.silence_duration_ms))
    return replace(config, endpointing=ends, ignored=_named(config, "turn_detection.", names))


def _patience(silence_ms: float | None) -> float | None:
    if silence_ms is None:
        return None
    return min(max(silence_ms / 1000, SHORTEST_PATIENCE_S), _LONGEST_PATIENCE_S)


def _with_include(config: SessionConfig, asked: list[str]) -> SessionConfig:
    names = {f"include.{name}" for name in asked if name not in INCLUDES}
    known = tuple(dict.fromkeys(name for name in asked if name in INCLUDES))
    return replace(config, include=known, ignored=_named(config, "include.", names))


def _named(config: SessionConfig, prefix: str, names: set[str]) -> tuple[str, ...]:
    """Names of what is ignored now, those of one part anew."""
    others = {name for name in config.ignored if not name.startswith(prefix)}
    return tuple(sorted(others | names))
