"""Tokens to words to segments; their starts and ends, as the model and the sound tell them.

A transducer tells times on its frame grid, and emits a word up to some frames before or after it is
spoken, as it learned to. Where silence lies beside a word, the level of the audio tells better
(docs/measurements/speed.md); where words run into one another, the model's times stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from stt.transcript import Segment, Token, Word
from stt.types import SAMPLE_RATE, Samples

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


def words(tokens: Sequence[Token], frame_s: float, limit_s: float) -> list[Word]:
    """Join the tokens of one utterance into words.

    Args:
        tokens: in order; a leading space in `Token.text` starts a word.
        frame_s: seconds per encoder frame (Parakeet: 0.08).
        limit_s: seconds of audio in the utterance; no word ends past it.

    Returns:
        Words in seconds from the utterance's start. A word ends where its last token's duration
        ends, but never past the start of the next word; punctuation lends its word no time.
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
        at = group[0].frame * frame_s if burst else None
        made.append(Word(start, end, text, confidence, at, group[0].recovered))
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


_LOUD, _QUIET = b"\x01", b"\x00"
BLOCK_S = 0.01
"""Seconds of one level, the grid edges move to."""
REACH_S = 0.4
"""An edge moves by at most so much: five of Parakeet's frames."""
TAIL_S = 0.08
"""A start may lie so far inside the word before it, one frame; further on, sound is its own word's,
and a silence in it is that of a stop consonant."""
_DEPTH = 0.35
"""Where silence ends, between the lowest and the highest level (both in dB)."""
_FEWEST_DB = 20.0
"""With less between the lowest and the highest level, noise hides where words begin."""


def refined(words: Sequence[Word], samples: Samples) -> list[Word]:
    """Move the edges of words that lie in or beside silence.

    Args:
        words: in order, not overlapping, in seconds from the start of `samples`.
        samples: float32 [n] at 16 kHz.

    Returns:
        The same words, still in order and not overlapping.
    """
    loud = _loud(samples)
    if loud is None:
        return list(words)
    made: list[Word] = []
    starts = [_start(loud, word.start) for word in words]
    for index in reversed(range(len(starts) - 1)):  # a start moves on, but not past the next word's
        starts[index] = min(starts[index], starts[index + 1])
    for index, word in enumerate(words):
        latest = starts[index + 1] if index + 1 < len(words) else len(samples) / SAMPLE_RATE
        end = _end(loud, starts[index], max(word.end, starts[index]), latest)
        made.append(_placed(word, starts[index], end))
    return made


def _loud(samples: Samples) -> bytes | None:
    """For each block, whether it is speech by its level; None where levels do not tell."""
    size = round(BLOCK_S * SAMPLE_RATE)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(blocks):
        return None
    levels = 10 * np.log10(np.mean(np.square(blocks), axis=1) + 1e-10)
    low, high = np.quantile(levels, (0.05, 0.95))
    if high - low < _FEWEST_DB:
        return None
    return bytes(levels >= low + _DEPTH * (high - low))


def _start(loud: bytes, start: float) -> float:
    """On to where sound begins after a silence that is met within `TAIL_S`."""
    first = round(start / BLOCK_S)
    quiet = loud.find(_QUIET, first, first + round(TAIL_S / BLOCK_S))
    if quiet < 0:
        return start
    sound = loud.find(_LOUD, quiet, first + round(REACH_S / BLOCK_S))
    return start if sound < 0 else max(start, sound * BLOCK_S)


def _end(loud: bytes, start: float, end: float, latest: float) -> float:
    """On to where the sound ends that goes on at `end`; back to where it ended before."""
    last = round(end / BLOCK_S)
    reach = round(REACH_S / BLOCK_S)
    if loud[last : last + 1] == _LOUD:
        quiet = loud.find(_QUIET, last, last + reach)
        return min(latest, end if quiet < 0 else max(end, quiet * BLOCK_S))
    sound = loud.rfind(_LOUD, max(0, last - reach), last)
    back = end if sound < 0 else (sound + 1) * BLOCK_S
    return min(latest, max(start, min(end, back)))


SHORTEST_S = 0.04
"""Seconds a word, or a text without words, lasts at least: half a frame of Parakeet's encoder."""
Spoken = TypeVar("Spoken", Word, Segment)


def spaced(starts: Sequence[float], least: float, limit: float) -> list[float]:
    """Move moments on until each has `least` before the next, and the last before `limit`.

    Only where they would not fit before `limit` are they moved back; where all of that is too
    little they share it evenly.

    Args:
        starts: in any unit; one that goes back counts as the one before it.
        least: what each is to have, in the same unit.
        limit: where the last one's time ends.

    Returns:
        As many moments, rising, none before 0.
    """
    if not starts:
        return []
    least = min(least, limit / len(starts))
    made: list[float] = []
    for start in starts:
        made.append(max(start, made[-1] + least) if made else max(start, 0.0))
    latest = limit
    for index in reversed(range(len(made))):
        latest = made[index] = min(made[index], latest - least)
    made[0] = max(made[0], 0.0)  # rounding
    return made


def lengthened(spoken: Sequence[Spoken], limit_s: float) -> list[Spoken]:
    """Give words, or texts without words, that follow one another a length, and no overlap.

    Args:
        spoken: in order.
        limit_s: seconds at which the last one ends at the latest.

    Returns:
        The same, each `SHORTEST_S` long at least where there is so much time.
    """
    if not spoken:
        return []
    least = min(SHORTEST_S, limit_s / len(spoken))
    starts: list[float] = spaced([one.start for one in spoken], least, limit_s)
    nexts = [*starts[1:], limit_s]
    return [
        _placed(one, start, min(max(one.end, start + least), following))
        for one, start, following in zip(spoken, starts, nexts, strict=True)
    ]


def _placed(one: Spoken, start: float, end: float) -> Spoken:
    """The same with another place; most stay where they are."""
    return one if (one.start, one.end) == (start, end) else replace(one, start=start, end=end)
