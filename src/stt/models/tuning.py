"""FP32 written tighter for the CPU: made, proven beside FP32 itself, and noted in the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from stt.convert.tuned import tune
from stt.errors import ModelError
from stt.models import proof
from stt.models.clips import Clip
from stt.models.folder import TUNED, graph_names
from stt.models.installation import Installation

_LONGEST_S = 47.0
"""Seconds of audio to prove it on, at most: both branches run, and numbers stay FP32."""


def write_tuned(at: Installation, clips: Sequence[Clip], *, force: bool) -> bool:
    """Write the tuned form of FP32 and prove it, unless that was done; says whether it was."""
    model = at.model
    if model.kind == "whisper" or model.problems["fp32"] is not None:
        return False
    names = graph_names(model.kind, TUNED)
    origin = at.made_from(graph_names(model.kind, "fp32")[0])
    known = at.manifest.tuned
    done = known.get("made_from") == origin and (
        not known["proven"] or all(at.is_right(name) for name in names)
    )
    if done and not force:
        return False
    drop_tuned(at)
    verdict = _made_and_proven(at, names, clips)
    if verdict is None:
        at.manifest.tuned = {"made_from": origin, "proven": False, "why": "another kind of graph"}
        at.save()
        return False
    if verdict.proven:
        (error,) = (c.figure for c in verdict.checks if c.name == "encoder error")
        at.events.note(f"fp32: written tighter for the CPU, its encoder differs by {error:.0e}")
        for name in names:
            at.written(name, {"made_from": origin})
    else:
        at.events.note(f"fp32: stays as it is ({verdict.why})")
        at.delete(names)
    at.manifest.tuned = verdict.figures() | {"made_from": origin}
    at.save()
    return verdict.proven


def drop_tuned(at: Installation) -> None:
    """Delete the tuned form and forget it."""
    at.manifest.tuned = {}
    at.delete(graph_names(at.model.kind, TUNED))
    at.save()


def prove(at: Installation, clips: Sequence[Clip]) -> proof.Verdict:
    """Compare the tuned form with FP32 itself.

    Raises:
        ModelError: one of them does not load.
    """
    model, report = at.model, at.events.progress
    fp32 = proof.observe(model, "fp32", clips, report, longest_s=_LONGEST_S)
    tuned = proof.observe(model, TUNED, clips, report, like=fp32)
    return proof.compare(fp32, tuned, proof.BOUNDS[TUNED], clips)


def _made_and_proven(
    at: Installation, names: Sequence[str], clips: Sequence[Clip]
) -> proof.Verdict | None:
    """Return None where the graph is another than those that can be written tighter."""
    sources = graph_names(at.model.kind, "fp32")
    try:
        if not tune(at.folder / sources[0], at.folder / names[0]):
            return None
        for source, name in zip(sources[1:], names[1:], strict=True):
            shutil.copyfile(at.folder / source, at.folder / name)
        return prove(at, clips)
    except ModelError as error:
        return proof.Verdict((proof.Check("tuned", passed=False, told=str(error)),))
