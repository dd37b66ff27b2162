"""Where two neighbouring utterances share audio, what both heard is written once.

A recording without a pause is cut through speech: then its neighbours overlap by real audio
(`stt.audio.segmenter`), so that each word is whole in one of them. They are joined by the time of
words and by what the words are, not by likeness of text.
"""

from __future__ import annotations

from collections.abc import Sequence

from stt.audio.segmenter import OVERLAP
from stt.audio.utterances import Utterance
from stt.audio.vad import FRAME
from stt.text import words
from stt.text.words import lengthened
from stt.transcript import Segment, Word, shifted
from stt.types import SAMPLE_RATE

SAME_TIME = 0.24
"""Seconds (three encoder frames) by which the start of a word may differ between two hearings."""
_CLEAR_GAP = 0.04
"""Seconds without a word, in both hearings, that are a place to change over."""


def joined(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float
) -> tuple[list[Word], list[Word]]:
    """Divide the words around a seam, so that each is there exactly once.

    They change over after a word that both heard at the same time, that nearest to the middle;
    where there is none, in the gap between words nearest to the middle.

    Args:
        left: words of the utterance before, in absolute seconds; its audio ends at `end`.
        right: words of the utterance after; its audio begins at `begin`.
        begin: seconds at which the shared audio begins.
        end: seconds at which it ends.

    Returns:
        What stays of the left and of the right.
    """
    middle = (begin + end) / 2
    pairs = [
        (i, j)
        for i, one in enumerate(left)
        if one.end > begin
        for j, other in enumerate(right)
        if other.start < end and _same(one, other) and _nearest(one, other, left, right)
    ]
    if pairs:
        i, j = min(pairs, key=lambda pair: abs(_centre(left[pair[0]]) - middle))
        return list(left[: i + 1]), list(right[j + 1 :])
    at = _change_over(left, right, begin, end)
    kept_left = [word for word in left if _centre(word) < at]
    kept_right = [word for word in right if _centre(word) >= at]
    if kept_left and kept_right and _one_sound(kept_left[-1], kept_right[0]):
        # two readings of one word: that which is farther from the end of its audio heard it whole
        if end - kept_left[-1].end >= kept_right[0].start - begin:
            kept_right.pop(0)
        else:
            kept_left.pop()
    return kept_left, kept_right


def _same(one: Word, other: Word) -> bool:
    """Tell whether two hearings are of one word: at the same time, the same letters."""
    return abs(one.start - other.start) <= SAME_TIME and _letters(one) == _letters(other)


def _nearest(one: Word, other: Word, left: Sequence[Word], right: Sequence[Word]) -> bool:
    """Tell whether of a word said several times these two are each other's nearest hearing."""
    apart = abs(one.start - other.start)
    return not any(
        _letters(word) == _letters(one) and abs(word.start - against.start) < apart
        for others, against in ((right, one), (left, other))
        for word in others
    )


def _change_over(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> float:
    """Return the middle of the gap between words, in both hearings, nearest to the middle."""
    middle = (begin + end) / 2
    spoken = sorted((w.start, w.end) for w in (*left, *right) if w.end > begin and w.start < end)
    reached, gaps = begin, []
    for start, stop in (*spoken, (end, end)):
        if start - reached >= _CLEAR_GAP:
            gaps.append((reached + start) / 2)
        reached = max(reached, stop)
    return min(gaps, key=lambda gap: abs(gap - middle), default=middle)


def _one_sound(one: Word, other: Word) -> bool:
    """Tell whether two words lie over one another by more than half of the shorter."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return shared > 0.5 * min(one.end - one.start, other.end - other.start)


def _centre(word: Word) -> float:
    return (word.start + word.end) / 2


def _letters(word: Word) -> str:
    return "".join(c for c in word.text.casefold() if c.isalnum()) or word.text


class Stitcher:
    """Joins what the utterances of one recording say, in their order."""

    def __init__(self) -> None:
        self._held: list[Segment] = []  # may go on in the next utterance
        self._left: Utterance | None = None

    def push(self, utterance: Utterance, segments: Sequence[Segment]) -> list[Segment]:
        """Take the next utterance's segments; returns those that are final.

        Args:
            utterance: where it lies.
            segments: in seconds from its own start.

        Returns:
            Segments in absolute seconds. A sentence that a cut went through is one again.
        """
        found = [shifted(segment, utterance.start / SAMPLE_RATE) for segment in segments]
        if self._left is not None and _timed(self._held) and _timed(found):
            left, right = _words(self._held), _words(found)
            begin, end = utterance.start / SAMPLE_RATE, self._left.end / SAMPLE_RATE
            if begin < end:
                left, right = joined(left, right, begin, end)
            found = words.segments(lengthened([*left, *right], utterance.end / SAMPLE_RATE))
        else:
            found = [*self._held, *found]
        self._held, self._left = [], None
        if utterance.seam:
            self._left = utterance
            final = self._final(found, utterance)
            found, self._held = found[:final], found[final:]
        return found

    def finish(self) -> tuple[Segment, ...]:
        """Return what was still held."""
        held, self._held = tuple(self._held), []
        return held

    @staticmethod
    def _final(segments: Sequence[Segment], utterance: Utterance) -> int:
        """Number of segments that the next utterance cannot change.

        Not the last sentence, nor any in what it may hear too.
        """
        shared = utterance.end / SAMPLE_RATE - 2 * OVERLAP * FRAME / SAMPLE_RATE
        reached = sum(segment.end < shared for segment in segments)
        return min(reached, max(0, len(segments) - 1))


def _timed(segments: Sequence[Segment]) -> bool:
    return all(segment.words for segment in segments)


def _words(segments: Sequence[Segment]) -> list[Word]:
    return [word for segment in segments for word in segment.words]
