"""FP16 and INT8 of the starter: made of its FP32, proven beside it, measured with it.

So the precision selector can be tried before Parakeet is fetched. The starter's manifest takes the
entries that set-up writes of any model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from stt.errors import ModelError, UsageError
from stt.install import measure
from stt.install.artifacts import made, options_of
from stt.install.clips import Clip, bundled_clips
from stt.install.installation import Events, Installation
from stt.install.time_left import TimeLeft
from stt.install.whisper_proof import prove
from stt.types import ReportProgress

MADE = ("fp16", "int8")
_USUAL = {"clip": 4.0, "round": 3.0}
"""Seconds before any were measured, on two cores: to prove a precision on a clip, a round of all
when they are measured."""
_ROUNDS = 7
"""Rounds that measuring usually takes."""


def check_order(precisions: Sequence[str]) -> None:
    """Refuse what is not made of the starter.

    Raises:
        UsageError: names the first that is not.
    """
    if wrong := [p for p in precisions if p not in MADE]:
        raise UsageError(f"{wrong[0]} is not made of the starter; {' and '.join(MADE)} are")


def add(
    folder: Path,
    precisions: Sequence[str],
    events: Events,
    *,
    force: bool = False,
    clips: Sequence[Clip] | None = None,
) -> bool:
    """Have precisions of the starter in its folder; what is there and right is kept.

    Args:
        folder: the starter's, with its FP32 whole.
        precisions: fp16, int8.
        events: where to tell of it.
        force: make, prove and measure again.
        clips: speech to prove them on, instead of the bundled.

    Returns:
        Whether all are proven. One that is not has lost its files.

    Raises:
        ModelError: FP32 does not load.
        OSError: e.g. a full disk.
    """
    at = Installation(folder, events)
    clock = TimeLeft(events.left, _USUAL | at.manifest.rates)
    wanted = [p for p in precisions if force or not _is_settled(at, p)]
    speech = tuple(clips or bundled_clips())
    rounds = _ROUNDS * len(measure.providers_here())
    if wanted:
        clock.plan({"clip": _passes(wanted, speech), "round": rounds})
    for precision in wanted:
        _make(at, precision)
    if wanted:
        verdicts = prove(at.model, wanted, speech, _timed("clip", clock, events.progress))
        for precision, verdict in verdicts.items():
            at.manifest.precisions[precision] = verdict.figures()
            if verdict.proven:
                events.note(f"{precision}: proven, {verdict.why}")
            else:
                events.note(f"{precision}: failed its proof ({verdict.why}); FP32 is used")
                at.delete(at.model.family.graphs(precision))
            at.save()
    _measure(at, clock, changed=bool(wanted))
    at.manifest.rates |= clock.rates
    at.save()
    return all(at.manifest.precisions[p]["proven"] for p in precisions)


def check(folder: Path, events: Events, clips: Sequence[Clip] | None = None) -> list[str]:
    """Hold what was made of the starter against its manifest, and prove it again.

    Returns:
        What is wrong, a line each; empty when all is right.
    """
    at = Installation(folder, events)
    proven = [p for p, entry in at.manifest.precisions.items() if entry["proven"]]
    damaged = [p for p in proven if not all(map(at.is_right, at.model.family.graphs(p)))]
    if damaged:
        return [f"its {p} files are damaged; `stt setup starter --precision {p}`" for p in damaged]
    if not proven:
        return []
    speech = tuple(clips or bundled_clips())
    clock = TimeLeft(events.left, _USUAL | at.manifest.rates)
    clock.plan({"clip": _passes(proven, speech)})
    events.note(
        f"proving {' and '.join(proven)} again: about {clock.told()}; `--check --quick` reads the "
        "files and runs one clip"
    )
    verdicts = prove(at.model, proven, speech, _timed("clip", clock, events.progress))
    return [f"{p}: {verdict.why}" for p, verdict in verdicts.items() if not verdict.proven]


def _passes(precisions: Sequence[str], clips: Sequence[Clip]) -> int:
    """Clips that are run when precisions are proven beside FP32."""
    return (1 + len(precisions)) * len(clips)


def _timed(kind: str, clock: TimeLeft, report: ReportProgress) -> ReportProgress:
    """Return `report`, with the time between two reports of a stage taken for a unit of work."""
    last = time.monotonic()

    def told(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and not stage.startswith("loading"):
            clock.did(kind, 1, now - last)
        last = now
        report(stage, done, total)

    return told


def _is_settled(at: Installation, precision: str) -> bool:
    """Whether it is there, right, and proven."""
    if not at.manifest.precisions.get(precision, {}).get("proven"):
        return False
    family = at.model.family
    pairs = zip(family.graphs(precision), family.graphs("fp32"), strict=True)
    options = options_of(at, precision)
    return all(at.is_right(name, at.made_from(source) | options) for name, source in pairs)


def _make(at: Installation, precision: str) -> None:
    options = options_of(at, precision)
    at.manifest.precisions.pop(precision, None)
    at.save()
    family = at.model.family
    for source, name in zip(family.graphs("fp32"), family.graphs(precision), strict=True):
        told = made(
            precision=precision,
            source=at.folder / source,
            target=at.folder / name,
            options=options,
            feeds=(),
            events=at.events,
        )
        at.written(name, {"made_from": at.made_from(source) | options, **told})


def _measure(at: Installation, clock: TimeLeft, *, changed: bool) -> None:
    """Measure FP32 and all that is proven, in turns, where a figure is missing."""
    proven = [p for p, entry in at.manifest.precisions.items() if entry["proven"]]
    have = {row["precision"] for row in at.manifest.measurements}
    if not proven or not (changed or have < {"fp32", *proven}):
        return
    providers = measure.providers_here()
    for place, provider in enumerate(providers):
        clock.plan({"round": _ROUNDS * (len(providers) - place)})
        able = [p for p in ("fp32", *proven) if provider == "cpu" or p != "int8"]
        report = _timed("round", clock, at.events.progress)
        found = measure.compare(at.folder, able, provider, report)
        for speed in found.values():
            if isinstance(speed, ModelError):
                at.events.note(f"not measured: {speed}")
            else:
                at.measured(speed)
                at.events.note(
                    f"{speed.precision} measured on {provider}: {speed.rtfx:.1f} times real time"
                )
    clock.plan()
