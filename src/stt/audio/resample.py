"""Any sample rate to the 16 kHz every model here hears (soxr, high quality, streaming)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from stt.types import SAMPLE_RATE, Samples


def resampled(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Resample float32 [n] mono blocks from `rate` Hz to 16 kHz, whatever the sizes of the blocks.

    The filter's delay is compensated: sample k of the output lies at k / 16000 s of the input.
    """
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        out = stream.resample_chunk(block)
        if len(out):
            yield out
    tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(tail):
        yield tail
