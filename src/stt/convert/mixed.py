"""Mixed precision: the smallest part of a model that must stay float32 for a tolerance to hold.

The search is delta debugging's minimisation (Zeller and Hildebrandt, "Simplifying and isolating
failure-inducing input", 2002) over groups of nodes: first whole modules (`/layers.3`), then parts
of those that had to stay. Each trial converts the model, runs it on sample inputs and compares with
FP32. It finds a set from which no single group can be left out; a smaller one of other groups may
exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.convert.fp16 import Conversion, convert
from stt.convert.graph import called
from stt.convert.model_file import read
from stt.errors import ModelError

Feed = Mapping[str, npt.NDArray[Any]]
"""Input name -> array: one run of the model."""
Holds = Callable[[Path], "tuple[bool, str]"]
"""(path of a converted model) -> (whether it is good enough, a figure in words)."""

_LEVELS = (1, 3)
"""How many parts of a node's path (`/layers.3/self_attn/linear_q/MatMul`) make a group, in turn."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of the search."""

    number: int
    groups: tuple[str, ...]
    """All groups at this level, in graph order."""
    kept: frozenset[str]
    """Those in float32."""
    held: bool
    figure: str

    def picture(self) -> str:
        """A character for each group: # in float32, . in float16; at most 64 of them."""
        width = min(len(self.groups), 64)
        shares = np.array_split(np.array([group in self.kept for group in self.groups]), width)
        row = "".join("#" if any(share) else "." for share in shares)
        return f"{self.number:>3} [{row}] {'holds' if self.held else 'fails'}, {self.figure}"


@dataclass(frozen=True, slots=True)
class Mixed:
    """The result of a search."""

    conversion: Conversion
    kept: tuple[str, ...]
    """Groups of nodes in float32; empty where plain float16 holds."""
    trials: int


def search(
    source: Path,
    target: Path,
    holds: Holds,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Mixed:
    """Find what must stay float32 and write the model to `target`.

    Args:
        source: a float32 model.
        target: appears when the search has ended.
        holds: judges a converted model; see `within`.
        on_trial: called after each trial.

    Raises:
        ModelError: not even with all nodes in float32 does it hold, or the model cannot be read.
        OSError: e.g. a full disk; `target` is as it was before.
    """
    trial_file = target.with_name(f".{target.name}.trial.onnx")
    hunt = _Hunt(source, trial_file, holds, on_trial)
    try:
        kept = hunt.run()
    finally:
        trial_file.unlink(missing_ok=True)
    nodes = [name for group in kept for name in hunt.groups[group]]
    return Mixed(convert(source, target, nodes), tuple(kept), hunt.trials)


class _Hunt:
    """The state of one search."""

    def __init__(
        self, source: Path, trial_file: Path, holds: Holds, on_trial: Callable[[Trial], None]
    ) -> None:
        self._source, self._file, self._holds, self._on_trial = source, trial_file, holds, on_trial
        self._names = [
            called(node) for node in read(source).model.graph.node if node.op_type != "Constant"
        ]
        self.groups: dict[str, list[str]] = {}
        self.trials = 0
        self._known: dict[frozenset[str], bool] = {}

    def run(self) -> list[str]:
        """Return the groups to keep, by way of ever smaller ones."""
        names, kept = self._names, []
        for level in _LEVELS:
            self.groups = _grouped(names, level)
            kept = list(self.groups)
            if level == _LEVELS[0]:
                if self._test([]):
                    return []
                if not self._test(kept):
                    raise ModelError(
                        f"{self._source}: the tolerance does not hold even in FP32; widen it"
                    )
            kept = self._minimised(kept)
            names = [name for group in kept for name in self.groups[group]]
        return kept

    def _minimised(self, kept: list[str]) -> list[str]:
        """Delta debugging: leave out ever smaller parts while the rest still holds."""
        parts = 2
        while len(kept) > 1:
            slices = [list(part) for part in np.array_split(np.array(kept, object), parts)]
            rests = [[g for g in kept if g not in set(part)] for part in slices]
            smaller = next(
                (s for s in (*slices, *rests) if s and s != kept and self._test(s)), None
            )
            if smaller is not None:
                kept, parts = smaller, max(2, parts - 1 if smaller in rests else 2)
            elif parts == len(kept):
                break
            else:
                parts = min(len(kept), 2 * parts)
        return kept

    def _test(self, kept: Sequence[str]) -> bool:
        nodes = [name for group in kept for name in self.groups[group]]
        if (same := frozenset(nodes)) in self._known:
            return self._known[same]
        convert(self._source, self._file, nodes)
        held, figure = self._holds(self._file)
        self._known[same] = held
        self.trials += 1
        self._on_trial(Trial(self.trials, tuple(self.groups), frozenset(kept), held, figure))
        return held


def _grouped(names: Sequence[str], level: int) -> dict[str, list[str]]:
    """Group nodes by the first parts of their paths; a node without a path is its own group."""
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = [part for part in name.split("/") if part]
        key = "/".join(parts[: max(1, min(level, len(parts) - 1))])
        groups.setdefault(key, []).append(name)
    return groups


def within(
    source: Path, feeds: Sequence[Feed], rtol: float = 0.02, atol: float | None = None
) -> Holds:
    """A judge that compares all outputs with FP32's as numpy.allclose does; integers exactly.

    Args:
        source: the float32 model.
        feeds: inputs of the runs to compare, speech rather than noise.
        rtol: largest difference as a share of FP32's value.
        atol: largest difference whatever the value; None: `rtol` times the root mean square of
            FP32's output.
    """
    expected = [_run(source, feed) for feed in feeds]

    def holds(path: Path) -> tuple[bool, str]:
        worst, good = 0.0, True
        for feed, right in zip(feeds, expected, strict=True):
            for one, two in zip(right, _run(path, feed), strict=True):
                if one.dtype.kind != "f":
                    good &= bool(np.array_equal(one, two))
                    continue
                size = float(np.sqrt(np.mean(np.square(one, dtype=np.float64))))
                floor = rtol * size if atol is None else atol
                good &= bool(np.allclose(two, one, rtol=rtol, atol=floor))
                worst = max(worst, float(np.abs(one - two).max() / size) if size else 0.0)
        return good, f"largest difference {worst:.3%} of the output's size"

    return holds


def _run(path: Path, feed: Feed) -> list[npt.NDArray[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    results: list[npt.NDArray[Any]] = session.run(None, dict(feed))
    return results
