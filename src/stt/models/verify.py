"""Whether an installation is right: its files, and everything that was made of FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stt.errors import ModelError
from stt.models import proof, split_proof, tuning
from stt.models.clips import Clip, bundled_clips
from stt.models.folder import ModelFolder, inspect
from stt.models.installation import Events, Installation, reading
from stt.models.manifest import Manifest, sha256_of


def check(folder: Path, events: Events, clips: Sequence[Clip] | None = None) -> list[str]:
    """Verify an installation: every file by size and SHA-256, every conversion by its proof.

    Returns:
        What is wrong, a line for each damaged file and failed check; empty when all is right.

    Raises:
        ModelError: there is no installation.
    """
    manifest = Manifest.read(folder)
    if not manifest.files:
        raise ModelError(f"{folder}: no installed model; run `stt setup {folder.name}`")
    wrong = []
    for name, entry in manifest.files.items():
        path = folder / name
        told = reading(events, f"checking {name}", entry["size"])
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"] or sha256_of(path, told) != entry["sha256"]:
            wrong.append(f"{name} is damaged")
    if wrong:
        return wrong
    model, given = inspect(folder), tuple(clips or bundled_clips())
    precisions = [name for name, entry in manifest.precisions.items() if entry["proven"]]
    if precisions and model.problems["fp32"] is None:
        fp32 = proof.observe(model, "fp32", given, events.progress)
        for precision in precisions:
            verdict = judge(model, precision, fp32, given, events)
            wrong += [] if verdict.proven else [f"{precision}: {verdict.why}"]
    for precision in sorted(model.split):
        verdict = split_proof.prove(model, precision, given)
        wrong += [] if verdict.proven else [f"{precision} in parts: {verdict.why}"]
    if model.tuned:
        verdict = tuning.prove(Installation(folder, events), given)
        wrong += [] if verdict.proven else [f"fp32 written tighter: {verdict.why}"]
    return wrong


def judge(
    model: ModelFolder,
    precision: str,
    fp32: proof.Observation,
    clips: Sequence[Clip],
    events: Events,
) -> proof.Verdict:
    """Prove one precision beside FP32; one that does not load has failed."""
    static = proof.static_checks(model.path, model.kind, precision)
    if not all(check.passed for check in static):
        return proof.Verdict(static)
    try:
        seen = proof.observe(model, precision, clips, events.progress, like=fp32)
    except ModelError as error:
        return proof.Verdict((*static, proof.Check("loads", passed=False, told=str(error))))
    judged = proof.compare(fp32, seen, proof.BOUNDS[precision], clips)
    return proof.Verdict((*static, *judged.checks))
