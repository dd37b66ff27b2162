"""The path: blocks of audio -> 16 kHz -> utterances -> batches -> segments. Lazy all the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stt.audio.resample import SAMPLE_RATE, resampled
from stt.audio.segmenter import Segmenter, Utterance, utterances
from stt.audio.vad import FRAME, SpeechProbability
from stt.engine.fallback import Attempt, Fallback, GuardedRecognizer
from stt.transcript import Segment

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """Progress through a recording."""

    heard: float
    """Seconds of the recording done with."""
    segments: tuple[Segment, ...] = ()
    """Those that became final with this step, in absolute seconds."""
    fallback: Fallback | None = None
    """Set in the one step, if any, with which the recording goes on in FP32."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a recording is cut and batched."""

    max_utterance_s: float
    """Longest utterance handed to the model."""
    vad_threshold: float
    """Probability from which a frame counts as speech."""
    batch_size: int
    """Utterances recognised together."""


def recognized(
    blocks: Iterable[Samples],
    rate: int,
    recognizer: GuardedRecognizer,
    cutting: Cutting,
    pool: Executor,
) -> Iterator[Step]:
    """Recognise float32 [n] mono blocks at `rate` Hz, yielding segments as they become final.

    `recognizer` is this recording's own; `pool`'s threads call it, and may serve other recordings
    too. While they are at work, the next utterances are read and cut here. Memory holds a few
    batches of utterances, whatever the length of the recording.
    """
    max_frames = int(cutting.max_utterance_s * SAMPLE_RATE) // FRAME
    cut = utterances(
        resampled(blocks, rate), SpeechProbability(), Segmenter(max_frames, cutting.vad_threshold)
    )
    streams = recognizer.streams
    # streams balance best, and end together, when each has one utterance at a time
    size = cutting.batch_size if streams == 1 else 1
    batch: list[Utterance] = []
    under_way: deque[_UnderWay] = deque()
    heard = 0
    try:
        for item in cut:
            if isinstance(item, Utterance):
                batch.append(item)
            else:
                heard = item
                if not batch and not under_way:
                    yield Step(heard / SAMPLE_RATE)
            if len(batch) == size:
                under_way.append(_UnderWay(batch, heard, pool.submit(recognizer.attempt, batch)))
                batch = []
            while under_way and (len(under_way) > streams or under_way[0].attempt.done()):
                yield _settled(under_way.popleft(), recognizer)
        if batch:
            under_way.append(_UnderWay(batch, heard, pool.submit(recognizer.attempt, batch)))
        while under_way:
            yield _settled(under_way.popleft(), recognizer)
        yield Step(heard / SAMPLE_RATE)
    finally:
        for one in under_way:
            one.attempt.cancel()


class _UnderWay(NamedTuple):
    """A batch that is being recognised."""

    batch: list[Utterance]
    heard: int
    """Samples that were done with when it was complete."""
    attempt: Future[Attempt]


def _settled(one: _UnderWay, recognizer: GuardedRecognizer) -> Step:
    before = recognizer.fallback
    results = recognizer.settle(one.batch, one.attempt.result())
    segments = tuple(
        _shifted(segment, utterance.start / SAMPLE_RATE)
        for utterance, found in zip(one.batch, results, strict=True)
        for segment in found
    )
    last = one.batch[-1]
    # silence after the last utterance may have been reported already: progress never goes back
    done = max(one.heard, last.start + len(last.samples))
    return Step(done / SAMPLE_RATE, segments, None if before else recognizer.fallback)


def _shifted(segment: Segment, offset: float) -> Segment:
    """Move a segment and its words by `offset` seconds."""
    words = tuple(
        replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words
    )
    return replace(segment, start=segment.start + offset, end=segment.end + offset, words=words)
