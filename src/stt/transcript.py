"""The values that travel: tokens, words, segments, transcripts. Frozen, with units stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stt.errors import UsageError

if TYPE_CHECKING:
    from stt.text.subtitles import SubtitleStyle


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
    """Whether it was passed over at first, and found by decoding again (`engine.redecoding`)."""


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


@dataclass(frozen=True, slots=True)
class Choice:
    """Which precision runs on which provider, and why."""

    precision: str
    """fp16, mixed, fp32 or int8."""
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


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one recording, and exactly what produced it."""

    source: str
    """The path as the user gave it, '-' for standard input, or 'array'."""
    duration: float
    """Seconds of audio read."""
    segments: tuple[Segment, ...]
    model: str
    """Name of the model folder, e.g. parakeet or starter."""
    choice: Choice
    """What ran; FP32 where the recording went on in it, the reason says from when."""
    elapsed: float
    """Seconds of wall time spent on this recording, model loading not included."""
    coverage: Coverage | None = None
    """None for what was heard live."""
    language: str | None = None
    """ISO 639-1 code where the model knows but one, e.g. 'en'; None: it does not tell, or the text
    is too improbable to be in it, which a note in the coverage says."""
    date: str | None = field(default=None, compare=False)
    """When the transcript was made, ISO 8601 with the offset from UTC; None: not known."""

    def to(self, form: str, style: SubtitleStyle | None = None) -> str:
        """Return it as text.

        Args:
            form: txt, srt, vtt, ass, json or tsv.
            style: how subtitles are made; None: as by default.

        Raises:
            UsageError: there is no such format.
        """
        from stt.text.formats import FORMATS, written
        from stt.text.subtitles import DEFAULT_STYLE

        if form not in FORMATS:
            raise UsageError(f"{form!r} is no format; choose {', '.join(FORMATS)}")
        return written(form, self, style or DEFAULT_STYLE)

    def save(self, path: str | Path, style: SubtitleStyle | None = None) -> None:
        """Write it to a file, whole or not at all, in the format that the name ends in.

        Args:
            path: e.g. talk.srt; a file that is there is replaced.
            style: how subtitles are made; None: as by default.

        Raises:
            UsageError: the name ends in no format's suffix.
            OutputError: the file cannot be written; what was there stays.
        """
        from stt.text.formats import FORMATS, write_text

        path = Path(path)
        form = path.suffix.lower().removeprefix(".")
        if form not in FORMATS:
            endings = ", ".join(f".{known}" for known in FORMATS)
            raise UsageError(f"{path}: no format has this ending; give a name with {endings}")
        write_text(path, self.to(form, style))

    @property
    def text(self) -> str:
        """The whole text on one line."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of work (inverse real-time factor)."""
        return self.duration / self.elapsed if self.elapsed > 0 else 0.0
