"""Whether an installation is right: its files, and everything that was made of FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stt import models
from stt.engine.manifest import Manifest, sha256_of
from stt.errors import ModelError, NonFiniteOutput
from stt.install import proof
from stt.install.clips import Clip, bundled_clips
from stt.install.installation import Events, Installation, reading
from stt.install.prover import Prover
from stt.install.time_left import TimeLeft
from stt.models import inspect

_SMALL = 1_000_000
"""Bytes."""


def check(
    folder: Path,
    events: Events,
    clips: Sequence[Clip] | None = None,
    *,
    longest_s: float = proof.LONGEST_S,
) -> list[str]:
    """Verify an installation: every file by size and SHA-256, every artifact by its proof.

    Args:
        folder: the installed model.
        events: hears first how long it will take.
        clips: speech, instead of the bundled English.
        longest_s: seconds of the longest audio to prove conversions on.

    Returns:
        What is wrong, a line for each damaged file and failed check; empty when all is right.

    Raises:
        ModelError: there is no installation.
    """
    at = _installation(folder, events)
    clock = TimeLeft(events.left, at.manifest.rates)
    if wrong := _damaged(at, clock, _small(at)):
        return wrong
    prover = Prover(at, clips or bundled_clips(), longest_s, clock)
    model = at.model
    there = [name for name, entry in at.manifest.precisions.items() if entry["proven"]]
    proven = there if model.problems["fp32"] is None else []
    beside = [*proven, *(["fp32"] if model.tuned else [])]
    works = [prover.work(precision) for precision in beside]
    clock.plan({"read": _gigabytes(at)}, *([prover.work_fp32()] if works else []), *works)
    events.note(
        f"checking {_gigabytes(at):.2f} GB of files and running every proof again: about "
        f"{clock.rounded()}; `--check --quick` reads the files and runs one clip"
    )
    if wrong := _damaged(at, clock, list(at.manifest.files)):
        return wrong
    if "fp32" in model.split:
        wrong += _said(prover.parts("fp32"), "fp32, decoder in parts")
    if model.tuned:
        wrong += _said(prover.tuned(), "fp32 written tighter")
    for precision in dict.fromkeys((*proven, *sorted(model.split - {"fp32"}))):
        if precision in proven:
            wrong += _said(prover.precision(precision), precision)
        if precision in model.split:
            wrong += _said(prover.parts(precision), f"{precision}, decoder in parts")
    return wrong


def check_quickly(
    folder: Path, events: Events, clips: Sequence[Clip] | None = None
) -> tuple[list[str], str]:
    """Verify every file by size and SHA-256, then load what `auto` takes and run one clip.

    Returns:
        What is wrong, and what was heard: "fp32 on cpu heard: ...".

    Raises:
        ModelError: there is no installation, or nothing of it loads.
    """
    at = _installation(folder, events)
    clock = TimeLeft(events.left, at.manifest.rates)
    if wrong := _damaged(at, clock, _small(at)):
        return wrong, ""
    clock.plan({"read": _gigabytes(at), "load": at.gigabytes("fp32")})
    events.note(f"checking {_gigabytes(at):.2f} GB of files and one clip: about {clock.rounded()}")
    if wrong := _damaged(at, clock, list(at.manifest.files)):
        return wrong, ""
    clip = (clips or bundled_clips())[0]
    events.progress("loading the model, one clip", 0, 1)
    recognizer, choice = models.load(inspect(folder))
    try:
        heard = " ".join(part.text for part in recognizer.recognize([clip.samples])[0])
    except NonFiniteOutput as error:
        return [f"{choice.precision}: {error.what} on {clip.name}"], ""
    if not heard and _understands(at.manifest):
        return [f"{choice.precision}: no word on {clip.name}, which is clear speech"], ""
    return [], f"{choice.precision} on {choice.provider} heard: {heard or '(no word)'}"


def _installation(folder: Path, events: Events) -> Installation:
    at = Installation(folder, events)
    if not at.manifest.files:
        raise ModelError(f"{folder}: no installed model; run `stt setup {folder.name}`")
    return at


def _gigabytes(at: Installation) -> float:
    total: int = sum(entry["size"] for entry in at.manifest.files.values())
    return total / 1e9


def _small(at: Installation) -> list[str]:
    """Names of files that are read in an instant; without them nothing is known of the others."""
    return [name for name, entry in at.manifest.files.items() if entry["size"] < _SMALL]


def _damaged(at: Installation, clock: TimeLeft, names: Sequence[str]) -> list[str]:
    """Say which of some files are missing or not as they were installed."""
    wrong = []
    for name in names:
        path, entry = at.folder / name, at.manifest.files[name]
        progress = reading(at.events, f"checking {name}", entry["size"])
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"]:
            wrong.append(f"{name} is damaged")
        else:
            with clock.doing("read", entry["size"] / 1e9):
                if sha256_of(path, progress) != entry["sha256"]:
                    wrong.append(f"{name} is damaged")
    return wrong


def _said(verdict: proof.Verdict, name: str) -> list[str]:
    return [] if verdict.proven else [f"{name}: {verdict.why}"]


def _understands(manifest: Manifest) -> bool:
    """Whether FP32 was found to understand the clips when something was proven beside it."""
    checks = [check for entry in manifest.precisions.values() for check in entry.get("checks", [])]
    return any(check["name"] == "tokens" and check["figure"] is not None for check in checks)
