"""Tokens to words to segments, with ends taken from TDT durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from stt.transcript import Segment, Token, Word

PAUSE = 1.0
"""Seconds between two words that end a segment even without punctuation."""
MAX_SEGMENT = 20.0
"""Seconds after which a segment ends at its next comma or pause of `SHORT_PAUSE`."""
SHORT_PAUSE = 0.3
_SENTENCE_END = (".", "?", "!", "…", ".”", "?”", "!”", '."', '?"', '!"')
_CLAUSE_END = (",", ";", ":")
_CLOSING = frozenset(".,;:!?…)%")
"""Punctuation that belongs to the word before it, even where the vocabulary puts a space."""
_ABBREVIATIONS = frozenset(
    ("mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "sr.", "jr.", "vs.", "etc.", "e.g.", "i.e.")
)


def words(tokens: Sequence[Token], frame_s: float, offset_s: float, limit_s: float) -> list[Word]:
    """Join the tokens of one utterance into words.

    Args:
        tokens: in order; a leading space in `Token.text` starts a word.
        frame_s: seconds per encoder frame (Parakeet: 0.08).
        offset_s: seconds at which the utterance starts in the recording.
        limit_s: seconds of audio in the utterance; no word ends past it.

    Returns:
        Words in absolute seconds. A word ends where its last token's duration ends, but never past
        the start of the next word; punctuation lends its word no time.
    """
    groups: list[list[Token]] = []
    for token in tokens:
        starts = token.text.startswith(" ") and token.text.strip() not in _CLOSING
        if not groups or starts or (token.recovered and not groups[-1][-1].recovered):
            groups.append([])
        groups[-1].append(token)
    made: list[Word] = []
    for index, group in enumerate(groups):
        text = "".join(token.text for token in group).replace(" ", "")
        if not text:
            continue
        spoken = [t for t in group if any(c.isalnum() for c in t.text)] or group[:1]
        last = spoken[-1]
        start = min(group[0].frame * frame_s, limit_s)
        end = (last.frame + max(last.duration, 1)) * frame_s
        if index + 1 < len(groups):
            end = min(end, max(groups[index + 1][0].frame * frame_s, start))
        end = max(start, min(end, limit_s))
        confidence = math.exp(min(token.logprob for token in group))
        burst = len(group) > 1 and group[0].frame == group[-1].frame
        at = offset_s + group[0].frame * frame_s if burst else None
        recovered = group[0].recovered
        made.append(Word(offset_s + start, offset_s + end, text, confidence, at, recovered))
    return made


def segments(spoken: Sequence[Word]) -> list[Segment]:
    """Group words into sentences: at sentence ends, at long pauses, and when one grows too long."""
    if not spoken:
        return []
    made: list[Segment] = []
    begin = 0
    for index, (word, after) in enumerate(pairwise(spoken)):
        if _ends(word, after, since=spoken[begin].start):
            made.append(_segment(spoken[begin : index + 1]))
            begin = index + 1
    made.append(_segment(spoken[begin:]))
    return made


def ends_sentence(text: str) -> bool:
    """Whether a word ends a sentence; an abbreviation does not."""
    return text.endswith(_SENTENCE_END) and text.lower() not in _ABBREVIATIONS


def _ends(word: Word, after: Word, since: float) -> bool:
    gap = after.start - word.end
    if gap >= PAUSE:
        return True
    if ends_sentence(word.text):
        return True
    long = word.end - since >= MAX_SEGMENT
    return long and (gap >= SHORT_PAUSE or word.text.endswith(_CLAUSE_END))


def _segment(group: Sequence[Word]) -> Segment:
    text = " ".join(word.text for word in group)
    confidence = sum(word.confidence for word in group) / len(group)
    return Segment(group[0].start, group[-1].end, text, confidence, tuple(group))
