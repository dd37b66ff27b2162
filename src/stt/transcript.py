"""The values that transcripts are made of: tokens, words, segments. Frozen, with units stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args


@dataclass(frozen=True, slots=True)
class Token:
    """One token, on the encoder's frame grid (Parakeet: 80 ms a frame)."""

    id: int
    text: str
    """The vocabulary piece, a leading space marking the start of a word."""
    frame: int
    """Encoder frame at which the token was emitted, from the start of the utterance."""
    duration: int
    """Frames the token lasts: as TDT predicts, a run's length in CTC, until the next in RNN-T."""
    logprob: float
    """Natural logarithm of the token's probability among tokens and blank."""
    recovered: bool = False
    """Whether it was passed over at first, and found by decoding again (`models.transducer`)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its place in the recording."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    """Seconds from the start of the recording; never before `start`."""
    text: str
    confidence: float
    """The least probable token's probability, 0 to 1."""
    burst_at: float | None = field(default=None, compare=False)
    """Seconds at which all its tokens, more than one, were emitted at once; None for most words."""
    recovered: bool = field(default=False, compare=False)
    """Whether the decoder passed it over at first, see `Token`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence or a stretch between pauses."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    """Seconds from the start of the recording; never before `start`."""
    text: str
    confidence: float
    """Mean confidence of its words; without words, mean probability of its tokens. 0 to 1."""
    words: tuple[Word, ...] = ()
    """Empty where the model gives no word times (the Whisper starter)."""
    channel: str = ""
    """Where each channel or track was heard for itself, which: 'left', 'channel 3', 'track 2'."""


def shifted(segment: Segment, offset_s: float) -> Segment:
    """Move a segment and all times of its words by `offset_s` seconds."""
    words = tuple(
        replace(
            word,
            start=word.start + offset_s,
            end=word.end + offset_s,
            burst_at=None if word.burst_at is None else word.burst_at + offset_s,
        )
        for word in segment.words
    )
    return replace(segment, start=segment.start + offset_s, end=segment.end + offset_s, words=words)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which precision runs on which provider, and why."""

    precision: str
    """fp16, fp32 or int8."""
    provider: str
    """Short name: cpu, cuda, ..."""
    reason: str
    """One sentence for the user."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of every second of a recording: `decoded` and `skipped` are all of it."""

    decoded: float
    """Seconds that a model has heard."""
    skipped: Mapping[str, float] = field(default_factory=dict)
    """Reason -> seconds that none has: 'digital zero', 'silence', 'non-speech', 'failed'."""
    like_speech: float = 0.0
    """Seconds of the skipped that may have been speech all the same."""
    failures: tuple[str, ...] = ()
    """When and why the model made nothing of a stretch, e.g. '0:12 to 0:40: NaN in the logits', and
    why a damaged recording could not be read to its end."""
    invented: int = 0
    """Words left out because they were emitted in one burst over silence."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the recording was read, a line each; none of it a loss."""


def together(coverages: Sequence[Coverage]) -> Coverage | None:
    """Add up what became of each channel; None of none."""
    if not coverages:
        return None
    skipped: dict[str, float] = {}
    for one in coverages:
        for reason, seconds in one.skipped.items():
            skipped[reason] = skipped.get(reason, 0.0) + seconds
    return replace(
        coverages[0],
        decoded=sum(one.decoded for one in coverages),
        skipped=dict(sorted(skipped.items())),
        like_speech=sum(one.like_speech for one in coverages),
        failures=tuple(dict.fromkeys(line for one in coverages for line in one.failures)),
        invented=sum(one.invented for one in coverages),
        notes=tuple(dict.fromkeys(line for one in coverages for line in one.notes)),
    )


Format = Literal["txt", "srt", "vtt", "ass", "json", "tsv"]
FORMAT_NAMES: tuple[Format, ...] = get_args(Format)
"""What a transcript can be written as; the ending of the file."""


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """What a cue may be, and what is written of it. The defaults follow broadcasters' guides."""

    max_chars: int = 42
    """Characters in a line."""
    max_lines: int = 2
    """Lines in a cue."""
    min_duration: float = 0.5
    """Seconds a cue stays at least, unless its speech is shorter and the next follows at once: then
    it stays 0.2 s."""
    max_duration: float = 7.0
    """Seconds a cue stays at most."""
    chars_per_second: float = 17.0
    """Reading speed a cue is given time for, where there is room before the next."""
    linger: float = 0.5
    """Seconds a cue stays after its last word; a gap shorter than this is closed to `min_gap`."""
    min_gap: float = 0.08
    """Seconds between two cues, by which one sees that the text changes; where there is no room, a
    cue stays `min_duration` first."""
    word_timestamps: bool = False
    """Write when each word is said, where the format has a place for it and the model tells."""


DEFAULT_STYLE = SubtitleStyle()
