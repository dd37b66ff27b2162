"""Decoder_joints taken apart: made, proven, and noted in the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from stt.convert.split import split_file
from stt.errors import ModelError
from stt.models import proof, split_proof
from stt.models.clips import Clip
from stt.models.folder import TRANSDUCERS, graph_names, split_names
from stt.models.installation import Installation


def take_apart(at: Installation, clips: Sequence[Clip], *, force: bool) -> list[str]:
    """Take decoder_joints apart, of FP32 and all that is proven; returns which were."""
    model = at.model
    proven = [p for p, entry in at.manifest.precisions.items() if entry["proven"]]
    return [
        precision
        for precision in ("fp32", *proven)
        if model.kind in TRANSDUCERS and model.problems[precision] is None
        if _take_one(at, precision, clips, force=force)
    ]


def _take_one(at: Installation, precision: str, clips: Sequence[Clip], *, force: bool) -> bool:
    """Take one apart and prove it, unless that was done; says whether anything was."""
    source, names = graph_names(at.model.kind, precision)[1], split_names(precision)
    origin = at.made_from(source)
    known = at.manifest.splits.get(precision, {})
    done = known.get("made_from") == origin and (
        not known["proven"] or all(at.is_right(name, origin) for name in names)
    )
    if done and not force:
        return False
    at.manifest.splits.pop(precision, None)
    at.save()
    try:
        split_file(at.folder / source, [at.folder / n for n in names], at.events.progress)
        verdict = split_proof.prove(at.model, precision, clips)
    except ModelError as error:
        verdict = proof.Verdict((proof.Check("parts", passed=False, told=str(error)),))
    if verdict.proven:
        at.events.note(f"{source}: in parts, {verdict.why}")
        for name in names:
            at.written(name, {"made_from": origin})
    else:
        at.events.note(f"{source}: stays whole and is slower ({verdict.why})")
        at.delete(names)
    at.manifest.splits[precision] = verdict.figures() | {"made_from": origin}
    at.save()
    return True
