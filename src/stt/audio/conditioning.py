"""Sound made fit to be heard: rumble and offsets taken out, quiet recordings made louder.

Between the source and all that listens: the VAD and the model hear the same. Ordinary sound goes
through as it is, bit for bit. It is changed in two ways, where it needs them:

- Where more lies below 100 Hz than above (a constant offset, wind, traffic, a lorry's cab), only
  what is above is heard.
- Where the loudest of several seconds is quiet, it is amplified, by one factor that moves slowly.
  Noise alone is not: where something is said, levels differ.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from stt.audio.vad import FRAME
from stt.types import SAMPLE_RATE, Samples

CORNER = 100.0
"""Hz, at which the level is 3 dB lower; 24 dB less an octave below."""
_TAPS = 1024
"""Length of the impulse response in samples (0.064 s): what is cut off is below 1e-6."""
_QUALITIES = (0.541196100146197, 1.3065629648763766)
"""Q of the two second-order sections of a Butterworth filter of the fourth order."""


class HighPass:
    """A causal Butterworth high-pass of the fourth order, with its memory: one stream at 16 kHz.

    It is applied as its impulse response, by FFT (overlap-save), as NumPy has no recursive filter.
    Telephones pass nothing below 300 Hz, and models and VAD hear them: the lowest harmonic of a
    deep voice is not missed.
    """

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float64] | None = None

    def __call__(self, samples: Samples) -> Samples:
        """Return the next samples, float32 [n], filtered; the stream is taken to begin at rest.

        At rest means that its first sample was there for ever: an offset is no step.
        """
        if not len(samples):
            return samples
        if self._before is None:
            self._before = np.full(_TAPS - 1, samples[0], np.float64)
        whole = np.concatenate([self._before, samples])
        self._before = whole[-(_TAPS - 1) :]
        size = 1 << (len(whole) - 1).bit_length()
        filtered = np.fft.irfft(np.fft.rfft(whole, size) * _response(size), size)
        return np.asarray(filtered[_TAPS - 1 : len(whole)], np.float32)


@cache
def _response(size: int) -> npt.NDArray[np.complex128]:
    return np.asarray(np.fft.rfft(_impulse_response(), size), np.complex128)


@cache
def _impulse_response() -> npt.NDArray[np.float64]:
    """The sections one after the other (bilinear transform, as in the Audio EQ Cookbook)."""
    values = [1.0] + [0.0] * (_TAPS - 1)
    angle = 2 * math.pi * CORNER / SAMPLE_RATE
    for quality in _QUALITIES:
        alpha, cosine = math.sin(angle) / (2 * quality), math.cos(angle)
        ends, middle = (1 + cosine) / (2 * (1 + alpha)), -(1 + cosine) / (1 + alpha)
        back1, back2 = -2 * cosine / (1 + alpha), (1 - alpha) / (1 + alpha)
        x1 = x2 = y1 = y2 = 0.0
        out: list[float] = []
        for x in values:
            y = ends * (x + x2) + middle * x1 - back1 * y1 - back2 * y2
            x1, x2, y1, y2 = x, x1, y, y1
            out.append(y)
        values = out
    taps = np.array(values)
    taps[0] -= taps.sum()  # nothing of an offset is left
    return taps


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


class Conditioner:
    """See the module. Takes consecutive frames, gives them changed where they need it."""

    def __init__(self, ahead: int = 0) -> None:
        """Look `ahead` frames ahead; with 0 nothing is amplified, see `levelled`."""
        self._ahead = ahead
        self._high_pass = HighPass()
        self._window = _Window(BEHIND + ahead)
        self._waiting: deque[tuple[Samples, Samples]] = deque()  # frame, above 100 Hz
        self._seen = 0  # frames
        self._given = 0  # frames
        self._gain: float | None = None  # dB; None before the first frame
        self._factor = 1.0
        self._raised = False
        self._share = 0.0  # of the high-pass, 0 to 1
        self._rumble = False
        self._faint: deque[tuple[int, int]] = deque()  # frames [start, end)
        self._faint_speech, self._faint_from = 0, sys.maxsize

    def push(self, frames: Samples) -> Samples:
        """Take float32 [n, 512]; return as many as can be given, float32 [m, 512]."""
        above = self._high_pass(frames.reshape(-1)).reshape(frames.shape)
        powers, high = (np.einsum("ij,ij->i", x, x) / FRAME for x in (frames, above))
        levels = 10 * np.log10(high + 1e-10)
        out: list[Samples] = []
        for i, level in enumerate(levels.tolist()):
            self._window.push(level, float(powers[i]), float(high[i]))
            self._waiting.append((frames[i], above[i]))
            self._seen += 1
            if len(self._waiting) > self._ahead:
                out.append(self._next())
        return np.stack(out) if out else frames[:0]

    def finish(self) -> Samples:
        """Return the frames that are left, float32 [m, 512]."""
        out = [self._next() for _ in range(len(self._waiting))]
        return np.stack(out) if out else np.zeros((0, FRAME), np.float32)

    def speech(self, start: int, end: int) -> None:
        """Note that there is speech in the frames [start, end); stretches rise."""
        while self._faint and self._faint[0][1] <= start:
            self._faint.popleft()
        for first, last in self._faint:
            common = min(last, end) - max(first, start)
            if common > 0:
                self._faint_speech += common
                self._faint_from = min(self._faint_from, max(first, start))

    def notes(self, start: float = 0.0) -> list[str]:
        """Return what a person should know of how loud the speech was, a line each.

        `start`: seconds at which the stream lies in the recording.
        """
        if not self._faint_speech:
            return []
        seconds, begin = (
            count / _FRAMES_PER_SECOND for count in (self._faint_speech, self._faint_from)
        )
        return [
            f"{seconds:.1f} s of speech, the first at {start + begin:.1f} s, lie below "
            f"{_FAINT_DB:.0f} dB full scale, where 16 bits hold next to nothing of it: words may "
            "be missing or wrong; record it louder"
        ]

    def _next(self) -> Samples:
        frame, above = self._waiting.popleft()
        heard = self._without_rumble(frame, above)
        self._given += 1
        return self._amplified(heard) if self._ahead else heard

    def _without_rumble(self, frame: Samples, above: Samples) -> Samples:
        self._rumble = self._window.low > (_RUMBLE_OVER if self._rumble else _RUMBLE)
        wanted = float(self._rumble)
        before = self._share if self._given else wanted
        step = 1 / _CROSSFADE
        self._share = min(max(wanted, before - step), before + step)
        if before == self._share:
            return above if self._share else frame
        share = np.linspace(before, self._share, FRAME, dtype=np.float32)
        return frame + share * (above - frame)

    def _amplified(self, frame: Samples) -> Samples:
        wanted = self._wanted()
        if self._gain is None:
            self._gain, self._factor = wanted, 10 ** (wanted / 20)
        self._gain = min(max(wanted, self._gain - _FAST_DB), self._gain + _SLOW_DB)
        before, self._factor = self._factor, 10 ** (self._gain / 20)
        if before == self._factor == 1.0:
            return frame
        limit = max(_PEAK / max(float(np.abs(frame).max()), 1e-9), 1.0)
        ramp = np.linspace(before, self._factor, FRAME, dtype=np.float32)
        return frame * np.minimum(ramp, np.float32(limit))

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


def _gain_db(loudest: float, floor: float) -> float:
    """Return the gain for quiet sound by the levels of its frames; none where it is all alike."""
    differ = (loudest - floor - _STEADY_DB) / (_SPEECH_DB - _STEADY_DB)
    return min(max(_TARGET_DB - loudest, 0.0), _MOST_DB) * min(max(differ, 0.0), 1.0)


def levelled(samples: Samples) -> Samples:
    """Return an utterance, float32 [n] at 16 kHz, amplified by one factor if it is quiet.

    For live speech, of which no more is known than has been said.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    levels = _levels(frames)
    levels = levels[levels > _ZERO_DB]
    if not len(levels):
        return samples
    loudest, floor = (float(np.quantile(levels, share)) for share in (_LOUDEST, _FLOOR))
    if loudest >= _QUIET_DB:
        return samples
    factor = 10 ** (_gain_db(loudest, floor) / 20)
    limit = max(_PEAK / float(np.abs(samples).max()), 1.0)
    return samples * np.float32(min(factor, limit))


def _levels(frames: Samples) -> npt.NDArray[np.float64]:
    """Level of each of the frames [n, 512] in dB full scale, float64 [n]; silence is -100."""
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / FRAME
    return np.asarray(10 * np.log10(power + 1e-10), np.float64)


def conditioned(blocks: Iterable[Samples], conditioner: Conditioner) -> Iterator[Samples]:
    """Yield a recording at 16 kHz, float32 [n], as it is to be heard: as many samples, in order."""
    size, rest, heard, given = _CHUNK * FRAME, np.zeros(0, np.float32), 0, 0
    for block in blocks:
        heard += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // size * size
        for start in range(0, whole, size):
            out = conditioner.push(rest[start : start + size].reshape(-1, FRAME)).reshape(-1)
            given += len(out)
            yield out
        rest = rest[whole:]
    last = np.pad(rest, (0, -len(rest) % FRAME)).reshape(-1, FRAME)
    for frames in (conditioner.push(last), conditioner.finish()):
        out = frames.reshape(-1)[: heard - given]
        given += len(out)
        yield out
