"""One converted graph: which conversion, and what the manifest is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stt.convert import fp16, mixed
from stt.convert.mixed import Feed
from stt.models.installation import Events


def made(
    *,
    precision: str,
    source: Path,
    target: Path,
    rtol: float,
    atol: float | None,
    feeds: Sequence[Feed],
    events: Events,
) -> dict[str, Any]:
    """Convert one graph; returns what was done, for the manifest.

    `rtol`, `atol` and `feeds` are those of `mixed.within`.
    """
    if precision == "int8":
        from stt.convert.int8 import quantize

        def told(stage: str, done: int, total: int) -> None:
            events.progress(f"quantising {source.name}: {stage}", done, total)

        return {"quantised": _plain(asdict(quantize(source, target, progress=told)))}
    if precision == "mixed":
        holds = mixed.within(source, feeds, rtol, atol)
        events.note(f"{target.name}: searching what must stay in FP32 (#)")
        found = mixed.search(source, target, holds, lambda trial: events.note(trial.picture()))
        events.note(f"{target.name}: {', '.join(found.kept) or 'nothing'} stays in FP32")
        return _told(found.conversion) | {"kept_groups": list(found.kept), "trials": found.trials}
    done = fp16.convert(source, target, report=events.progress)
    events.note(
        f"{target.name}: {done.bytes_after:,} bytes of {done.bytes_before:,}; "
        f"{done.tally.values:,} weights, {done.tally.clipped:,} clipped to ±1e4, "
        f"{done.tally.raised:,} raised to ±1e-7; {len(done.kept)} nodes kept in FP32, "
        f"{len(done.changes)} casts put in or aimed anew"
    )
    return _told(done)


def _told(done: fp16.Conversion) -> dict[str, Any]:
    return {
        "tally": asdict(done.tally),
        "kept_fp32": list(done.kept),
        "changes": [asdict(change) for change in done.changes],
    }


def _plain(value: Any) -> Any:
    """The same for JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
