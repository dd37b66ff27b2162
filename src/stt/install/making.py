"""One converted graph: which conversion, and what the manifest is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stt.convert import fp16, mixed
from stt.convert.int8 import cpu_saturates
from stt.convert.mixed import Feed
from stt.install.installation import Events, Installation


def options_of(at: Installation, precision: str) -> dict[str, str]:
    """What a conversion depends on beside its source: for INT8, how its weights are stored.

    Unsigned where this processor needs it, and where they are so already: those are exact on every
    processor, so the folder of another machine is kept. For signed ones nothing is noted.
    """
    if precision != "int8":
        return {}
    there = [n for n in at.model.family.graphs(precision) if (at.folder / n).is_file()]
    noted = [at.manifest.files.get(name, {}).get("made_from", {}) for name in there]
    unsigned = cpu_saturates() or any("weights" in origin for origin in noted)
    return {"weights": "uint8"} if unsigned else {}


def made(
    *,
    precision: str,
    source: Path,
    target: Path,
    rtol: float,
    atol: float | None,
    unsigned: bool,
    feeds: Sequence[Feed],
    events: Events,
) -> dict[str, Any]:
    """Convert one graph; returns what was done, for the manifest.

    `rtol`, `atol` and `feeds` are those of `mixed.within`, `unsigned` is that of `int8.quantize`.
    """
    if precision == "int8":
        from stt.convert.int8 import quantize

        def told(stage: str, done: int, total: int) -> None:
            events.progress(f"quantising {source.name}: {stage}", done, total)

        report = quantize(source, target, unsigned=unsigned, progress=told)
        return {"quantised": _plain(asdict(report))}
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
