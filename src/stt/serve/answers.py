"""A transcript in the forms of OpenAI's interface, see the types in the package `openai`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse, Response

from stt.serve.asked import NAMES, Asked
from stt.text.transcript import Transcript, coverage_values
from stt.transcript import Segment, SubtitleStyle

_LEAST = 1e-10
"""Probability below which none is told: its logarithm must be a number."""
_UNKNOWN_LANGUAGE = "und"
"""ISO 639-2: undetermined. The model does not tell, and the field is required."""


def answer(transcript: Transcript, asked: Asked, style: SubtitleStyle) -> Response:
    """Return what was asked for; `style` is that of subtitles."""
    form = asked.response_format
    if form == "json":
        return JSONResponse(_plain(transcript, logprobs=asked.logprobs))
    if form == "verbose_json":
        return JSONResponse(_verbose(transcript, words=asked.words, segments=asked.segments))
    if form == "text":
        return Response(f"{transcript.text}\n", media_type="text/plain")
    kinds = {"srt": "application/x-subrip", "vtt": "text/vtt"}
    return Response(transcript.to(form, style), media_type=f"{kinds[form]}; charset=utf-8")


def seconds_usage(transcript: Transcript) -> dict[str, Any]:
    """Return `usage` where it is told in seconds."""
    return {"type": "duration", "seconds": round(transcript.duration, 3)}


def tokens_usage(transcript: Transcript) -> dict[str, Any]:
    """Return `usage` where it must be told in tokens: 10 a second of audio, and one a word."""
    heard, said = math.ceil(transcript.duration * 10), len(transcript.text.split())
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
        "output_tokens": said,
        "total_tokens": heard + said,
    }


def languages(transcript: Transcript) -> dict[str, Any]:
    """Return `languages` where the model knows but one and that is heard."""
    return {"languages": [{"code": transcript.language}]} if transcript.language else {}


def logprobs(segments: Iterable[Segment], *, begun: bool = False) -> list[dict[str, Any]]:
    """Return a token for each word: together they are the text, as of `begun` the rest of one.

    A word's probability is that of its least probable token.
    """
    found = []
    for word in (word for segment in segments for word in segment.words):
        token = f" {word.text}" if begun else word.text
        begun = True
        found.append(
            {
                "token": token,
                "bytes": list(token.encode()),
                "logprob": _logarithm(word.confidence),
            }
        )
    return found


def _plain(transcript: Transcript, *, logprobs: bool) -> dict[str, Any]:
    more = {"logprobs": _logprobs(transcript)} if logprobs else {}
    return {
        "text": transcript.text,
        **languages(transcript),
        **more,
        "usage": seconds_usage(transcript),
    }


def _verbose(transcript: Transcript, *, words: bool, segments: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "task": "transcribe",
        "language": NAMES.get(transcript.language or "", transcript.language) or _UNKNOWN_LANGUAGE,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if segments:
        told["segments"] = [
            _segment(number, segment) for number, segment in enumerate(transcript.segments)
        ]
    if words:
        told["words"] = [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
            }
            for segment in transcript.segments
            for word in segment.words
        ]
    coverage = {"coverage": coverage_values(transcript.coverage)}
    return told | {"usage": seconds_usage(transcript), "stt": coverage}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    text = segment.text.encode()
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _logarithm(segment.confidence),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4) if text else 0.0,
        "no_speech_prob": 0.0,
    }


def _logprobs(transcript: Transcript) -> list[dict[str, Any]]:
    return logprobs(transcript.segments)


def _logarithm(probability: float) -> float:
    return round(math.log(max(probability, _LEAST)), 5)
