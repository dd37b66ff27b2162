"""What of a recording is heard: which sound track, which channels, from when to when."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stt.audio.channels import LEFT, RIGHT
from stt.audio.damage import Damage
from stt.audio.raw import RawAudio
from stt.errors import AudioError, UsageError

Samples = npt.NDArray[np.float32]

ALL, EACH = "all", "each"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)*", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")
_SIXTY = 60
"""Minutes in an hour and seconds in a minute."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of a recording. The default is all of it: the default track, its channels mixed."""

    track: str = ""
    """A number from 1, a language (ISO 639: eng, en), 'all', or '' for the default track."""
    channel: str = ""
    """'left', 'right', a number from 1, 'each', or '' for all of them mixed."""
    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None: the end of the recording."""

    @staticmethod
    def of(
        track: int | str | None = None,
        channel: int | str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
    ) -> Selection:
        """Return a selection as a person states it.

        Args:
            track: a number from 1, a language, 'all', or None for the default track.
            channel: left, right, a number from 1, 'each', or None for all mixed.
            start: seconds, or h:m:s as text.
            end: likewise; None for the end of the recording.

        Raises:
            UsageError: one of them cannot be, or the end is not after the start.
        """
        made = Selection(
            _track(track), _channel(channel), _seconds("start", start), _end("end", end)
        )
        if made.end is not None and made.end <= made.start:
            raise UsageError(
                f"the end ({clock(made.end)}) must lie after the start ({clock(made.start)})"
            )
        if (made.track, made.channel) == (ALL, EACH):
            raise UsageError("track all and channel each do not go together: choose one of them")
        return made

    @property
    def has_parts(self) -> bool:
        """Whether each track or channel is heard for itself."""
        return self.track == ALL or self.channel == EACH

    def part(self, number: int) -> Selection:
        """Return the selection of one of the parts, from 1."""
        track = str(number) if self.track == ALL else self.track
        channel = str(number) if self.channel == EACH else self.channel
        return replace(self, track=track, channel=channel)


def _track(track: int | str | None) -> str:
    text = "" if track is None else str(track).strip().lower()
    if text in ("", ALL) or _is_number(text) or _LANGUAGE.fullmatch(text):
        return text
    raise UsageError(f"track {track!r}: give a number from 1, a language such as eng, or all")


def _channel(channel: int | str | None) -> str:
    text = "" if channel is None else str(channel).strip().lower()
    if text in ("", LEFT, RIGHT, EACH) or _is_number(text):
        return text
    raise UsageError(f"channel {channel!r}: give left, right, a number from 1, or each")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text) <= 999


def _seconds(what: str, value: float | str | None) -> float:
    found = 0.0 if value is None else _end(what, value)
    assert found is not None
    return found


def _end(what: str, value: float | str | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        match = _CLOCK.fullmatch(value.strip())
        hours, minutes, seconds = match.groups() if match else (None, None, "nan")
        if (hours and minutes and int(minutes) >= _SIXTY) or (minutes and float(seconds) >= _SIXTY):
            raise UsageError(
                f"the {what} {value.strip()} is not a time: behind a colon only 0 to 59 can stand; "
                "give seconds alone (159) or h:m:s (2:39)"
            )
        value = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"the {what} is not a time: give seconds (90) or h:m:s (1:30, 1:02:03.5)")
    return float(value)


def clock(seconds: float) -> str:
    """Return seconds as 0:07.5, 12:40 or 1:02:05."""
    whole, tenths = divmod(round(seconds * 10), 10)
    text = f"{whole // 60 % 60}:{whole % 60:02}"
    if whole >= 3600:
        text = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{text}.{tenths}" if tenths else text


def stretch(raw: RawAudio, selection: Selection, name: str, damage: Damage) -> Iterator[Samples]:
    """Yield the part of a sound track's blocks that lies between the selection's start and end.

    `damage` takes a note where it ends before the end that was asked for.

    Raises:
        AudioError: the start lies beyond the recording's end.
    """
    rate, place = raw.sample_rate, raw.began
    first = round(selection.start * rate)
    last = None if selection.end is None else round(selection.end * rate)
    for block in raw.blocks:
        wanted = block[max(0, first - place) : None if last is None else max(0, last - place)]
        place += len(block)
        if len(wanted):
            yield wanted
        if last is not None and place >= last:
            return
    if first and place <= first:
        raise AudioError(
            f"{name}: the start ({clock(selection.start)}) lies beyond its end "
            f"({clock(place / rate)}); give an earlier one"
        )
    if last is not None and place < last - rate // 10:
        damage.note(f"ends at {clock(place / rate)}, before the end that was asked for")
