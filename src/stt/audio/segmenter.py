"""Where to cut: from speech probabilities and levels to spans that a model can hear whole.

Numbers in, spans out: `stt.audio.utterances` puts the audio to them. Spans rise; two overlap only
where a cut had to go through speech and the model tells when each word was said, so that a word cut
in one is whole in the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stt.audio.vad import FRAME
from stt.types import SAMPLE_RATE

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
DOUBT = 0.4
"""Share of the threshold from which on the mean probability of a second is no certain silence,
though no frame of it is speech: it may be faint, or in noise, and the model is to hear it."""
CLEAR = 0.8
"""Probability from which a frame is clear speech: less may be breath, music or a crowd."""
OVERLAP = round(1.5 * _FRAMES_PER_SECOND)
"""Frames on either side of a cut through speech that both utterances hear, at most."""
HYSTERESIS = 0.15
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
    heard: tuple[tuple[float, float], ...] = field(default=(), compare=False, repr=False)
    """(speech probability, dB) of each; they say what is in a span, not where it is."""
    seam: bool = field(default=False, compare=False)
    """Cut because it was long: the next one goes on with what is said."""

    @property
    def clear(self) -> int:
        """How many frames are clear speech."""
        return sum(probability >= CLEAR for probability, _ in self.heard)


class Segmenter:
    """Streaming cut decisions, one frame at a time; the result does not depend on block sizes."""

    def __init__(self, max_frames: int, threshold: float = 0.5, *, overlap: bool = False) -> None:
        """Cut into spans of at most `max_frames`; speech is a probability >= `threshold`.

        `overlap`: where a cut must go through speech, both spans hear what is around it.
        """
        self._max = max_frames
        self._threshold = threshold
        self._overlap = min(OVERLAP, max_frames // 8) if overlap else 0
        self._now = 0
        self._free = 0  # first frame not given to any span
        self._start: int | None = None
        self._lead = 0  # first frames of the span that stay only if a second with them is doubtful
        self._last_speech = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=SHORT_LEAD)
        self._second = 0.0  # sum of the probabilities in _recent that are no speech
        self._doubt = DOUBT * threshold * SHORT_LEAD
        self._frames: list[tuple[float, float]] = []  # (probability, dB) since _start
        self._mid_speech = False  # whether the last cut went through speech
        self._doubted = False  # whether a second of this span was doubtful

    @property
    def threshold(self) -> float:
        """Probability from which a frame is speech."""
        return self._threshold

    @property
    def oldest(self) -> int:
        """First frame that may still become part of a span."""
        return max(self._free, self._now - SHORT_LEAD) if self._start is None else self._start

    def push(self, probability: float, level: float) -> Span | None:
        """Take the next frame's speech probability and level (dB full scale)."""
        now, self._now = self._now, self._now + 1
        frame = (probability, level)
        if len(self._recent) == SHORT_LEAD:
            self._second -= self._faint(self._recent[0][0])
        self._second += self._faint(probability)
        doubtful = self._second >= self._doubt
        if self._start is None:
            if doubtful or probability >= self._threshold:
                self._open(now, frame, doubtful=doubtful)
            self._recent.append(frame)
            return None
        self._frames.append(frame)
        self._recent.append(frame)
        self._doubted |= doubtful
        if doubtful:
            self._lead = 0
        elif now - self._start >= self._lead + SHORT_LEAD - 1:
            self._drop_lead()
        if doubtful or probability >= self._threshold - HYSTERESIS:
            self._last_speech = now
        if now - self._last_speech >= END_SILENCE:
            return self._close(self._last_speech + 1 + POST_ROLL)
        if len(self._frames) >= self._max:
            return self._cut()
        return None

    def finish(self) -> Span | None:
        """End of the recording: return what is still open."""
        return None if self._start is None else self._close(self._now)

    def _open(self, now: int, frame: tuple[float, float], *, doubtful: bool) -> None:
        lead = now - self._free
        before = min(lead, SHORT_LEAD)
        self._start = now - before
        self._lead = 0 if doubtful or lead <= SHORT_LEAD else SHORT_LEAD - PRE_ROLL
        self._frames = [*list(self._recent)[len(self._recent) - before :], frame]
        self._last_speech = now
        self._doubted = doubtful

    def _drop_lead(self) -> None:
        assert self._start is not None
        self._start += self._lead
        self._frames, self._lead = self._frames[self._lead :], 0

    def _close(self, end: int) -> Span | None:
        self._drop_lead()
        assert self._start is not None
        span = Span(self._start, end, tuple(self._frames[: end - self._start]))
        enough = self._enough_speech(self._frames)
        self._start, self._free = None, span.end
        self._frames, self._mid_speech = [], False
        return span if enough else None

    def _cut(self) -> Span | None:
        assert self._start is not None
        cut = quietest(self._frames, len(self._frames) // 2)
        mid_speech = self._in_speech(cut)
        shared = 0
        if mid_speech and self._overlap:
            cut = quietest(self._frames[: -self._overlap], len(self._frames) // 2)
            shared = self._overlap
        begin = cut - shared
        head, rest = self._frames[: cut + shared], self._frames[begin:]
        span = Span(self._start, self._start + len(head), tuple(head), seam=True)
        enough = mid_speech or self._enough_speech(head)
        # a second of doubt that the cut goes through is to be heard to its end
        self._doubted = self._has_doubt(self._frames[max(0, begin - SHORT_LEAD + 1) :])
        self._start = self._free = self._start + begin
        self._frames, self._mid_speech = rest, mid_speech
        if self._last_speech < span.end or not (self._doubted or self._speech_frames(rest)):
            self._start, self._frames, self._free = None, [], span.end
        return span if enough else None

    def _in_speech(self, cut: int) -> bool:
        return self._speech_frames(self._frames[cut - 1 : cut + 1]) == 2

    def _enough_speech(self, frames: list[tuple[float, float]]) -> bool:
        """Tell speech from a click; the rest of a word that was cut is speech however short."""
        return self._doubted or self._speech_frames(frames) >= (
            1 if self._mid_speech else MIN_SPEECH
        )

    def _has_doubt(self, frames: list[tuple[float, float]]) -> bool:
        """Tell whether a second of them is doubtful, or one that is not over yet."""
        sums = np.cumsum([0.0, *(self._faint(probability) for probability, _ in frames)])
        width = min(SHORT_LEAD, len(frames))
        return bool((sums[width:] - sums[: len(sums) - width]).max() >= self._doubt)

    def _faint(self, probability: float) -> float:
        return probability if probability < self._threshold - HYSTERESIS else 0.0

    def _speech_frames(self, frames: list[tuple[float, float]]) -> int:
        return sum(probability >= self._threshold for probability, _ in frames)


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
