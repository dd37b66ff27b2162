"""Speech probabilities and levels of frames, as lists of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st

Frames = list[tuple[float, float]]
LOUD, QUIET = -20.0, -70.0


def speech(frames: int) -> Frames:
    return [(0.95, LOUD)] * frames


def pause(frames: int) -> Frames:
    return [(0.01, QUIET)] * frames


def stretches(longest: int, most: int) -> st.SearchStrategy[Frames]:
    """Recordings as runs of one probability and level each, as speech and pauses are."""
    run_of_frames = st.tuples(
        st.integers(1, longest), st.floats(0, 1, width=32), st.floats(-90, 0, width=32)
    ).map(lambda r: [(r[1], r[2])] * r[0])
    return st.lists(run_of_frames, max_size=most).map(
        lambda runs: [frame for run in runs for frame in run]
    )


def runs_of_speech(frames: Frames, threshold: float, least: int) -> Iterator[tuple[int, int]]:
    """First frame and end of each run of at least so many frames of speech."""
    spoken = [probability >= threshold for probability, _ in frames]
    edges = [i for i, (a, b) in enumerate(pairwise([False, *spoken, False])) if a != b]
    yield from ((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least)
