"""Anything that set-up makes of a model's files and proves: one life for all of it.

FP16 and INT8, a decoder_joint in parts, FP32 written tighter: each is made under its name,
noted with what it was made from, proven, and used only when the manifest calls it proven. What
fails its proof loses its files and is not tried again from the same sources. A set-up that is
killed anywhere goes on with the first step that is not noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stt.errors import ModelError
from stt.install.file_proof import writing
from stt.install.installation import Installation
from stt.install.proof import Check, Verdict
from stt.install.time_left import Work

Done = Mapping[str, Mapping[str, Any]]
"""File -> what was done to make it, for the manifest."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing that set-up makes and proves."""

    name: str
    """For people."""
    section: str
    """Where in the manifest its verdict stands: precisions, splits or tuned."""
    precision: str
    sources: tuple[str, ...]
    """The graph that each of `files` is made from."""
    files: tuple[str, ...]
    """Its graphs, data beside them not counted."""
    make: Callable[[], Done | None]
    """Write the files; None where the source is a graph of which it cannot be made."""
    prove: Callable[[], Verdict]
    """Compare it with FP32, or with what it was made from; one that does not load has failed."""
    works: Callable[[Verdict], str]
    """A line of news for one that is proven."""
    without: str
    """What is true where it is not to be had."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else it depends on."""
    scope: Mapping[str, Any] = field(default_factory=dict)
    """What its proof covers, for the manifest."""
    work: Work = field(default_factory=dict)
    """What making and proving it takes, for the time left."""

    def origins(self, at: Installation) -> list[dict[str, Any]]:
        """For each file: the contents of its source, our version, and the options."""
        return [at.made_from(source) | dict(self.options) for source in self.sources]

    def made_from(self, at: Installation) -> Any:
        """What a verdict holds for: the origin, or the origins where they differ."""
        origins = self.origins(at)
        different = [one for place, one in enumerate(origins) if one not in origins[:place]]
        return different[0] if len(different) == 1 else different


def is_made(at: Installation, artifact: Artifact) -> bool:
    """Whether all its files are as the manifest has them, from the sources that are there."""
    pairs = zip(artifact.files, artifact.origins(at), strict=True)
    return all(at.is_right(name, origin) for name, origin in pairs)


def is_settled(at: Installation, artifact: Artifact) -> bool:
    """Whether it is there and proven, or has failed its proof from these very sources."""
    verdict = at.manifest.verdict(artifact.section, artifact.precision)
    if not verdict:
        return False
    if not verdict["proven"]:
        return bool(verdict.get("made_from") == artifact.made_from(at))
    known, origin = verdict.get("made_from"), artifact.made_from(at)
    return known in (None, origin) and is_made(at, artifact)


def bring_about(at: Installation, artifact: Artifact, *, force: bool, keep_failed: bool) -> bool:
    """Make it, prove it and note it; returns whether it is proven.

    Args:
        at: the installation.
        artifact: not settled, or to be made again.
        force: make it again although its files are right.
        keep_failed: keep the files of one that fails as `NAME.failed.onnx`.

    Raises:
        ModelError: FP32 does not load, or the disk is full.
    """
    made = not force and is_made(at, artifact)
    at.manifest.forget(artifact.section, artifact.precision, () if made else artifact.files)
    at.save()
    verdict = None if made else _made(at, artifact)
    if verdict is None:
        verdict = artifact.prove()
    if verdict.proven:
        at.events.note(artifact.works(verdict))
    else:
        at.events.note(f"{artifact.name}: failed its proof ({verdict.why}); {artifact.without}")
        _take_away(at, artifact, keep=keep_failed)
    entry = {**verdict.figures(), "made_from": artifact.made_from(at), **artifact.scope}
    at.manifest.judge(artifact.section, artifact.precision, entry)
    at.save()
    return verdict.proven


def _made(at: Installation, artifact: Artifact) -> Verdict | None:
    """Write the files and note them; a verdict only where they cannot be made."""
    with writing(at.folder):
        try:
            done = artifact.make()
        except ModelError as error:
            return Verdict((Check("made", passed=False, message=str(error)),))
    if done is None:
        return Verdict((Check("made", passed=False, message="another kind of graph"),))
    for name, origin in zip(artifact.files, artifact.origins(at), strict=True):
        at.written(name, {"made_from": origin, **done.get(name, {})})
    return None


def _take_away(at: Installation, artifact: Artifact, *, keep: bool) -> None:
    for name in artifact.files if keep else ():
        path = at.folder / name
        if path.exists():
            kept = path.with_name(f"{path.stem}.failed.onnx")
            path.replace(kept)
            at.events.note(f"kept for inspection: {kept}")
    at.delete(artifact.files)
