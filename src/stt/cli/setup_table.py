"""The table that `stt setup` ends with: sizes, errors, speed, and what `auto` will take."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

_COLUMNS = 80


def summary(folder: Path) -> str:
    """Return the table of an installed model's precisions."""
    from stt.engine.manifest import Manifest
    from stt.engine.precision import Known, choose
    from stt.install.measure import providers_here
    from stt.models import inspect

    manifest, model = Manifest.read(folder), inspect(folder)
    rows = [("precision", "MB", "encoder", "joint", "proof", "measured")]
    for precision in ("fp32", *manifest.precisions):
        entry = manifest.precisions.get(precision, {})
        figures = {check["name"]: check["figure"] for check in entry.get("checks", [])}
        names = model.family.graphs(precision)
        parts = [manifest.files.get(n) for name in names for n in (name, f"{name}.data")]
        size = sum(part["size"] for part in parts if part)
        speeds = [
            f"{row['provider']} {row['rtfx']:.1f}x, load {row['load_s']:.1f} s, "
            f"{row['peak_mib'] or 0:,.0f} MiB"
            for row in manifest.measurements
            if row["precision"] == precision
        ]
        proof = "" if precision == "fp32" else "proven" if entry["proven"] else "failed"
        rows.append(
            (
                precision,
                f"{size / 1e6:,.0f}" if size else "-",
                _percent(figures.get("encoder error")),
                _percent(figures.get("joint error")),
                proof,
                speeds[0] if speeds else "",
            )
        )
        rows += [("", "", "", "", "", speed) for speed in speeds[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    ran = {row["provider"] for row in manifest.measurements}
    provider = next((p for p in providers_here() if p in ran), "cpu")
    choice = choose("auto", Known.of(model, provider))
    lines.append("encoder, joint: relative error beside fp32; x: times real time")
    text = f"auto takes {choice.precision} on {choice.provider}: {choice.reason}"
    lines += wrap(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
