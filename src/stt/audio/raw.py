"""What the readers of files hand over: channels as they are, before they are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 15
"""Frames read at a time: 0.3 s at 96 kHz, 4 s at 8 kHz."""


@dataclass(frozen=True, slots=True)
class RawAudio:
    """An opened sound track. Iterate `blocks` once."""

    sample_rate: int
    """Hz."""
    duration: float | None
    """Seconds, as the container says (an estimate for some); None when it does not."""
    channels: int
    """How many; where recordings are joined, of the first."""
    blocks: Iterator[npt.NDArray[np.float32]]
    """float32 [n, channels]; their number may change in between."""
    began: int = 0
    """Samples of the recording before the first block: it was sought to."""
    track: int = 1
    """Which sound track this is, from 1."""
    tracks: tuple[str, ...] = ("sound track 1",)
    """What each sound track is, e.g. 'track 2 (eng, stereo)'."""
