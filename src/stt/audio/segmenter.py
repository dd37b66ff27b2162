"""Where to cut: from speech probabilities and levels to utterances a model can hear whole.

`Segmenter` is numbers in, spans out, and knows no audio; `utterances` puts the audio to its spans.
Spans never overlap and rise; what lies between two spans was heard as silence throughout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stt.audio.resample import SAMPLE_RATE
from stt.audio.vad import FRAME

Samples = npt.NDArray[np.float32]
SpeechProbabilities = Callable[[Samples], npt.NDArray[np.float32]]

_FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
PRE_ROLL = round(0.5 * _FRAMES_PER_SECOND)
"""Frames of real audio kept before speech: models mishear a word that begins at once."""
SHORT_LEAD = round(1.0 * _FRAMES_PER_SECOND)
"""Silence before speech that is kept whole when it is no longer: cutting it gains nothing, and
models hear a recording best as it was made."""
POST_ROLL = round(0.5 * _FRAMES_PER_SECOND)
"""Frames kept after speech: word endings fade below the VAD's threshold."""
END_SILENCE = round(2.0 * _FRAMES_PER_SECOND)
"""Frames without speech that end an utterance. Shorter pauses stay inside: models use them."""
MIN_SPEECH = 3
"""Frames of speech (96 ms) an utterance must have; less is a click or a cough."""
CLEAR = 0.8
"""Probability from which a frame is clear speech: less may be breath, music or a crowd."""
_HYSTERESIS = 0.15
"""Speech goes on while the probability stays above threshold - this (Silero's own rule)."""
_NARROW, _WIDE = 9, 31
"""Frames (0.3 s, 1 s) over which a cut is judged: a true pause, and better still a long one."""
_LATE = 0.1
"""Weight of cutting late: fewer, longer utterances where pauses are equally good."""
_QUIET_DB, _LOUD_DB = -60.0, -20.0


@dataclass(frozen=True, slots=True)
class Span:
    """Frames [start, end) of 512 samples."""

    start: int
    end: int
    clear: int = field(default=0, compare=False)
    """How many of them are clear speech; it says what is in a span, not where it is."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Audio to be recognised in one piece."""

    start: int
    """Sample at 16 kHz, from the start of the recording."""
    samples: Samples
    """float32 [n] at 16 kHz."""
    clear_speech_s: float = 0.0
    """Seconds of it that are clear speech: a model that hears no word in them is to be doubted."""


class Segmenter:
    """Streaming cut decisions, one frame at a time; the result does not depend on block sizes."""

    def __init__(self, max_frames: int, threshold: float = 0.5) -> None:
        """Cut into spans of at most `max_frames`; speech is a probability >= `threshold`."""
        self._max = max_frames
        self._threshold = threshold
        self._now = 0
        self._free = 0  # first frame not given to any span
        self._start: int | None = None
        self._last_speech = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=SHORT_LEAD)
        self._frames: list[tuple[float, float]] = []  # (probability, dB) since _start
        self._mid_speech = False  # whether the last cut went through speech

    @property
    def oldest(self) -> int:
        """First frame that may still become part of a span."""
        return max(self._free, self._now - SHORT_LEAD) if self._start is None else self._start

    def push(self, probability: float, level: float) -> Span | None:
        """Take the next frame's speech probability and level (dB full scale)."""
        now, self._now = self._now, self._now + 1
        frame = (probability, level)
        if self._start is None:
            if probability >= self._threshold:
                self._open(now, frame)
            self._recent.append(frame)
            return None
        self._frames.append(frame)
        self._recent.append(frame)
        if probability >= self._threshold - _HYSTERESIS:
            self._last_speech = now
        if now - self._last_speech >= END_SILENCE:
            return self._close(self._last_speech + 1 + POST_ROLL)
        if len(self._frames) >= self._max:
            return self._cut()
        return None

    def finish(self) -> Span | None:
        """End of the recording: return what is still open."""
        return None if self._start is None else self._close(self._now)

    def _open(self, now: int, frame: tuple[float, float]) -> None:
        lead = now - self._free
        self._start = self._free if lead <= SHORT_LEAD else now - PRE_ROLL
        before = now - self._start
        self._frames = [*list(self._recent)[len(self._recent) - before :], frame]
        self._last_speech = now

    def _close(self, end: int) -> Span | None:
        assert self._start is not None
        span = Span(self._start, end, _clear(self._frames))
        enough = self._enough_speech(self._frames)
        self._start, self._free = None, span.end
        self._frames, self._mid_speech = [], False
        return span if enough else None

    def _cut(self) -> Span | None:
        assert self._start is not None
        cut = quietest(self._frames, len(self._frames) // 2)
        span = Span(self._start, self._start + cut, _clear(self._frames[:cut]))
        mid_speech = self._speech_frames(self._frames[cut - 1 : cut + 1]) == 2
        enough = mid_speech or self._enough_speech(self._frames[:cut])
        self._frames, self._mid_speech = self._frames[cut:], mid_speech
        self._start = self._free = span.end
        if not self._speech_frames(self._frames):
            self._start, self._frames = None, []
        return span if enough else None

    def _enough_speech(self, frames: list[tuple[float, float]]) -> bool:
        """Tell speech from a click; the rest of a word that was cut is speech however short."""
        return self._speech_frames(frames) >= (1 if self._mid_speech else MIN_SPEECH)

    def _speech_frames(self, frames: list[tuple[float, float]]) -> int:
        return sum(probability >= self._threshold for probability, _ in frames)


def _clear(frames: list[tuple[float, float]]) -> int:
    return sum(probability >= CLEAR for probability, _ in frames)


def quietest(frames: list[tuple[float, float]], first: int) -> int:
    """Return the index >= `first` before which to cut: the middle of the best pause.

    A frame costs its speech probability plus its level; costs are averaged over 0.3 s and 1 s, so
    that a long pause beats a short one and a gap inside a word beats nothing.
    """
    values = np.asarray(frames, np.float64)
    loud = np.clip((values[:, 1] - _QUIET_DB) / (_LOUD_DB - _QUIET_DB), 0.0, 1.0)
    cost = values[:, 0] + loud
    window = len(frames) - first
    smooth = _moving_mean(cost, _NARROW) + 0.5 * _moving_mean(cost, _WIDE)
    late = _LATE * np.arange(window, 0, -1) / window
    return first + int(np.argmin(smooth[first:] + late))


def _moving_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Centred mean over `width` (odd) values; the ends see their own value repeated."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def levels(frames: Samples) -> npt.NDArray[np.float32]:
    """Level of each of float32 frames [n, 512] in dB full scale, float32 [n]; silence is -100."""
    power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
    return np.asarray(10.0 * np.log10(power + 1e-10), np.float32)


def utterances(
    blocks: Iterable[Samples], speech: SpeechProbabilities, segmenter: Segmenter
) -> Iterator[Utterance | int]:
    """Cut a 16 kHz stream into utterances.

    Yields each Utterance as soon as it is complete; after every block the number of samples that
    are settled, being in an utterance yielded or silence; and at the end the number of all samples.
    """
    audio, base, heard, fed = np.zeros(0, np.float32), 0, 0, 0  # audio[0] is sample `base`

    def spans(frames: Samples) -> Iterator[Span]:
        for probability, level in zip(speech(frames), levels(frames), strict=True):
            if span := segmenter.push(float(probability), float(level)):
                yield span

    for block in blocks:
        heard += len(block)
        audio = np.concatenate([audio, block])
        whole = (heard - fed) // FRAME
        begin = fed - base
        fresh = audio[begin : begin + whole * FRAME].reshape(whole, FRAME)
        fed += whole * FRAME
        for span in spans(fresh):
            yield _utterance(span, audio, base)
        keep = segmenter.oldest * FRAME
        audio, base = audio[keep - base :], keep
        yield min(keep, heard)
    if rest := heard - fed:
        last = np.zeros((1, FRAME), np.float32)
        last[0, :rest] = audio[fed - base :]
        for span in spans(last):
            yield _utterance(span, audio, base)
    if final := segmenter.finish():
        yield _utterance(final, audio, base)
    yield heard


def _utterance(span: Span, audio: Samples, base: int) -> Utterance:
    start = span.start * FRAME
    samples = audio[start - base : span.end * FRAME - base].copy()
    return Utterance(start, samples, span.clear / _FRAMES_PER_SECOND)
