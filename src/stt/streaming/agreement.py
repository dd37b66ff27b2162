"""From successive hypotheses of a growing utterance: words that stand, and a draft.

LocalAgreement-n (Macháček, Dabre, Bojar: "Turning Whisper into Real-Time Transcription System",
IJCNLP-AACL 2023): words on which n successive hypotheses agree are committed. Here they must also
lie away from the edge of the audio, where a model guesses at words half heard. A committed word
never changes; where a later hypothesis disagrees with one, it is aligned to what stands, and only
what follows is taken from it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from stt.transcript import Segment, Word

_NO_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Heard:
    """A word of one hypothesis."""

    text: str
    start: float
    """Seconds, on whatever clock the segments had."""
    end: float
    segment: int = 0
    """Which segment of the hypothesis it is in."""
    confidence: float = 0.0

    @property
    def key(self) -> str:
        """The word as it is compared: without case and punctuation, unless it is nothing else."""
        return _NO_LETTERS.sub("", self.text).casefold() or self.text


@dataclass(frozen=True, slots=True)
class Settled:
    """A final hypothesis reconciled with what was committed."""

    segments: tuple[Segment, ...]
    text: str
    """The committed words, then those of the final hypothesis that follow them."""
    carried: tuple[Heard, ...]
    """Committed words behind the last of the hypothesis: the next utterance's."""
    disagreements: int
    """Committed words that the hypothesis has otherwise, not at all, or more of."""


class Agreement:
    """The words of one utterance while it is spoken."""

    def __init__(
        self, needed: int = 2, margin_s: float = 0.8, carried: Sequence[Heard] = ()
    ) -> None:
        """Commit what `needed` hypotheses agree on, `margin_s` seconds before the audio's edge.

        carried: words committed before the utterance was cut from the one before.
        """
        self._margin_s = margin_s
        self._recent: deque[list[Heard]] = deque(maxlen=needed)
        self._committed = list(carried)
        self._draft: list[Heard] = []

    @property
    def committed(self) -> str:
        """All committed words."""
        return _joined(self._committed)

    @property
    def draft(self) -> str:
        """What the last hypothesis has behind them."""
        return _joined(self._draft)

    def update(self, hypothesis: Sequence[Heard], edge: float) -> str:
        """Take a hypothesis for the utterance up to `edge`; return the words it lets commit.

        `edge` is on the words' clock. The words returned are worded as in this hypothesis.
        """
        self._recent.append(list(hypothesis))
        rests = [words[_join(self._committed, words) :] for words in self._recent]
        new: list[Heard] = []
        if len(rests) == self._recent.maxlen:
            agreed = _agreed(rests)
            sure = edge - self._margin_s
            new = list(takewhile(lambda word: word.end <= sure, rests[-1][:agreed]))
        self._committed += new
        self._draft = rests[-1][len(new) :]
        return _joined(new)

    def settle(self, final: Sequence[Segment], *, seam: bool = False) -> Settled:
        """Reconcile the final segments of the whole utterance with what was committed.

        seam: the utterance was cut, and words committed may lie behind the cut.
        """
        words = heard(final)
        committed = self._committed
        kept, begin = _seam_join(committed, words) if seam else (len(committed), None)
        standing = committed[:kept]
        begin = _join(standing, words) if begin is None else begin
        placed, disagreements = _placed(standing, words[:begin])
        merged = [*placed, *words[begin:]]
        segments = _segments(merged, final)
        return Settled(segments, _joined(merged), tuple(committed[kept:]), disagreements)


def heard(segments: Sequence[Segment]) -> list[Heard]:
    """Return the words of segments.

    Where a model gives no word times, a word's place is guessed: a segment's time is dealt out by
    letters, each word with the space behind it.
    """
    found: list[Heard] = []
    for index, segment in enumerate(segments):
        if segment.words:
            found += [Heard(w.text, w.start, w.end, index, w.confidence) for w in segment.words]
            continue
        texts = segment.text.split()
        letters = sum(len(text) + 1 for text in texts)
        at, rate = segment.start, (segment.end - segment.start) / max(letters, 1)
        for text in texts:
            end = at + (len(text) + 1) * rate
            found.append(Heard(text, at, end, index, segment.confidence))
            at = end
    return found


def _joined(words: Sequence[Heard]) -> str:
    return " ".join(word.text for word in words)


def _agreed(rests: Sequence[Sequence[Heard]]) -> int:
    """Return how many words all begin with in common."""
    count = 0
    for words in zip(*rests, strict=False):
        if len({word.key for word in words}) > 1:
            break
        count += 1
    return count


def _distances(a: Sequence[Heard], b: Sequence[Heard]) -> list[list[int]]:
    """Levenshtein distances of all beginnings: [i][j] of a[:i] and b[:j]."""
    keys = [word.key for word in b]
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate((word.key for word in a), 1):
        before, row = rows[-1], [i]
        for j, right in enumerate(keys, 1):
            changed = before[j - 1] + (left != right)
            row.append(min(changed, before[j] + 1, row[-1] + 1))
        rows.append(row)
    return rows


def _join(committed: Sequence[Heard], words: Sequence[Heard]) -> int:
    """Return where in `words` what follows the committed ones begins.

    That is behind the beginning of `words` most like them. Of several, one that ends with the last
    committed word (so the join doubles no word that `words` has not doubled itself), then the one
    whose time is nearest.
    """
    if not committed:
        return 0
    last = committed[-1]
    costs = _distances(committed, words)[-1]

    def badness(j: int) -> tuple[int, bool, float]:
        matches = j > 0 and words[j - 1].key == last.key
        at = words[j - 1].end if j else words[0].start if words else last.end
        return costs[j], not matches, abs(at - last.end)

    return min(range(len(words) + 1), key=badness)


def _seam_join(committed: Sequence[Heard], words: Sequence[Heard]) -> tuple[int, int]:
    """Return how many committed words `words` covers, and where in `words` those behind begin.

    Either all are covered, or `words` ends among them.
    """
    costs = _distances(committed, words)
    join = _join(committed, words)
    inside = min(range(len(committed) + 1), key=lambda i: (costs[i][-1], -i))
    if costs[inside][-1] < costs[-1][join]:
        return inside, len(words)
    return len(committed), join


def _placed(committed: Sequence[Heard], words: Sequence[Heard]) -> tuple[list[Heard], int]:
    """Give committed words the times and segments of the words they are aligned to.

    Also returns the distance: how many words differ.
    """
    costs = _distances(committed, words)
    i, j = len(committed), len(words)
    placed: list[Heard] = []
    while i:
        word = committed[i - 1]
        diagonal = costs[i - 1][j - 1] + (word.key != words[j - 1].key) if j else -1
        if diagonal == costs[i][j]:
            like = words[j - 1]
            placed.append(replace(like, text=word.text))
            i, j = i - 1, j - 1
        elif j and costs[i][j - 1] + 1 == costs[i][j]:
            j -= 1
        else:
            near = words[j - 1] if j else words[0] if words else replace(word, segment=0)
            # a word the hypothesis has not gets the time of the one before it
            at = near.end if j else near.start
            placed.append(replace(near, text=word.text, start=at, end=at))
            i -= 1
    return placed[::-1], costs[-1][-1]


def _segments(words: Sequence[Heard], final: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the final's segments with these words in them; those left without are dropped."""
    if words and not final:  # committed words that the final decoding does not hear
        confidence = words[0].confidence
        return (Segment(words[0].start, words[-1].end, _joined(words), confidence),)
    made = []
    for index, segment in enumerate(final):
        own = [word for word in words if word.segment == index]
        if not own:
            continue
        timed = tuple(Word(w.start, w.end, w.text, w.confidence) for w in own)
        made.append(replace(segment, text=_joined(own), words=timed if segment.words else ()))
    return tuple(made)
