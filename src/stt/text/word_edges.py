"""Starts and ends of words, moved to where the sound begins and ends.

A transducer tells times on its frame grid, and emits a word up to some frames before or after it is
spoken, as it learned to. Where silence lies beside a word, the level of the audio tells better
(`scripts/measure_words.py`); where words run into one another, the model's times stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stt.transcript import Word

Samples = npt.NDArray[np.float32]
_Flags = npt.NDArray[np.bool_]

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
        latest = starts[index + 1] if index + 1 < len(words) else len(samples) / 16_000
        end = _end(loud, starts[index], max(word.end, starts[index]), latest)
        made.append(replace(word, start=starts[index], end=end))
    return made


def _loud(samples: Samples) -> _Flags | None:
    """Whether each block is speech by its level; None where levels do not tell."""
    size = round(BLOCK_S * 16_000)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(blocks):
        return None
    levels = 10 * np.log10(np.mean(np.square(blocks), axis=1) + 1e-10)
    low, high = np.quantile(levels, (0.05, 0.95))
    if high - low < _FEWEST_DB:
        return None
    return np.asarray(levels >= low + _DEPTH * (high - low))


def _start(loud: _Flags, start: float) -> float:
    """On to where sound begins after a silence that is met within `TAIL_S`."""
    first = round(start / BLOCK_S)
    quiet = _next(~loud, first, first + round(TAIL_S / BLOCK_S))
    if quiet is None:
        return start
    sound = _next(loud, quiet, first + round(REACH_S / BLOCK_S))
    return start if sound is None else max(start, sound * BLOCK_S)


def _end(loud: _Flags, start: float, end: float, latest: float) -> float:
    """On to where the sound ends that goes on at `end`; back to where it ended before."""
    last = round(end / BLOCK_S)
    reach = round(REACH_S / BLOCK_S)
    if last < len(loud) and loud[last]:
        quiet = _next(~loud, last, last + reach)
        return min(latest, end if quiet is None else max(end, quiet * BLOCK_S))
    sound = _next(loud[:last][::-1], 0, reach)
    back = end if sound is None else (last - sound) * BLOCK_S
    return min(latest, max(start, min(end, back)))


def _next(flags: _Flags, begin: int, end: int) -> int | None:
    """The first set flag from `begin` to before `end`."""
    found = np.flatnonzero(flags[begin:end])
    return begin + int(found[0]) if len(found) else None
