"""Which of a container's sound tracks is heard: the default, as players choose, or one named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stt.errors import AudioError

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
    if not wanted:
        flagged = (n for n, track in enumerate(tracks, 1) if _is_default(track))
        return next(flagged, 1)
    numbers = [
        number
        for number, track in enumerate(tracks, 1)
        if wanted == str(number) or _is_language(wanted, _language(track))
    ]
    if numbers:
        flagged = (number for number in numbers if _is_default(tracks[number - 1]))
        return next(flagged, numbers[0])
    raise no_such_track(name, wanted, described(tracks))


def no_such_track(name: str, wanted: str, tracks: Sequence[str]) -> AudioError:
    """Return the error for a track that is not there."""
    return AudioError(f"{name}: has no sound track {wanted}; choose from {', '.join(tracks)}")


def described(tracks: Sequence[Any]) -> tuple[str, ...]:
    """Say what each sound track is, as 'track 2 (eng, stereo, default)'."""
    return tuple(f"track {number} ({_told(track)})" for number, track in enumerate(tracks, 1))


def _told(track: Any) -> str:
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
