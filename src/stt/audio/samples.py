"""Samples as all that follows takes them: finite, full scale ±1, at 16 kHz.

Floating point carries what integers cannot: NaN of a program that divided by zero, and recordings
whose samples were never divided by 32,768. Both are looked for at the source's own rate, before a
filter smears them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stt.errors import AudioError
from stt.types import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from stt.audio.stream import Damage

_HOT = 4.0
"""Peak up to which full scale is believed to be ±1: lossy codecs and mixing go beyond it."""
_EVIDENCE = 0.25
"""Share of the samples in 0.1 s that must lie beyond that: less is a fault, not a scale."""
_WINDOW_S = 0.1
_SPREAD = 1e4
"""Loud samples (the 90th percentile) over the median, at most: random bits spread further."""
_CREST = 4.0
"""Peak over the 98th percentile, at most, in 0.1 s of speech."""
_INTEGERS = ((64.0, 2.0**15, "16-bit"), (2.0**16, 2.0**23, "24-bit"), (2.0**24, 2.0**31, "32-bit"))
"""(peaks beyond this, full scale, whose range it is); double the full scale is believed."""
_BEYOND = 16.0
"""Times full scale from which a sample is no sound."""
_DOUBTED = 1.5
"""Peak from which it is not clear yet that full scale is ±1: it may be the noise of another."""
_HELD = 8
"""Blocks kept back until that is clear."""
_APART_S = 0.5
"""Seconds between two faults that are told as two."""
_LONG_S = 0.1
"""Seconds lost in one place from which on words may be lost."""
_NAMED = 3
"""Places named in a message."""
_WHAT = "not sound (NaN, infinity or far beyond full scale)"


def sound(blocks: Iterable[Samples], rate: int, name: str, damage: Damage) -> Iterator[Samples]:
    """Yield float32 [n] mono blocks with every sample finite and full scale ±1.

    A sample that is no sound becomes 0. Blocks without such a sample, at full scale ±1, are
    yielded as they are. At most `_HELD` blocks are kept back.

    Args:
        blocks: float32 [n], in the recording's own scale.
        rate: Hz.
        name: what messages call the recording.
        damage: takes a note of another scale and of stray samples, and meets longer faults.

    Raises:
        AudioError: no sample is sound; or 0.1 s in one place are not and damage is not tolerated.
    """
    full, faults, held = 1.0, _Faults(rate, name, damage), list[Samples]()
    for block in blocks:
        held.append(block)
        full = max(full, _full_scale(block, rate))
        if len(held) < _HELD and any(_is_doubted(one, full) for one in held):
            continue
        yield from (faults.silenced(one, full) for one in held)
        held.clear()
    yield from (faults.silenced(one, full) for one in held)
    if full > 1:
        damage.note(f"its samples are {_full_scale_text(full)}, not within ±1: they were scaled")
    faults.tell()


def finite(samples: Samples) -> Samples:
    """Return samples with 0 for NaN and infinity."""
    whole = np.isfinite(samples)
    return samples if whole.all() else np.where(whole, samples, np.float32(0))


def _is_doubted(block: Samples, full: float) -> bool:
    """Tell whether a block may be quiet sound of a larger full scale, or holds a fault."""
    size = np.abs(block)
    if full > 1:
        return full < _INTEGERS[0][1] or not (size <= _BEYOND * full).all()
    if not (size <= _DOUBTED).all():
        return True
    return bool(size.any()) and bool(((size == 0) | (size == 1)).all())  # integers, all of them


def _full_scale(block: Samples, rate: int) -> float:
    """Return the full scale, a power of two, that the loudest 0.1 s of a block show; else 1."""
    size = np.abs(block)
    if (size <= _HOT).all():
        return 1.0
    width = max(1, min(len(block), round(rate * _WINDOW_S)))
    found = 1.0
    for start in range(0, len(block), width):
        window = size[start : start + width]
        window = window[np.isfinite(window)]
        if np.count_nonzero(window > _HOT) < max(_EVIDENCE * width, 1):
            continue
        least, middle, loud, louder = np.quantile(window, (0.1, 0.5, 0.9, 0.98))
        # neither random bits nor one value again and again
        if least < 0.99 * loud and loud <= _SPREAD * max(middle, 1.0):
            # one sample of garbage is not to set the scale
            found = max(found, _scale_for(min(float(window.max()), _CREST * float(louder))))
    return found


def _scale_for(peak: float) -> float:
    for least, scale, _ in reversed(_INTEGERS):
        if least < peak <= 2 * scale:
            return scale
    return float(2.0 ** math.ceil(math.log2(peak)))


def _full_scale_text(full: float) -> str:
    for _, scale, bits in _INTEGERS:
        if full == scale:
            return f"floating-point numbers in the range of {bits} integers"
    return f"floating-point numbers up to about {full:.3g}"


class _Faults:
    """Samples that are no sound, by place; what is remembered does not grow with their number."""

    def __init__(self, rate: int, name: str, damage: Damage) -> None:
        self._rate, self._name, self._damage = rate, name, damage
        self._done = 0  # samples
        self._lost = 0  # of them
        self._open: tuple[int, int, int] | None = None  # first, last sample and count of a stretch
        self._strays, self._stray_places = 0, list[str]()
        self._long_s, self._long_places = 0.0, list[str]()

    def silenced(self, block: Samples, full: float) -> Samples:
        """Return a block at full scale ±1, with 0 for what is no sound."""
        good = np.abs(block) <= _BEYOND * full  # False for NaN
        if not good.all():
            self._note(np.flatnonzero(~good) + self._done)
            block = np.where(good, block, np.float32(0))
        self._done += len(block)
        return block if full == 1 else np.asarray(block * np.float32(1 / full), np.float32)

    def _note(self, places: npt.NDArray[np.intp]) -> None:
        self._lost += len(places)
        apart = round(_APART_S * self._rate)
        for run in np.split(places, np.flatnonzero(np.diff(places) > apart) + 1):
            first, last, count = int(run[0]), int(run[-1]), len(run)
            if self._open and first - self._open[1] <= apart:
                first, count = self._open[0], count + self._open[2]
            else:
                self._close()
            self._open = (first, last, count)
            if count >= _LONG_S * self._rate and not self._damage.tolerant:
                self._close()
                self.tell()

    def _close(self) -> None:
        if self._open is None:
            return
        (first, last, count), self._open = self._open, None
        begin, end = first / self._rate, (last + 1) / self._rate
        if count < _LONG_S * self._rate:
            self._strays += count
            places, place = self._stray_places, f"{begin:.2f} s"
        else:
            self._long_s += count / self._rate
            places, place = self._long_places, f"{begin:.2f} to {end:.2f} s"
        if len(places) <= _NAMED:
            places.append(place)

    def tell(self) -> None:
        """Note stray samples and meet longer faults; see sound."""
        self._close()
        if self._lost and self._lost == self._done:
            raise AudioError(
                f"{self._name}: all its samples are {_WHAT}; export the recording again as 16-bit"
            )
        if self._strays:
            samples = "1 sample is" if self._strays == 1 else f"{self._strays:,} samples are"
            at = _listed(self._stray_places)
            self._damage.note(f"{samples} {_WHAT}, at {at}: taken for silence")
        if self._long_s:
            at = _listed(self._long_places)
            self._damage.meet(
                AudioError(
                    f"{self._name}: {self._long_s:.1f} s are {_WHAT}, at {at}: taken for silence; "
                    "export the recording again as 16-bit"
                )
            )


def _listed(places: list[str]) -> str:
    shown = ", ".join(places[:_NAMED])
    return f"{shown} and later" if len(places) > _NAMED else shown


def resampled(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Resample float32 [n] mono blocks from `rate` Hz to 16 kHz (soxr, high quality, streaming).

    The filter's delay is compensated: sample k of the output lies at k / 16000 s of the input.
    """
    resampler = Resampler(rate)
    for block in blocks:
        out = resampler.push(block)
        if len(out):
            yield out
    tail = resampler.drain()
    if len(tail):
        yield tail


class Resampler:
    """The same for whoever is handed blocks, and may have the stream end and begin anew."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        """Hz of what is pushed."""
        self._stream: Any = None  # None: nothing was pushed

    def push(self, block: Samples) -> Samples:
        """Return what is sure of float32 [n] so far, float32 [m] at 16 kHz."""
        if self.rate == SAMPLE_RATE:
            return block
        if self._stream is None:
            import soxr

            self._stream = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, "float32", "HQ")
        return np.asarray(self._stream.resample_chunk(block), np.float32)

    def drain(self) -> Samples:
        """Return the rest, float32 [m]: the stream ends here, and the next push begins another."""
        rest = np.zeros(0, np.float32)
        if self._stream is not None:
            rest = np.asarray(self._stream.resample_chunk(rest, last=True), np.float32)
            self._stream = None
        return rest
