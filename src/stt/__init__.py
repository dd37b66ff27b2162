"""Speech to text on your own machine with NVIDIA Parakeet TDT and ONNX Runtime.

    import stt

    transcript = stt.transcribe("meeting.m4a")
    print(transcript.text)

`load` keeps a model for many recordings; `live` hears the microphone. Everything is imported when
first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from stt.errors import SttError
    from stt.streaming.stream import Listening
    from stt.text.transcript import Transcript
    from stt.transcriber import Transcriber, load
    from stt.transcript import Choice, Segment, Word

# ONNX Runtime's wheels carry a telemetry client; nothing here reports to anybody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Choice",
    "Segment",
    "SttError",
    "Transcriber",
    "Transcript",
    "Word",
    "live",
    "load",
    "transcribe",
]

_HOMES = {
    "Choice": "stt.transcript",
    "Segment": "stt.transcript",
    "SttError": "stt.errors",
    "Transcriber": "stt.transcriber",
    "Transcript": "stt.text.transcript",
    "Word": "stt.transcript",
    "load": "stt.transcriber",
}


def __getattr__(name: str) -> Any:
    """Import a public name, or the version, when it is first asked for (PEP 562)."""
    if name == "__version__":
        from stt.system.packages import stt_version

        return stt_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'stt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def transcribe(
    source: str | Path | npt.NDArray[Any],
    model: str | Path | None = None,
    *,
    sample_rate: int | None = None,
    precision: str | None = None,
    provider: str | None = None,
    track: int | str | None = None,
    channel: int | str | None = None,
    start: float | str | None = None,
    end: float | str | None = None,
) -> Transcript:
    """Transcribe one recording, loading the model for it; `load` keeps one for many.

    Args:
        source: a path, '-' for standard input, or samples (float [n] or [n, channels] in ±1).
        model: auto, an installed model's name, or a model folder.
        sample_rate: Hz of an array, which must have it; ignored for files.
        precision: auto, fp16, fp32 or int8.
        provider: auto, cpu, cuda, ...
        track: a sound track's number from 1, its language (eng, en), 'all' for each of them by
            itself, or None for the default one.
        channel: 'left', 'right', a number from 1, 'each' for each of them by itself, or None for
            all of them mixed.
        start: seconds, or h:m:s as text, from which on the recording is heard.
        end: likewise, to which; None for its end. Times in the result are the recording's.

    Raises:
        SttError: with the cure in the text.
    """
    from stt.audio.selection import Selection
    from stt.transcriber import load

    Selection.of(track, channel, start, end)  # refuse it before a model is loaded
    transcriber = load(model, precision=precision, provider=provider)
    heard = transcriber.hearing(track=track, channel=channel, start=start, end=end)
    return heard.transcribe(source, sample_rate=sample_rate)


def live(
    device: str | int | None = None,
    model: str | Path | None = None,
    *,
    record: str | Path | None = None,
    precision: str | None = None,
    provider: str | None = None,
) -> Listening:
    """Transcribe the microphone: `for event in stt.live(): ...` gives the events of `stt.events`.

    Args:
        device: the microphone's number or (part of) its name; None is the default.
        model: auto, an installed model's name, or a model folder.
        record: FLAC file to keep the sound in; without it the recording is deleted in the end.
        precision: auto, fp16, fp32 or int8.
        provider: auto, cpu, cuda, ...

    Raises:
        SttError: with the cure in the text.
    """
    from pathlib import Path

    from stt.settings.loading import load_settings
    from stt.streaming.stream import Listening
    from stt.transcriber import load_with

    name = None if model is None else str(model)
    given = {"model": name, "precision": precision, "provider": provider}
    loaded = load_with(load_settings(None, given), live=True)
    return Listening(loaded, device, None if record is None else Path(record))
