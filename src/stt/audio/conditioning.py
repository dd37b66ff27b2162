"""Sound made fit to be heard: quiet recordings louder, rumble and offsets kept from the VAD.

Between the source and all that listens. Ordinary sound goes through as it is, bit for bit. It is
changed in two ways, where it needs them:

- Where more lies below 100 Hz than above (a constant offset, wind, traffic, a lorry's cab), the VAD
  hears only what is above: it misses words under a rumble 18 dB louder. Models do not: they hear
  what was recorded, unless there is next to nothing beside the rumble.
- Where the loudest of several seconds is quiet, it is amplified, by one factor that moves slowly.
  Noise alone is not: where something is said, levels differ.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stt.audio.high_pass import Stretch, at_rest, remembered
from stt.audio.vad import FRAME, levels
from stt.types import SAMPLE_RATE, Samples

_FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
BEHIND = round(4.0 * _FRAMES_PER_SECOND)
"""Frames looked back on: a quiet speaker is heard soon after a loud one."""
AHEAD = round(4.0 * _FRAMES_PER_SECOND)
"""Frames of a recording looked ahead: what is said first is amplified as what follows."""
_CHUNK = 30
"""Frames of a recording worked on together, whatever the blocks; with the filter an FFT of 2^14."""

_QUIET_DB = -32.0
"""Level (dB full scale, of a frame) of the loudest frames below which sound is amplified."""
_STAY_DB = 3.0
"""Louder by this than that before it is left alone again."""
_TARGET_DB = -20.0
"""Level to which they are raised."""
_MOST_DB = 60.0
"""Amplified by no more."""
_LOUDEST, _FLOOR = 0.95, 0.1
"""Quantiles of the levels: what is shorter than 5 % of the time, such as a bang, counts not."""
_STEADY_DB, _SPEECH_DB = 4.0, 8.0
"""Loudest over floor: up to the first it is noise, from the second on there may be speech."""
_SLOW_DB, _FAST_DB = 0.5, 2.0
"""Most by which the gain rises and falls from frame to frame (16 and 62 dB a second)."""
_ZERO_DB = -96.0
"""Below this a frame holds nothing."""
_FAINT_DB = -75.0
"""Loudest frames below this: 16 bits hold fewer than 10 steps of them."""
_RUMBLE, _RUMBLE_OVER = 4.0, 2.0
"""Power of all over that above 100 Hz: from the first on there is rumble, until the second."""
_DROWNED = 1000.0
"""The same from which on the model too hears what is above 100 Hz alone, until half of it: 30 dB.
Of eight clips of LibriSpeech (196 words) under offsets and rumble 10 to 24 dB louder the starter
has 12.0 % of the words wrong, of what is left of them above 100 Hz 13.7 %; at 36 dB 20 and 14 %."""
_LOUD_DB = -9.0
"""Level to which rumble that the model hears is amplified with quiet speech, at most."""
_CROSSFADE = 4
"""Frames over which the high-pass comes in and goes."""
_PEAK = 0.99
"""Largest sample that amplification makes."""


class _Window:
    """What the last frames were like."""

    def __init__(self, length: int) -> None:
        self._frames: deque[tuple[float, float, float]] = deque()  # level, power, power above
        self._length = length
        self._levels: list[float] = []  # of those that hold something, rising
        self._power = self._above = 0.0

    def push(self, level: float, power: float, above: float) -> None:
        """Take a frame: its level above 100 Hz in dB, its mean square, that above 100 Hz."""
        if len(self._frames) == self._length:
            old, old_power, old_above = self._frames.popleft()
            if old > _ZERO_DB:
                del self._levels[bisect_left(self._levels, old)]
            self._power -= old_power
            self._above -= old_above
        self._frames.append((level, power, above))
        if level > _ZERO_DB:
            insort(self._levels, level)
        self._power += power
        self._above += above

    def quantile(self, share: float) -> float:
        """A quantile of the levels of frames that hold something; -100 where none does."""
        if not self._levels:
            return -100.0
        return self._levels[int(share * (len(self._levels) - 1))]

    @property
    def low(self) -> float:
        """Power of all over that above 100 Hz."""
        return self._power / max(self._above, 1e-12)

    @property
    def room_db(self) -> float:
        """By how much all of it, but short bangs, can be amplified before peaks are cut off."""
        powers = sorted(power for _, power, _ in self._frames)
        loudest = powers[int(_LOUDEST * (len(powers) - 1))]
        return max(0.0, _LOUD_DB - 10 * math.log10(max(loudest, 1e-10)))


class Heard(NamedTuple):
    """The same stretch of sound for each of those who listen, in arrays of one shape."""

    model: Samples
    """As it was recorded, or amplified."""
    vad: Samples
    """The same without rumble."""


class _Decision(NamedTuple):
    """What is to be done with a frame."""

    drowned: bool
    """The model hears what lies above 100 Hz."""
    rumble: bool
    """The VAD does."""
    model_db: float = 0.0
    """Gain of what the model hears."""
    vad_db: float = 0.0


class _Fade:
    """Crosses over, within a few frames, between sound and what of it lies above 100 Hz."""

    def __init__(self) -> None:
        self._share: float | None = None  # of what is above, 0 to 1; None before the first frame

    def __call__(self, stretch: Stretch, chosen: slice, wanted: Sequence[bool]) -> Samples:
        """Return the chosen frames, each as it is wanted: True is what lies above."""
        if self._share is None:
            self._share = float(wanted[0])
        if not any(wanted) and self._share == 0.0:
            return stretch.frames[chosen]
        above = stretch.above[chosen]
        if all(wanted) and self._share == 1.0:
            return above
        pairs = zip(stretch.frames[chosen], above, wanted, strict=True)
        return np.stack([self._next(*pair) for pair in pairs])

    def _next(self, frame: Samples, above: Samples, wanted: bool) -> Samples:
        assert self._share is not None
        before, step = self._share, 1 / _CROSSFADE
        self._share = min(max(float(wanted), before - step), before + step)
        if before == self._share:
            return above if self._share else frame
        share = np.linspace(before, self._share, FRAME, dtype=np.float32)
        return frame + share * (above - frame)


class _Gain:
    """Amplifies frame by frame, by a factor that moves slowly."""

    def __init__(self) -> None:
        self._gain: float | None = None  # dB; None before the first frame
        self._factor = 1.0

    def __call__(self, frames: Samples, wanted: Sequence[float]) -> Samples:
        """Return frames, float32 [n, 512], each amplified towards so many dB."""
        if self._gain is None:
            self._gain, self._factor = wanted[0], 10 ** (wanted[0] / 20)
        if self._gain == 0.0 and not any(wanted):
            return frames
        return np.stack([self._next(*pair) for pair in zip(frames, wanted, strict=True)])

    def _next(self, frame: Samples, wanted: float) -> Samples:
        assert self._gain is not None
        self._gain = min(max(wanted, self._gain - _FAST_DB), self._gain + _SLOW_DB)
        before, self._factor = self._factor, 10 ** (self._gain / 20)
        if before == self._factor == 1.0:
            return frame
        limit = max(_PEAK / max(float(np.abs(frame).max()), 1e-9), 1.0)
        ramp = np.linspace(before, self._factor, FRAME, dtype=np.float32)
        return frame * np.minimum(ramp, np.float32(limit))


class Conditioner:
    """See the module. Takes consecutive frames, gives them changed where they need it."""

    def __init__(self, ahead: int = 0) -> None:
        """Look `ahead` frames ahead; with 0 nothing is amplified, see `levelled`."""
        self._ahead = ahead
        self._before: Samples | None = None  # samples that the filter looks back on
        self._window = _Window(BEHIND + ahead)
        self._waiting: deque[Stretch] = deque()
        self._count, self._begun = 0, 0  # frames that wait; those of the first that do not
        self._given = 0  # frames
        self._rumble = self._drowned = self._raised = False
        self._model_fade, self._vad_fade = _Fade(), _Fade()
        self._model_gain, self._vad_gain = _Gain(), _Gain()
        self._faint: deque[tuple[int, int]] = deque()  # frames [start, end)
        self._faint_speech, self._faint_from = 0, sys.maxsize
        self._drowned_frames = 0

    def push(self, frames: Samples) -> Heard:
        """Take float32 [n, 512]; return as many as can be given, float32 [m, 512]."""
        if not len(frames):
            return _NOTHING
        samples = frames.reshape(-1)
        before = at_rest(samples) if self._before is None else self._before
        self._before = remembered(before, samples)
        stretch = Stretch(frames, before)
        self._waiting.append(stretch)
        powers, above = stretch.powers
        levels_above = (10 * np.log10(above + 1e-10)).tolist()
        decisions: list[_Decision] = []
        for values in zip(levels_above, powers.tolist(), above.tolist(), strict=True):
            self._window.push(*values)
            self._count += 1
            if self._count > self._ahead:
                decisions.append(self._decide())
        return self._give(decisions)

    def finish(self) -> Heard:
        """Return the frames that are left, float32 [m, 512]."""
        return self._give([self._decide() for _ in range(self._count)])

    def speech(self, start: int, end: int) -> None:
        """Note that there is speech in the frames [start, end); stretches rise."""
        while self._faint and self._faint[0][1] <= start:
            self._faint.popleft()
        for first, behind in self._faint:
            common = min(behind, end) - max(first, start)
            if common > 0:
                self._faint_speech += common
                self._faint_from = min(self._faint_from, max(first, start))

    def notes(self, start: float = 0.0) -> list[str]:
        """Return what a person should know of how loud the speech was, a line each.

        `start`: seconds at which the stream lies in the recording.
        """
        notes: list[str] = []
        if self._drowned_frames > self._given / 2:
            notes.append(
                "a constant offset or rumble is more than 30 dB louder than all else: words may be "
                "missing or wrong; record it without"
            )
        if self._faint_speech:
            seconds, begin = (
                count / _FRAMES_PER_SECOND for count in (self._faint_speech, self._faint_from)
            )
            notes.append(
                f"{seconds:.1f} s of speech, the first at {start + begin:.1f} s, lie below "
                f"{_FAINT_DB:.0f} dB full scale, where 16 bits hold next to nothing of it: words "
                "may be missing or wrong; record it louder"
            )
        return notes

    def _decide(self) -> _Decision:
        """Say what is to be done with the next frame."""
        self._count -= 1
        self._given += 1
        low = self._window.low
        self._rumble = low > (_RUMBLE_OVER if self._rumble else _RUMBLE)
        self._drowned = low > (_DROWNED / 2 if self._drowned else _DROWNED)
        self._drowned_frames += self._drowned
        if not self._ahead:
            return _Decision(self._drowned, self._rumble)
        wanted = self._wanted()
        room = self._window.room_db if self._rumble and not self._drowned else wanted
        return _Decision(self._drowned, self._rumble, min(wanted, room), wanted)

    def _give(self, decisions: Sequence[_Decision]) -> Heard:
        """Return as many frames as there are decisions, the first that wait."""
        found: list[Heard] = []
        while decisions:
            stretch, begin = self._waiting[0], self._begun
            count = min(len(decisions), len(stretch.frames) - begin)
            drowned, rumble, model_db, vad_db = zip(*decisions[:count], strict=True)
            chosen, decisions = slice(begin, begin + count), decisions[count:]
            model = self._model_fade(stretch, chosen, drowned)
            vad = self._vad_fade(stretch, chosen, rumble)
            found.append(Heard(self._model_gain(model, model_db), self._vad_gain(vad, vad_db)))
            self._begun += count
            if self._begun == len(stretch.frames):
                self._waiting.popleft()
                self._begun = 0
        found = found or [_NOTHING]
        return Heard(*(np.concatenate(kind) for kind in zip(*found, strict=True)))

    def _wanted(self) -> float:
        """Return the gain, in dB, that the frames around call for."""
        loudest, floor = self._window.quantile(_LOUDEST), self._window.quantile(_FLOOR)
        self._raised = _ZERO_DB < loudest < _QUIET_DB + (_STAY_DB if self._raised else 0.0)
        wanted = _gain_db(loudest, floor) if self._raised else 0.0
        if wanted and loudest < _FAINT_DB:
            self._note_faint()
        return wanted

    def _note_faint(self) -> None:
        start = self._given - 1
        if self._faint and self._faint[-1][1] == start:
            start = self._faint.pop()[0]
        self._faint.append((start, self._given))


_NOTHING = Heard(*(np.zeros((0, FRAME), np.float32) for _ in Heard._fields))


def _gain_db(loudest: float, floor: float) -> float:
    """Return the gain for quiet sound by the levels of its frames; none where it is all alike."""
    differ = (loudest - floor - _STEADY_DB) / (_SPEECH_DB - _STEADY_DB)
    return min(max(_TARGET_DB - loudest, 0.0), _MOST_DB) * min(max(differ, 0.0), 1.0)


def levelled(samples: Samples) -> Samples:
    """Return an utterance, float32 [n] at 16 kHz, amplified by one factor if it is quiet.

    For live speech, of which no more is known than has been said.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    found = levels(frames)
    found = found[found > _ZERO_DB]
    if not len(found):
        return samples
    loudest, floor = (float(np.quantile(found, share)) for share in (_LOUDEST, _FLOOR))
    if loudest >= _QUIET_DB:
        return samples
    factor = 10 ** (_gain_db(loudest, floor) / 20)
    limit = max(_PEAK / float(np.abs(samples).max()), 1.0)
    return samples * np.float32(min(factor, limit))


def conditioned(blocks: Iterable[Samples], conditioner: Conditioner) -> Iterator[Heard]:
    """Yield a recording at 16 kHz, float32 [n], as it is to be heard: as many samples, in order."""
    size, rest, heard, given = _CHUNK * FRAME, np.zeros(0, np.float32), 0, 0
    for block in blocks:
        heard += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // size * size
        for start in range(0, whole, size):
            frames = conditioner.push(rest[start : start + size].reshape(-1, FRAME))
            out = Heard(*(kind.reshape(-1) for kind in frames))
            given += len(out.model)
            yield out
        rest = rest[whole:]
    last = np.pad(rest, (0, -len(rest) % FRAME)).reshape(-1, FRAME)
    for frames in (conditioner.push(last), conditioner.finish()):
        out = Heard(*(kind.reshape(-1)[: heard - given] for kind in frames))
        given += len(out.model)
        yield out
