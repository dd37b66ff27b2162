"""When an utterance begins and ends: from speech probabilities and levels, a frame at a time.

Numbers in, spans out, as in `stt.audio.segmenter`, whose rule for seams is used here; but an end is
called after 0.4 to 0.8 s of silence, where a file's may wait for two.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from stt.audio.segmenter import CLEAR, HYSTERESIS, MIN_SPEECH, quietest
from stt.audio.vad import FRAME
from stt.types import SAMPLE_RATE

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
PRE_ROLL = round(0.6 * FRAMES_PER_SECOND)
"""Frames kept before speech: the first sound is often below the threshold."""
TAIL = round(0.32 * FRAMES_PER_SECOND)
"""Frames kept after speech: word endings fade below the threshold. Less than the shortest patience,
so that the utterance can be recognised as it will be before its end is certain."""
SHORTEST, LONGEST = round(0.4 * FRAMES_PER_SECOND) + 1, round(0.8 * FRAMES_PER_SECOND)
"""Frames of silence after which an utterance may, and must, end (13 and 25)."""
SHORTEST_PATIENCE_S = (TAIL + 1) / FRAMES_PER_SECOND
"""Least seconds of silence that end an utterance, whatever is asked for (0.352)."""
_LEAST_THRESHOLD = 0.01
"""Speech ends below this at the latest (Silero's rule too): else a low threshold never lets it."""
_PAUSE = round(0.16 * FRAMES_PER_SECOND)
"""Silence from which on it is a pause; less is a closed consonant."""
_LONGEST_PAUSE = round(1.0 * FRAMES_PER_SECOND)
"""Silence after which speech is no continuation."""
_REMEMBERED = 20
"""Pauses of this speaker that are remembered."""
_SPARE = 1.25
"""How many times a long pause of this speaker (the 90th percentile) is waited for."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Frames [start, end) of 512 samples that are one utterance."""

    start: int
    end: int
    last_speech: int
    """The last frame of speech."""
    endpoint: int
    """The frame after the one that settled it."""
    clear: int
    """Frames of clear speech."""
    seam: bool
    """Cut because it was long: the next utterance begins at `end`."""
    click: bool = False
    """Too little speech to be an utterance, unless somebody `claim`s it."""
    heard: tuple[tuple[float, float], ...] = field(default=(), compare=False, repr=False)
    """(speech probability, dB) of each frame."""


class Endpointer:
    """Streaming decisions on (probability of speech, level) of each 32 ms frame.

    Every frame of speech is in exactly one utterance, but for fewer than `MIN_SPEECH` together, a
    click: its frames may serve the next utterance as pre-roll. How long it waits for an utterance
    to go on follows the speaker: somebody who makes long pauses inside sentences should not be cut
    at each, and somebody fluent not be kept waiting.
    """

    def __init__(
        self, max_frames: int, threshold: float = 0.5, patience_s: float | None = None
    ) -> None:
        """Cut utterances of `max_frames`; for the others see `follow`."""
        self._max = max_frames
        self._free = 0  # first frame not given to any utterance
        self._recent: deque[tuple[float, float]] = deque(maxlen=PRE_ROLL)
        self._frames: list[tuple[float, float]] = []  # (probability, dB) since start
        self._mid_speech = False  # whether the last seam went through speech
        start_with = round(0.6 * FRAMES_PER_SECOND / _SPARE)
        self._pauses: deque[int] = deque([start_with] * 4, _REMEMBERED)
        self._heard_speech = False
        self.goes_on = False
        """Whether the utterance being spoken begins at a seam."""
        self.now = 0
        """Frames pushed."""
        self.start: int | None = None
        """First frame of the utterance being spoken; None: nobody speaks."""
        self.first_speech = 0
        """First frame of speech of the utterance being spoken."""
        self.last_speech = 0
        """Last frame of speech of it."""
        self.patience = 0
        """Frames of silence that end an utterance now."""
        self.follow(threshold, patience_s)

    def follow(self, threshold: float, patience_s: float | None) -> None:
        """Take a probability >= `threshold` for speech, and wait `patience_s` seconds for more.

        At least `SHORTEST_PATIENCE_S`; None: as long as the speaker's pauses ask for.
        """
        self._threshold = threshold
        self._release = max(threshold - HYSTERESIS, _LEAST_THRESHOLD)
        asked = None if patience_s is None else round(patience_s * FRAMES_PER_SECOND)
        self._fixed = None if asked is None else max(asked, TAIL + 1)
        self._set_patience()

    @property
    def is_speech(self) -> bool:
        """Whether the utterance being spoken is more than a click already."""
        return self._enough_speech(self._frames)

    @property
    def oldest(self) -> int:
        """First frame that may still become part of an utterance."""
        return max(self._free, self.now - PRE_ROLL) if self.start is None else self.start

    @property
    def silence(self) -> int:
        """Frames since the last one of speech."""
        return self.now - 1 - self.last_speech

    @property
    def clear(self) -> int:
        """Frames of clear speech in the utterance being spoken."""
        return _clear(self._frames)

    def heard(self, end: int) -> tuple[tuple[float, float], ...]:
        """(speech probability, dB) of each frame, before `end`, of the utterance being spoken."""
        return () if self.start is None else tuple(self._frames[: end - self.start])

    def push(self, probability: float, level: float) -> Ended | None:
        """Take the next frame's speech probability and level (dB full scale)."""
        now, self.now = self.now, self.now + 1
        frame = (probability, level)
        if self.start is None:
            if probability >= self._threshold:
                self._open(now, frame)
            self._recent.append(frame)
            return None
        self._frames.append(frame)
        self._recent.append(frame)
        if probability >= self._release:
            self._hear(now)
        if self.silence >= self.patience:
            return self._close(self.last_speech + 1 + TAIL)
        if len(self._frames) >= self._max:
            return self._cut()
        return None

    def finish(self) -> Ended | None:
        """End of the stream: return what is still open."""
        if self.start is None:
            return None
        return self._close(min(self.now, self.last_speech + 1 + TAIL))

    def claim(self, click: Ended) -> None:
        """Give its frames to a click after all, and to nobody else."""
        self._free = max(self._free, click.end)

    def _open(self, now: int, frame: tuple[float, float]) -> None:
        self.start = max(self._free, now - PRE_ROLL)
        before = now - self.start
        self._frames = [*list(self._recent)[len(self._recent) - before :], frame]
        self.first_speech = now
        self._hear(now)

    def _hear(self, now: int) -> None:
        pause = now - self.last_speech - 1
        if self._heard_speech and _PAUSE <= pause <= _LONGEST_PAUSE:
            self._pauses.append(pause)
            self._set_patience()
        self._heard_speech = True
        self.last_speech = now

    def _set_patience(self) -> None:
        wanted = _SPARE * float(np.quantile(self._pauses, 0.9))
        self.patience = self._fixed or min(max(round(wanted), SHORTEST), LONGEST)

    def _close(self, end: int) -> Ended:
        assert self.start is not None
        click = not self._enough_speech(self._frames)
        ended = self._ended(end, self.last_speech, self.clear, seam=False, click=click)
        if not click:
            self._free = end
        self.start, self._frames = None, []
        self.goes_on = self._mid_speech = False
        return ended

    def _cut(self) -> Ended | None:
        assert self.start is not None
        cut = quietest(self._frames, len(self._frames) // 2)
        head, rest = self._frames[:cut], self._frames[cut:]
        end = self.start + cut
        spoken = self._spoken(head)
        last = self.start + (spoken[-1] if spoken else cut - 1)
        mid_speech = len(self._spoken(self._frames[cut - 1 : cut + 1])) == 2
        enough = mid_speech or self._enough_speech(head)
        ended = self._ended(end, last, _clear(head), seam=True, click=not enough)
        self._frames, self._mid_speech = rest, mid_speech
        self.start = self._free = end
        self.goes_on = True
        spoken = self._spoken(rest)
        if not spoken:
            self.start, self._frames, self.goes_on = None, [], False
            return ended
        self.first_speech = end + spoken[0]
        return ended if enough else None

    def _ended(self, end: int, last: int, clear: int, *, seam: bool, click: bool) -> Ended:
        assert self.start is not None
        return Ended(self.start, end, last, self.now, clear, seam, click, self.heard(end))

    def _enough_speech(self, frames: list[tuple[float, float]]) -> bool:
        """Tell speech from a click; the rest of a word that was cut is speech however short."""
        return len(self._spoken(frames)) >= (1 if self._mid_speech else MIN_SPEECH)

    def _spoken(self, frames: list[tuple[float, float]]) -> list[int]:
        """Return the places of frames of speech."""
        return [i for i, frame in enumerate(frames) if frame[0] >= self._threshold]


def _clear(frames: list[tuple[float, float]]) -> int:
    return sum(probability >= CLEAR for probability, _ in frames)
