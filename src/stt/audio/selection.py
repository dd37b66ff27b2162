"""What of a recording is heard: which of its sound tracks and channels, from when to when."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stt.errors import AudioError, UsageError

ALL, EACH, LEFT, RIGHT = "all", "each", "left", "right"
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
        begin = _seconds("start", start) or 0.0
        made = Selection(_track(track), _channel(channel), begin, _seconds("end", end))
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


ALL_OF_IT = Selection()


def channel_number(channel: str) -> int:
    """Return the place of a channel, from 1: of 'left', 'right' or a number."""
    return {LEFT: 1, RIGHT: 2}.get(channel) or int(channel)


def channel_name(number: int, channels: int) -> str:
    """Return what one of several channels is called in results."""
    return (LEFT, RIGHT)[number - 1] if channels == 2 else f"channel {number}"


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


def _seconds(what: str, value: float | str | None) -> float | None:
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


# ISO 639-1 -> 639-2: what people type -> what containers write (both forms where there are two)
_LANGUAGES = {
    **{"bg": ("bul",), "hr": ("hrv", "scr"), "cs": ("cze", "ces"), "da": ("dan",)},
    **{"nl": ("dut", "nld"), "en": ("eng",), "et": ("est",), "fi": ("fin",)},
    **{"fr": ("fre", "fra"), "de": ("ger", "deu"), "el": ("gre", "ell"), "hu": ("hun",)},
    **{"it": ("ita",), "lv": ("lav",), "lt": ("lit",), "mt": ("mlt",), "pl": ("pol",)},
    **{"pt": ("por",), "ro": ("rum", "ron"), "sk": ("slo", "slk"), "sl": ("slv",)},
    **{"es": ("spa",), "sv": ("swe",), "ru": ("rus",), "uk": ("ukr",), "ja": ("jpn",)},
    **{"zh": ("chi", "zho"), "ko": ("kor",), "ar": ("ara",), "tr": ("tur",), "hi": ("hin",)},
    **{"no": ("nor",), "nb": ("nob",), "nn": ("nno",), "he": ("heb",), "cy": ("wel", "cym")},
}


def chosen(tracks: Sequence[Any], wanted: str, name: str) -> int:
    """Return the number, from 1, of the sound track that is heard.

    Args:
        tracks: PyAV's audio streams, one at least.
        wanted: a number, a language, or '' for the first flagged as default, else the first.
        name: what messages call the recording.

    Raises:
        AudioError: there is no such track.
    """
    numbers = [
        number
        for number, track in enumerate(tracks, 1)
        if wanted in ("", str(number)) or _is_language(wanted, _language(track))
    ]
    if not numbers:
        raise no_such_track(name, wanted, described(tracks))
    return next((n for n in numbers if _is_default(tracks[n - 1])), numbers[0])


def no_such_track(name: str, wanted: str, tracks: Sequence[str]) -> AudioError:
    """Return the error for a track that is not there."""
    return AudioError(f"{name}: has no sound track {wanted}; choose from {', '.join(tracks)}")


def described(tracks: Sequence[Any]) -> tuple[str, ...]:
    """Say what each sound track is, as 'track 2 (eng, stereo, default)'."""
    return tuple(f"track {number} ({_described(track)})" for number, track in enumerate(tracks, 1))


def _described(track: Any) -> str:
    channels = int(track.codec_context.channels)
    layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    title = " ".join(str(track.metadata.get("title", "")).split())
    title = f'"{title}"' if title and title.isprintable() else ""
    default = "default" if _is_default(track) else ""
    return ", ".join(filter(None, (_language(track), title, layout, default)))


def _language(track: Any) -> str:
    language = str(track.metadata.get("language", "")).strip().lower()
    return "" if language == "und" or not language.isprintable() else language


def _is_language(wanted: str, language: str) -> bool:
    """Compare by the first part: de is deu, ger and de-at."""
    one, other = (tag.split("-")[0] for tag in (wanted, language))
    alike = (one, *_LANGUAGES.get(one, ()))
    if len(one) == 3:
        alike += tuple(n for two, long in _LANGUAGES.items() if one in long for n in (two, *long))
    return bool(other) and other in alike


def _is_default(track: Any) -> bool:
    from av.stream import Disposition

    return bool(track.disposition & Disposition.default)
