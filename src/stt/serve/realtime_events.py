"""Events of realtime sessions as JSON objects, in both dialects; the types are openai's.

The older dialect (openai/types/beta/realtime) has another session object, and one event for an item
where there are two now. What begins with `stt.` is ours, and sent only where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from stt.events import Level, Problem
from stt.serve.engine import Served
from stt.serve.realtime_config import LOGPROBS, PRE_ROLL_MS, SessionConfig
from stt.serve.socket_audio import AudioFormat
from stt.serve.turns import Completed
from stt.transcript import Segment

EventObject = dict[str, Any]
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_BETA_FORMATS = {"pcm": "pcm16", "pcmu": "g711_ulaw", "pcma": "g711_alaw"}


def session_event(
    what: str, identity: Mapping[str, Any], config: SessionConfig, served: Served | None
) -> EventObject:
    """`what`: created or updated; `identity`: the session's id and when it expires."""
    session = {
        **identity,
        "object": "realtime.transcription_session",
        "type": "transcription",
        "audio": {
            "input": {
                "format": _format(config.form),
                "transcription": _transcription(config),
                "noise_reduction": None,
                "turn_detection": _turn_detection(config),
            }
        },
        "include": list(config.include) or None,
        "stt": _ours(config, served),
    }
    return {"type": f"session.{what}", "session": session}


def beta_session_event(
    what: str, identity: Mapping[str, Any], config: SessionConfig, served: Served | None
) -> EventObject:
    """The same in the older dialect."""
    session = {
        **identity,
        "object": "realtime.transcription_session",
        "modalities": ["text"],
        "input_audio_format": _BETA_FORMATS[config.form.encoding],
        "input_audio_transcription": _transcription(config),
        "input_audio_noise_reduction": None,
        "turn_detection": _turn_detection(config),
        "include": list(config.include) or None,
        "client_secret": None,
        "stt": _ours(config, served) | {"rate": config.form.rate},
    }
    return {"type": f"transcription_session.{what}", "session": session}


def _format(form: AudioFormat) -> EventObject:
    told: EventObject = {"type": f"audio/{form.encoding}"}
    return told | {"rate": form.rate} if form.encoding == "pcm" else told


def _transcription(config: SessionConfig) -> EventObject:
    return {"model": None, "language": None, "prompt": None, **(config.transcription or {})}


def _turn_detection(config: SessionConfig) -> EventObject | None:
    """What is in force, which may be other than what was asked for."""
    ends = config.ends
    if ends.by_client:
        return None
    patience = None if ends.patience_s is None else round(ends.patience_s * 1000)
    return {
        "type": "server_vad",
        "threshold": ends.threshold,
        "prefix_padding_ms": PRE_ROLL_MS,
        "silence_duration_ms": patience,
    }


def _ours(config: SessionConfig, served: Served | None) -> EventObject:
    told: EventObject = {"ignored": list(config.ignored)}
    if served is not None:
        choice = served.choice
        told |= {
            "model": served.model,
            "precision": choice.precision,
            "provider": choice.provider,
            "reason": choice.reason,
        }
    return told


def error_event(error: Mapping[str, Any], event_id: str | None = None) -> EventObject:
    """`event_id`: of the client's event that it is about."""
    return {"type": "error", "error": {**error, "event_id": event_id}}


def bad_event(message: str, code: str, param: str | None, event_id: str | None) -> EventObject:
    """A client's event that cannot be followed."""
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
    return error_event(error, event_id)


def cleared() -> EventObject:
    """What was not committed is forgotten."""
    return {"type": "input_audio_buffer.cleared"}


def speech_started(item_id: str, at_s: float) -> EventObject:
    """`at_s`: in the session's audio, what is heard before speech included."""
    at = {"audio_start_ms": round(at_s * 1000), "item_id": item_id}
    return {"type": "input_audio_buffer.speech_started", **at}


def speech_stopped(item_id: str, at_s: float) -> EventObject:
    """`at_s`: in the session's audio, what is heard after speech included."""
    at = {"audio_end_ms": round(at_s * 1000), "item_id": item_id}
    return {"type": "input_audio_buffer.speech_stopped", **at}


def committed(item_id: str, previous: str | None, *, beta: bool) -> list[EventObject]:
    """An item has all its audio, and is in the conversation."""
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    names = ("created",) if beta else ("added", "done")
    return [
        {
            "type": "input_audio_buffer.committed",
            "previous_item_id": previous,
            "item_id": item_id,
        },
        *(
            {"type": f"conversation.item.{name}", "previous_item_id": previous, "item": item}
            for name in names
        ),
    ]


def delta(item_id: str, text: str) -> EventObject:
    """More words, which will not change."""
    return {
        "type": f"{_TRANSCRIPTION}.delta",
        "item_id": item_id,
        "content_index": 0,
        "delta": text,
    }


def completed(item_id: str, item: Completed, include: Iterable[str]) -> EventObject:
    """All of an item is known."""
    told: EventObject = {
        "type": f"{_TRANSCRIPTION}.completed",
        "item_id": item_id,
        "content_index": 0,
        "transcript": item.text,
        "usage": {"type": "duration", "seconds": round(item.end - item.start, 3)},
    }
    return told | {"logprobs": _logprobs(item.segments)} if LOGPROBS in include else told


def failed(item_id: str, error: Mapping[str, Any]) -> EventObject:
    """Not all of an item can be known."""
    return {
        "type": f"{_TRANSCRIPTION}.failed",
        "item_id": item_id,
        "content_index": 0,
        "error": dict(error),
    }


def _logprobs(segments: Iterable[Segment]) -> list[EventObject]:
    """One for each word: its least probable token's; without words, one for each segment."""
    found = [
        (word.text, word.confidence) for segment in segments for word in segment.words or (segment,)
    ]
    return [
        {
            "token": (text := f" {word}" if number else word),
            "bytes": list(text.encode()),
            "logprob": math.log(max(probability, 1e-9)),
        }
        for number, (word, probability) in enumerate(found)
    ]


def words(item_id: str, item: Completed) -> EventObject:
    """When each word of an item was said; none where the model does not tell."""
    return {
        "type": "stt.words",
        "item_id": item_id,
        "start_s": round(item.start, 3),
        "end_s": round(item.end, 3),
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
            }
            for segment in item.segments
            for word in segment.words
        ],
    }


def draft(item_id: str, said: str, text: str) -> EventObject:
    """How an item reads now."""
    return {"type": "stt.draft", "item_id": item_id, "committed": said, "draft": text}


def level(event: Level) -> EventObject:
    """How loud it is."""
    return {
        "type": "stt.level",
        "at_s": round(event.at, 3),
        "rms_db": round(event.rms_db, 1),
        "peak_db": round(event.peak_db, 1),
        "speech": round(event.speech, 3),
        "lag_s": round(event.lag_s, 3),
    }


def problem(event: Problem) -> EventObject:
    """Something that the user should know."""
    return {"type": "stt.problem", "kind": event.kind, "message": event.message}
