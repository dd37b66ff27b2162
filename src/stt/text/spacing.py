"""Moments that must not lie on one another: words in JSON, cues on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from stt.transcript import Segment, Word

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
        replace(one, start=start, end=min(max(one.end, start + least), following))
        for one, start, following in zip(spoken, starts, nexts, strict=True)
    ]
