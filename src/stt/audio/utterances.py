"""Utterances: the audio of a segmenter's spans, and an account of what lies between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stt.audio.conditioning import Heard
from stt.audio.segmenter import Segmenter, Span
from stt.audio.vad import FRAME, levels
from stt.types import SAMPLE_RATE, Samples

SpeechProbabilities = Callable[[Samples], npt.NDArray[np.float32]]

ZERO_DB = -99.0
"""Below this every sample is zero: nothing was recorded."""
_SILENT_DB = -50.0
"""Below this is silence; what is louder and no speech is some other sound."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Samples [start, end) at 16 kHz that no model is to hear."""

    start: int
    end: int
    reason: str
    """'digital zero', 'silence' or 'non-speech'."""
    like_speech: bool = False
    """Whether it may have been speech all the same: less of it than makes an utterance."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Audio to be recognised in one piece."""

    start: int
    """Sample at 16 kHz, from the start of the recording."""
    samples: Samples
    """float32 [n] at 16 kHz."""
    clear_speech_s: float = 0.0
    """Seconds of it that are clear speech: a model that hears no word in them is to be doubted."""
    heard: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    """(speech probability, dB) of each frame of 512 samples."""
    seam: bool = False
    """Cut because it was long: the next one goes on with what is said."""

    @property
    def is_zero(self) -> bool:
        """Whether every sample is zero: nothing was recorded, so nothing was said."""
        return bool(self.heard) and all(level < ZERO_DB for _, level in self.heard)

    @property
    def end(self) -> int:
        """The sample after its last."""
        return self.start + len(self.samples)


def utterances(
    blocks: Iterable[Heard], speech: SpeechProbabilities, segmenter: Segmenter
) -> Iterator[Utterance | Skipped | int]:
    """Cut a 16 kHz stream into utterances.

    Yields each Utterance as soon as it is complete, and what is Skipped: together they are every
    sample, in order. After every block comes the number of samples that are settled, being in one
    of them, and at the end the number of all samples.
    """
    audio, heard = _Audio(), 0
    ahead = np.zeros(0, np.float32)  # less than a frame that the VAD has not heard
    rest = _Between(segmenter.threshold)

    def cut(frames: Samples) -> Iterator[Utterance | Skipped]:
        for frame in zip(speech(frames).tolist(), levels(frames).tolist(), strict=True):
            rest.push(frame)
            if span := segmenter.push(*frame):
                yield from rest.skipped(span.start, heard)
                rest.given(span.end)
                yield _utterance(span, audio)

    for block in blocks:
        heard += len(block.model)
        audio.push(block.model)
        fresh = np.concatenate([ahead, block.vad]) if len(ahead) else block.vad
        whole = len(fresh) // FRAME
        fresh, ahead = np.split(fresh, [whole * FRAME])
        yield from cut(fresh.reshape(whole, FRAME))
        yield from rest.skipped(segmenter.oldest, heard)
        keep = segmenter.oldest * FRAME
        audio.forget(keep)
        yield min(keep, heard)
    if len(ahead):
        yield from cut(np.pad(ahead, (0, FRAME - len(ahead))).reshape(1, FRAME))
    if final := segmenter.finish():
        yield from rest.skipped(final.start, heard)
        rest.given(final.end)
        yield _utterance(final, audio)
    yield from rest.skipped(-(-heard // FRAME), heard)
    yield heard


class _Audio:
    """The last blocks of a stream."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self._base = 0  # sample that the first begins with

    def push(self, block: Samples) -> None:
        self._blocks.append(block)

    def forget(self, before: int) -> None:
        """Drop blocks that lie before this sample whole."""
        while self._blocks and self._base + len(self._blocks[0]) <= before:
            self._base += len(self._blocks.popleft())

    def copied(self, start: int, end: int) -> Samples:
        """Return samples [start, end), as far as there are so many."""
        pieces, at = [], self._base
        for block in self._blocks:
            if at >= end:
                break
            pieces.append(block[max(0, start - at) : end - at])
            at += len(block)
        return np.concatenate(pieces)


class _Between:
    """Frames that are in no span, until it is said what they are."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._frames: deque[tuple[float, float]] = deque()
        self._first = 0  # the frame that _frames[0] is

    def push(self, frame: tuple[float, float]) -> None:
        self._frames.append(frame)

    def given(self, end: int) -> None:
        """Frames before `end` are in a span."""
        while self._first < end and self._frames:
            self._frames.popleft()
            self._first += 1

    def skipped(self, end: int, heard: int) -> Iterator[Skipped]:
        """Say why each frame before `end` is skipped, of `heard` samples: runs of one reason."""
        while self._first < end:
            begin, kind = self._first, self._kind(self._frames[0])
            while self._first < end and self._kind(self._frames[0]) == kind:
                self._frames.popleft()
                self._first += 1
            yield Skipped(begin * FRAME, min(self._first * FRAME, heard), *kind)

    def _kind(self, frame: tuple[float, float]) -> tuple[str, bool]:
        probability, level = frame
        if level < ZERO_DB:
            return "digital zero", False
        return "silence" if level < _SILENT_DB else "non-speech", probability >= self._threshold


def _utterance(span: Span, audio: _Audio) -> Utterance:
    start = span.start * FRAME
    samples = audio.copied(start, span.end * FRAME)
    return Utterance(start, samples, span.clear * FRAME / SAMPLE_RATE, span.heard, span.seam)
