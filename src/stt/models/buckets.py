"""Utterances of like length together: what a batch pads, and how much it holds, stay bounded."""

from __future__ import annotations

from collections.abc import Sequence

PADDING = 0.2
"""Most of a row that may be padding."""
SAMPLES = 600 * 16_000
"""Most samples, padding too, of a batch at 16 kHz: activations are in proportion."""


def buckets(lengths: Sequence[int], most: int = SAMPLES) -> list[list[int]]:
    """Group utterances for batches that waste little.

    Args:
        lengths: samples of each utterance.
        most: samples of a batch, padding too; an utterance longer than that has one of its own.

    Returns:
        Places in `lengths`, each once: in a group from the longest down, groups likewise.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and (len(groups[-1]) + 1) * longest <= most
        if fits and lengths[place] >= (1 - PADDING) * longest:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
