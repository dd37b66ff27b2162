"""The path: blocks of audio -> 16 kHz -> utterances -> batches -> segments. Lazy all the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stt.audio.resample import SAMPLE_RATE, resampled
from stt.audio.segmenter import Segmenter, Utterance, utterances
from stt.audio.vad import FRAME, SpeechProbability
from stt.engine.fallback import Fallback, GuardedRecognizer
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
    blocks: Iterable[Samples], rate: int, recognizer: GuardedRecognizer, cutting: Cutting
) -> Iterator[Step]:
    """Recognise float32 [n] mono blocks at `rate` Hz, yielding segments as they become final.

    `recognizer` is this recording's own. Memory holds one batch of utterances, whatever the length
    of the recording.
    """
    max_frames = int(cutting.max_utterance_s * SAMPLE_RATE) // FRAME
    segmenter = Segmenter(max_frames, cutting.vad_threshold)
    batch: list[Utterance] = []
    heard = 0
    for item in utterances(resampled(blocks, rate), SpeechProbability(), segmenter):
        if isinstance(item, Utterance):
            batch.append(item)
        else:
            heard = item
            if not batch:
                yield Step(heard / SAMPLE_RATE)
        if len(batch) == cutting.batch_size:
            yield _recognize(batch, recognizer, heard)
            batch = []
    if batch:
        yield _recognize(batch, recognizer, heard)
    yield Step(heard / SAMPLE_RATE)


def _recognize(batch: list[Utterance], recognizer: GuardedRecognizer, heard: int) -> Step:
    before = recognizer.fallback
    results = recognizer.recognize(batch)
    segments = tuple(
        _shifted(segment, utterance.start / SAMPLE_RATE)
        for utterance, found in zip(batch, results, strict=True)
        for segment in found
    )
    last = batch[-1]
    # silence after the last utterance may have been reported already: progress never goes back
    done = max(heard, last.start + len(last.samples))
    return Step(done / SAMPLE_RATE, segments, None if before else recognizer.fallback)


def _shifted(segment: Segment, offset: float) -> Segment:
    """Move a segment and its words by `offset` seconds."""
    words = tuple(
        replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words
    )
    return replace(segment, start=segment.start + offset, end=segment.end + offset, words=words)
