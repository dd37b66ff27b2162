"""Segments -> paragraphs: plain text as a person would paste it, also while it is still being said.

A paragraph ends with a sentence: before a long pause, or before a shorter one when it has grown, or
when it has become long, or where another channel speaks. In a text without sentences only a very
long pause ends one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stt.text.subtitles import channel_label, one_line
from stt.text.words import ends_sentence
from stt.transcript import Segment

LOOK = "paragraphs 1"
"""Names this rule: a text written by another is written anew."""
_PAUSE_S, _SHORT_PAUSE_S, _SILENCE_S = 2.0, 0.8, 5.0
"""Seconds before which a paragraph ends: behind a sentence; behind the `_GROWN`th; in any case."""
_GROWN, _LONGEST = 4, 10
"""Sentences."""


class Paragraphs:
    """Puts segments together as they come; what it returns, one after the other, is the text.

    A paragraph is one line, and an empty line stands between two; with a `width` lines are broken
    at words.
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

        size = cell_len(word)
        if self._column and self._column + 1 + size > width:
            self._column = size
            return f"\n{word}"
        space = " " if self._column else ""
        self._column += len(space) + size
        return space + word

    def interrupted(self) -> str:
        """Return what ends the line, for something else to be shown in between; '' at its start."""
        ends, self._column = "\n" if self._column else "", 0
        return ends

    def finish(self) -> str:
        """Return the end of the text."""
        return self.interrupted()


def paragraphs(segments: Iterable[Segment]) -> str:
    """Return the whole text: a line for each paragraph, an empty line between two."""
    building = Paragraphs()
    return building.take(segments) + building.finish()
