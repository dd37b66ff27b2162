"""Channels to mono: their mean, unless they cancel each other.

Where one channel is the other with its sign turned (a balanced line recorded as stereo, a
miswired cable, a phone that widens the picture), the mean is silence. That is found by level: the
mean is far quieter than channels can be that have nothing to do with each other. Channels of
opposite polarity are then turned before the mean is taken, which for two is half their difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stt.types import Samples

Matrix = npt.NDArray[np.float64]

_WINDOW_S = 0.25
"""Seconds over which levels are compared."""
_AHEAD = 16
"""Windows looked ahead: 4 s, more than a pause between two words."""
_CANCELLING, _ORDINARY = 0.35, 0.8
"""Power of the mean over that of unrelated channels' mean. 1: unrelated; the number of channels:
the same sound in all; below the first they cancel, which ends above the second."""
_QUIET = 0.01
"""Share of the mean power around it below which nothing is heard to switch in a window."""
_FALSE = 1e12
"""Power over the median of the windows around it from which one is no sound."""
_SILENCE = 1e-9
"""Share of full scale, squared, below which a window tells nothing of its channels: -90 dB."""

CANCELLING_NOTE = "its channels cancel each other (opposite polarity): their difference is read"


def one_channel(blocks: Iterable[Samples], number: int) -> Iterator[Samples]:
    """Yield one channel, from 1, of [n, channels]; of blocks with fewer, their mean."""
    for block in blocks:
        has_it = number <= block.shape[1]
        yield np.ascontiguousarray(block[:, number - 1] if has_it else block.mean(axis=1))


class _Window(NamedTuple):
    block: Samples
    """float32 [n, channels]."""
    products: Matrix
    """[channels, channels]: summed products of each two channels."""


class Downmix:
    """Turns float32 [n, channels] blocks into float32 [n] mono, looking 4 s ahead.

    The mean of channels that do not cancel is exact: `block.mean(axis=1)`.
    """

    def __init__(self, rate: int) -> None:
        """`rate`: Hz."""
        self.cancels = False
        """Whether channels of opposite polarity were met."""
        self._frames = max(1, round(_WINDOW_S * rate))
        self._waiting: deque[_Window] = deque()
        self._latest: deque[_Window] = deque(maxlen=_AHEAD + 1)  # at the end, of what went before
        self._rest: list[Samples] = []
        self._signs: npt.NDArray[np.float32] | None = None  # None: the plain mean

    def mixed(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield as many samples as there are frames; the number of channels may change."""
        for block in blocks:
            if block.shape[1] == 1:
                yield from self.finish()
                yield np.ascontiguousarray(block[:, 0])
                continue
            if self._rest and self._rest[0].shape[1] != block.shape[1]:
                yield from self.finish()
            yield from self._push(block)
        yield from self.finish()

    def finish(self) -> Iterator[Samples]:
        """Yield what was held back."""
        if self._rest:
            self._window(np.concatenate(self._rest))
            self._rest = []
        while self._waiting:
            yield self._next()
        self._signs = None
        self._latest.clear()

    def _push(self, block: Samples) -> Iterator[Samples]:
        self._rest.append(block)
        if sum(map(len, self._rest)) < self._frames:
            return
        joined = np.concatenate(self._rest)
        whole = len(joined) // self._frames * self._frames
        for start in range(0, whole, self._frames):
            self._window(joined[start : start + self._frames])
            if len(self._waiting) > _AHEAD:
                yield self._next()
        self._rest = [joined[whole:]]

    def _window(self, block: Samples) -> None:
        if len(block):
            exact = block.astype(np.float64)
            with np.errstate(all="ignore"):
                products = exact.T @ exact
            if not np.isfinite(products).all():  # they tell nothing of polarity
                products = np.zeros_like(products)
            window = _Window(block, products)
            self._waiting.append(window)
            self._latest.append(window)

    def _next(self) -> Samples:
        """Mix the oldest window, with what those behind it tell."""
        with np.errstate(all="ignore"):
            ahead = _summed([window.products for window in self._latest])
            frames = sum(len(window.block) for window in self._latest)
            block, products = self._waiting.popleft()
            here = cancellation(products)
            level = float(np.trace(products)) / max(1, len(block))
            quiet = level < _QUIET * float(np.trace(ahead)) / max(1, frames)
            if float(np.trace(ahead)) > _SILENCE * frames:
                self._decide(cancellation(ahead), here, ahead, quiet=quiet)
        if self._signs is None:
            return np.asarray(block.mean(axis=1), np.float32)
        return np.asarray((block * self._signs).mean(axis=1), np.float32)

    def _decide(self, ahead: float, here: float, products: Matrix, *, quiet: bool) -> None:
        """Switch where what follows asks for it and this window agrees, or is too quiet to tell."""
        if self._signs is None and ahead < _CANCELLING and (quiet or here < _ORDINARY):
            self._signs = polarity(products)
            self.cancels = True
        elif self._signs is not None and ahead > _ORDINARY and (quiet or here > _CANCELLING):
            self._signs = None


def _summed(products: list[Matrix]) -> Matrix:
    """Add up what windows tell, but one that a single false sample makes 120 dB louder."""
    powers = np.trace(products, axis1=1, axis2=2)
    sounding = powers[powers > 0]
    limit = _FALSE * np.median(sounding) if len(sounding) else 0.0
    kept = [one for one, power in zip(products, powers, strict=True) if power <= limit]
    return np.asarray(np.sum(kept, axis=0), np.float64)


def cancellation(products: Matrix) -> float:
    """Return the power of the channels' mean over that of unrelated channels of their levels.

    Args:
        products: [channels, channels], summed products of each two channels.
    """
    unrelated = float(np.trace(products))
    return float(products.sum()) / unrelated if unrelated > 0 else float("nan")


def polarity(products: Matrix) -> npt.NDArray[np.float32]:
    """Return +1 for channels that go with the first loud one, -1 for those that go against it."""
    powers = np.diag(products)
    first = int(np.argmax(powers >= powers.max() / 10))
    return np.where(products[first] < 0, -1, 1).astype(np.float32)
