"""FP16 or INT8 of one graph: the options it is made with, and what was done, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stt.convert import fp16, mixed
from stt.convert.products import cpu_saturates
from stt.install.installation import Events, Installation

Options = Mapping[str, Any]
"""What a conversion depends on beside its source, as the manifest has it."""


def options_of(
    at: Installation, precision: str, tolerance: Options | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Options of a conversion.

    INT8: how its weights are stored. Unsigned where this processor needs it, and where they are so
    already: those are exact on every processor, so the folder of another machine is kept. For
    signed ones nothing is noted.

    FP16: the tolerance of the search for what must stay in FP32. Without one, that of the files
    that are there is kept, unless they are to be made again; for plain FP16 nothing is noted.

    Args:
        at: the installation.
        precision: fp16 or int8.
        tolerance: `rtol` and `atol` of `mixed.within`, where a search is ordered.
        force: the files are made again.
    """
    if precision == "fp16" and tolerance is not None:
        return dict(tolerance)
    there = [n for n in at.model.family.graphs(precision) if (at.folder / n).is_file()]
    noted = [at.manifest.files.get(name, {}).get("made_from", {}) for name in there]
    if precision == "fp16":
        known = noted[0] if noted and not force else {}
        return {key: known[key] for key in ("rtol", "atol") if key in known}
    unsigned = cpu_saturates() or any("weights" in origin for origin in noted)
    return {"weights": "uint8"} if unsigned else {}


def made(
    *,
    precision: str,
    source: Path,
    target: Path,
    options: Options,
    feeds: Sequence[mixed.Feed],
    events: Events,
) -> dict[str, Any]:
    """Convert one graph; returns what was done, for the manifest.

    `options` are those of `options_of`, `feeds` inputs of the graph for the search.
    """
    if precision == "int8":
        from stt.convert.int8 import quantize

        def progress(stage: str, done: int, total: int) -> None:
            events.progress(f"quantising {source.name}: {stage}", done, total)

        report = quantize(source, target, unsigned="weights" in options, progress=progress)
        return {"quantised": asdict(report)}
    if "rtol" in options:
        holds = mixed.within(source, feeds, options["rtol"], options["atol"])
        events.note(f"{target.name}: searching what must stay in FP32 (#)")
        found = mixed.search(source, target, holds, lambda trial: events.note(trial.picture()))
        events.note(f"{target.name}: {', '.join(found.kept) or 'nothing'} stays in FP32")
        groups = {"kept_groups": list(found.kept), "trials": found.trials}
        return _described(found.conversion) | groups
    done = fp16.convert(source, target, report=events.progress)
    events.note(
        f"{target.name}: {done.bytes_after:,} bytes of {done.bytes_before:,}; "
        f"{done.tally.values:,} weights, {done.tally.clipped:,} clipped to ±1e4, "
        f"{done.tally.raised:,} raised to ±1e-7; {len(done.kept)} nodes kept in FP32, "
        f"{len(done.changes)} casts put in or aimed anew"
    )
    return _described(done)


def _described(done: fp16.Conversion) -> dict[str, Any]:
    return {
        "tally": asdict(done.tally),
        "kept_fp32": list(done.kept),
        "changes": [asdict(change) for change in done.changes],
    }
