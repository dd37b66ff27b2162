"""Wyoming's events, read within bounds; and what this server says of itself.

The protocol is a line of JSON, with more JSON and a payload behind it where the line says how long
they are. The package `wyoming` has its types; its own reader takes any length for granted.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioFormat, AudioStart, AudioStop
from wyoming.event import Event, Eventable
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping

from stt.install.catalog import KNOWN
from stt.serve.engine import Served
from stt.serve.problems import Problem
from stt.system.packages import stt_version
from stt.types import Samples

LONGEST_LINE = 1 << 16
"""Bytes."""
_LONGEST_DATA, _LONGEST_PAYLOAD = 1 << 20, 1 << 20
_KNOWN = (Describe, Ping, Transcribe, AudioStart, AudioChunk, AudioStop)
_LEAST_RATE, _MOST_RATE, _WIDTHS, _CHANNELS = 1000, 768_000, range(1, 5), range(1, 33)
_HOME = Attribution("the stt founders", "")
_EUROPEAN = (
    *("bg", "hr", "cs", "da", "nl", "en", "et", "fi", "fr", "de", "el", "hu", "it", "lv"),
    *("lt", "mt", "pl", "pt", "ro", "sk", "sl", "es", "sv", "ru", "uk"),
)
"""Those of Parakeet TDT 0.6b v3 (its model card)."""


class Garbage(ValueError):  # noqa: N818 - it says what was sent
    """What a client sent is no event; nothing that follows can be understood."""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """Read an event; None where the client has left.

    Raises:
        Garbage: it is none, or longer than any.
    """
    try:
        line = await reader.readline()
        if not line:
            return None
        head = json.loads(line)
        data = head.get("data") or {}
        if size := _size(head, "data_length", _LONGEST_DATA):
            data = {**data, **json.loads(await reader.readexactly(size))}
        size = _size(head, "payload_length", _LONGEST_PAYLOAD)
        payload = await reader.readexactly(size) if size else None
        if not isinstance(head["type"], str):
            raise Garbage("the type of an event is a text")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Garbage(f"no event: {type(error).__name__}") from error
    return Event(head["type"], data, payload)


def parsed(event: Event) -> Eventable | None:
    """Return an event as what it is; None: nothing that this server has an answer to.

    Raises:
        Garbage: its data are not as Wyoming has them.
    """
    if AudioChunk.is_type(event.type) and not event.payload:
        return None
    try:
        for kind in _KNOWN:
            if kind.is_type(event.type):
                return kind.from_event(event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Garbage(f"{event.type[:40]} is not as Wyoming has it") from error
    return None


def _size(head: dict[str, Any], name: str, most: int) -> int:
    size = head.get(name) or 0
    if not isinstance(size, int) or not 0 <= size <= most:
        raise Garbage(f"{name} is no length up to {most}")
    return size


def info(served: Served | None) -> Info:
    """Describe the server; before the model was loaded it says less of it."""
    version = stt_version()
    name = served.model if served else "stt"
    known = KNOWN.get(name)
    english = known is not None and known.languages == "English"
    language = (served.language if served else None) or ("en" if english else None)
    about = f"{name}, {served.choice.precision} on {served.choice.provider}" if served else name
    model = AsrModel(
        name=name,
        attribution=_HOME,
        installed=True,
        description=about,
        version=version,
        languages=[language] if language else list(_EUROPEAN),
    )
    program = AsrProgram(
        name="stt",
        attribution=_HOME,
        installed=True,
        description="Parakeet on ONNX Runtime, on this machine",
        version=version,
        models=[model],
        supports_transcript_streaming=True,
        prefers_auto_gain_enabled=False,
        prefers_noise_reduction_enabled=False,
    )
    return Info(asr=[program])


def checked(form: AudioFormat) -> AudioFormat:
    """Return a format that there is.

    Raises:
        Problem: 400, there is none of this kind.
    """
    rate, width, channels = form.rate, form.width, form.channels
    whole = all(type(value) is int for value in (rate, width, channels))
    if whole and _LEAST_RATE <= rate <= _MOST_RATE and width in _WIDTHS and channels in _CHANNELS:
        return AudioFormat(rate, width, channels)
    raise Problem(
        400,
        f"audio of {rate} Hz, {width} bytes a sample and {channels} channels cannot be read here",
        code="invalid_audio",
    )


def samples(data: bytes, width: int) -> Samples:
    """Return float32 [n] in ±1 of little-endian PCM; 8 bits are unsigned, as in WAV."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        whole = np.zeros((len(data) // 3, 4), np.uint8)
        whole[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return whole.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    kind, scale = ("<i2", 2**15) if width == 2 else ("<i4", 2**31)
    return np.frombuffer(data, kind).astype(np.float32) / np.float32(scale)
