"""Segments and cues -> text, tables and subtitles; JSON is made by `stt.text.transcript`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from stt.text.subtitles import Cue, channel_label, one_line
from stt.text.words import ends_sentence
from stt.transcript import Segment

PARAGRAPHS_LOOK = "paragraphs 1"
"""Names this rule: a text written by another is written anew."""
_PAUSE_S, _SHORT_PAUSE_S, _SILENCE_S = 2.0, 0.8, 5.0
"""Seconds before which a paragraph ends: behind a sentence; behind the `_GROWN`th; in any case."""
_GROWN, _LONGEST = 4, 10
"""Sentences."""


class Paragraphs:
    """Segments put together as they come to plain text, as a person would paste it.

    A paragraph is one line, and an empty line stands between two; with a `width` lines are broken
    at words. A paragraph ends with a sentence: before a long pause, or before a shorter one when it
    has grown, or when it has become long, or where another channel speaks. In a text without
    sentences only a very long pause ends one.
    """

    def __init__(self, width: Callable[[], int | None] = lambda: None) -> None:
        """`width`: columns there are at the moment; None: as many as a paragraph needs."""
        self._width = width
        self._column = 0
        self._sentences = 0
        self._end = 0.0
        self._complete = True  # the last sentence
        self._begun = False
        self._channel = ""

    def take(self, segments: Iterable[Segment]) -> str:
        """Return the text of the next segments."""
        return "".join(self._piece(segment) for segment in segments)

    def _piece(self, segment: Segment) -> str:
        text = one_line(segment.text)
        if not text:
            return ""
        parts = []
        breaks = self._begun and self._breaks_before(segment)
        if breaks:
            parts.append("\n\n" if self._column else "\n")
            self._column = self._sentences = 0
        label = channel_label(segment.channel) if breaks or not self._begun else ""
        parts.append(self._laid_out(label + text))
        words = text.split(" ")
        self._sentences += sum(ends_sentence(word) for word in words)
        self._complete = ends_sentence(words[-1])
        self._end, self._begun, self._channel = segment.end, True, segment.channel
        return "".join(parts)

    def _breaks_before(self, segment: Segment) -> bool:
        if segment.channel != self._channel:
            return True
        pause = segment.start - self._end
        if pause >= _SILENCE_S:
            return True
        if not self._complete:
            return False
        grown = self._sentences >= _GROWN and pause >= _SHORT_PAUSE_S
        return pause >= _PAUSE_S or grown or self._sentences >= _LONGEST

    def _laid_out(self, text: str) -> str:
        """Return words behind those that are there, in lines no longer than the width."""
        width = self._width()
        if width is None:
            space = " " if self._column else ""
            self._column += len(space + text)
            return space + text
        return "".join(self._word(word, width) for word in text.split(" "))

    def _word(self, word: str, width: int) -> str:
        from rich.cells import cell_len

        size = (
            cell_len(word) or 1
        )  # what takes no room by itself, an emoji's tint, begins a line too
        if self._column and self._column + 1 + size > width:
            self._column = size
            return f"\n{word}"
        space = " " if self._column else ""
        self._column += len(space) + size
        return space + word

    def end_line(self) -> str:
        """Return what ends a line that has begun, at the end or before something else is shown."""
        ends, self._column = "\n" if self._column else "", 0
        return ends


def paragraphs(segments: Iterable[Segment]) -> str:
    """Return the whole text: a line for each paragraph, an empty line between two."""
    building = Paragraphs()
    return building.take(segments) + building.end_line()


_ASS_HEAD = """\
[Script Info]
ScriptType: v4.00+
WrapStyle: 2
ScaledBorderAndShadow: yes
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,60,&H00FFFFFF,&H00A0A0A0,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,\
60,60,60,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""White on a black outline, at the foot of a picture of any size; lines break where ours do. Words
that are not said yet are grey. (Aegisub's "ASS File Format".)"""


def as_tsv(segments: Iterable[Segment]) -> str:
    """Whisper's table: start and end in milliseconds, text; tabs in the text become spaces."""
    rows = (
        f"{_ms(segment.start)}\t{_ms(segment.end)}\t{text}\n"
        for segment in segments
        if (text := _line(segment))
    )
    return "".join(["start\tend\ttext\n", *rows])


def _line(segment: Segment) -> str:
    text = one_line(segment.text)
    return f"{channel_label(segment.channel)}{text}" if text else ""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def as_srt(cues: Iterable[Cue]) -> str:
    """SubRip subtitles. The format has no escapes: an arrow in the text loses a dash."""
    blocks = (
        f"{number}\n{_block(cue, ',', [line.replace('-->', '->') for line in cue.lines])}"
        for number, cue in enumerate(cues, start=1)
    )
    return "\n".join(blocks)


def as_vtt(cues: Iterable[Cue], *, timed: bool) -> str:
    """WebVTT subtitles, `&`, `<` and `>` escaped (W3C WebVTT, "cue text").

    `timed`: each word but the first follows the time at which it is said, as
    `<00:00:01.000><c>word</c>`: a player can tell words that are past from those to come.
    """
    blocks = (_block(cue, ".", _vtt_lines(cue, timed=timed)) for cue in cues)
    return "\n".join(["WEBVTT\n", *blocks])


def as_ass(cues: Iterable[Cue], *, timed: bool) -> str:
    """Advanced SubStation Alpha; `timed`: words light up as they are said (`\\k`)."""
    events = (
        f"Dialogue: 0,{_ass_clock(cue.start)},{_ass_clock(cue.end)},Default,,0,0,0,,"
        f"{_ass_text(cue, timed=timed)}\n"
        for cue in cues
    )
    return _ASS_HEAD + "".join(events)


def _block(cue: Cue, decimal_sign: str, lines: Sequence[str]) -> str:
    times = f"{_clock(cue.start, decimal_sign)} --> {_clock(cue.end, decimal_sign)}"
    return "".join(f"{line}\n" for line in (times, *lines))


def _clock(seconds: float, decimal_sign: str) -> str:
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{decimal_sign}{ms:03}"


# --- WebVTT ----------------------------------------------------------------------------------


def _vtt_lines(cue: Cue, *, timed: bool) -> list[str]:
    if not (timed and _is_heard(cue)):
        return [_vtt_escaped(line) for line in cue.lines]
    before = cue.start
    lines = []
    for line in cue.words:
        shown = []
        for word in line:
            stamp = ""
            if before < word.start < cue.end:  # times must rise within the cue (section 6.4)
                stamp, before = f"<{_clock(word.start, '.')}>", word.start
            shown.append(f"{stamp}<c>{_vtt_escaped(word.text)}</c>")
        lines.append(" ".join(shown))
    return lines


def _vtt_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_heard(cue: Cue) -> bool:
    """Whether the model told when each word was said."""
    return all(word.heard for line in cue.words for word in line)


# --- ASS -------------------------------------------------------------------------------------


def _ass_clock(seconds: float) -> str:
    whole, cs = divmod(_centiseconds(seconds), 100)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{cs:02}"


def _centiseconds(seconds: float) -> int:
    return round(seconds * 1000) // 10


def _ass_text(cue: Cue, *, timed: bool) -> str:
    words = [word for line in cue.words for word in line]
    stamps = [""] * len(words)
    if timed and _is_heard(cue):
        edges = [cue.start, *(max(cue.start, word.start) for word in words[1:]), cue.end]
        lasts = (_centiseconds(b) - _centiseconds(a) for a, b in pairwise(edges))
        stamps = [f"{{\\k{max(0, last)}}}" for last in lasts]
    shown = iter([f"{stamp}{_ass_escaped(w.text)}" for stamp, w in zip(stamps, words, strict=True)])
    return "\\N".join(" ".join(next(shown) for _ in line) for line in cue.words)


def _ass_escaped(text: str) -> str:
    """Braces by a backslash, a backslash by a word joiner: "\\N" in a text is no line break."""
    return text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")
