"""Greedy decoding of connectionist temporal classification (CTC): a token for every frame at once.

The likeliest output of each frame is taken; a run of the same token is that token once, and blanks
are none (Graves et al. 2006). A blank between two runs of one token makes them two tokens.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt

from stt.models.tdt import Emission, logprob

Floats = npt.NDArray[np.float32]


def greedy_ctc(frames: Floats, blank: int) -> list[Emission]:
    """Decode one utterance.

    Args:
        frames: logits or log-probabilities, float32 [T, V], padding already removed.
        blank: id of the blank.

    Returns:
        The tokens in order. One begins where its run begins, lasts as long as the run, and has the
        probability of the run's best frame: the others only lead to it and away from it.
    """
    emissions: list[Emission] = []
    start = 0
    for token, group in groupby(frames.argmax(axis=-1).tolist()):
        length = sum(1 for _ in group)
        if token != blank:
            run = frames[start : start + length]
            best = max(logprob(frame, token) for frame in run)
            emissions.append(Emission(token, start, length, best))
        start += length
    return emissions
