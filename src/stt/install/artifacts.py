"""What set-up makes of a model and proves, in the order that serves the machine.

FP16 and INT8, a decoder_joint in parts, FP32 written tighter: each is made under its name,
noted with what it was made from, proven, and used only when the manifest calls it proven. What
fails its proof loses its files and is not tried again from the same sources. A set-up that is
killed anywhere goes on with the first step that is not noted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stt.convert.attention import tune
from stt.convert.cuda import write_for_cuda
from stt.convert.decoding_step import write_step
from stt.convert.split import split_file
from stt.engine.folder import TUNED
from stt.errors import ModelError
from stt.install.conversion import Options, made, options_of
from stt.install.installation import Installation, Work, writing
from stt.install.proof import Check, Verdict
from stt.install.prover import Prover

Done = Mapping[str, Mapping[str, Any]]
"""File -> what was done to make it, for the manifest."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing that set-up makes and proves."""

    name: str
    """For people."""
    section: str
    """Where in the manifest its verdict stands: precisions, splits, cuda or tuned."""
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
    origin = artifact.made_from(at)
    if not verdict["proven"]:
        return bool(verdict.get("made_from") == origin)
    return verdict.get("made_from") in (None, origin) and is_made(at, artifact)


def bring_about(at: Installation, artifact: Artifact, *, force: bool, keep_failed: bool) -> None:
    """Make it, prove it and note it.

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
    failure = None if made else _made(at, artifact)
    if failure is None:
        verdict = artifact.prove()
    else:
        verdict = Verdict((Check("made", passed=False, message=failure),))
    if verdict.proven:
        at.events.note(artifact.works(verdict))
    else:
        at.events.note(f"{artifact.name}: failed its proof ({verdict.why}); {artifact.without}")
        _take_away(at, artifact, keep=keep_failed)
    entry = {**verdict.figures(), "made_from": artifact.made_from(at), **artifact.scope}
    at.manifest.judge(artifact.section, artifact.precision, entry)
    at.save()


def _made(at: Installation, artifact: Artifact) -> str | None:
    """Write the files and note them; says why where they cannot be made."""
    with writing(at.folder):
        try:
            done = artifact.make()
        except ModelError as error:
            return str(error)
    if done is None:
        return "another kind of graph"
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


# --- which there are ----------------------------------------------------------------------------


def artifacts(
    at: Installation,
    prover: Prover,
    precisions: Sequence[str],
    *,
    gpu: bool,
    cuda: bool,
    tolerance: Options | None,
    force: bool,
) -> list[Artifact]:
    """List what is to be made of FP32, and of the precisions that are ordered or there already.

    On a GPU FP16 comes first and what only a CPU uses comes last. Without one FP32 runs meanwhile,
    and what makes it faster comes first, then INT8.

    Args:
        at: the installation.
        prover: what they are proven with.
        precisions: those ordered.
        gpu: whether a provider other than the CPU is here.
        cuda: whether forms for CUDA are wanted.
        tolerance: see `options_of`, as of `force`.
    """
    converted = {
        p: converted_precision(at, prover, p, options_of(at, p, tolerance, force=force))
        for p in precisions
    }
    decoders = {}
    there = bool(at.manifest.verdict("precisions", "fp16").get("proven"))
    halves = ("fp16",) if there or "fp16" in precisions else ()
    if at.model.family.parts("fp32"):
        decoders = {p: in_parts(at, prover, p) for p in ("fp32", *halves)}
    forms = {p: for_cuda(at, prover, p) for p in (*halves, "fp32")} if cuda else {}
    half = [one for made in (converted, decoders, forms) if (one := made.get("fp16"))]
    fp32 = [one for one in (decoders.get("fp32"), tuned(at, prover)) if one]
    for_card = [forms["fp32"]] if cuda else []
    int8 = [converted["int8"]] if "int8" in converted else []
    if gpu:
        return [*half, *for_card, *fp32, *int8]
    return [*fp32[:1], *int8, *fp32[1:], *half, *for_card]


def converted_precision(
    at: Installation, prover: Prover, precision: str, options: Options
) -> Artifact:
    """FP32 converted to another precision, with these options."""
    family = at.model.family
    sources, files = family.graphs("fp32"), family.graphs(precision)

    def make() -> Done:
        feeds = prover.feeds() if "rtol" in options else ((), ())
        with prover.clock.doing("convert", at.gigabytes("fp32")):
            return {
                name: made(
                    precision=precision,
                    source=at.folder / source,
                    target=at.folder / name,
                    options=options,
                    feeds=given,
                    events=at.events,
                )
                for source, name, given in zip(sources, files, feeds, strict=False)
            }

    return Artifact(
        name=precision,
        section="precisions",
        precision=precision,
        sources=sources,
        files=files,
        make=make,
        prove=partial(prover.precision, precision),
        works=lambda verdict: f"{precision}: proven, {verdict.why}",
        without="FP32 is used",
        options=options,
        scope={"longest_s": prover.longest_s},
        work={"convert": at.gigabytes("fp32"), **prover.work(precision)},
    )


def in_parts(at: Installation, prover: Prover, precision: str) -> Artifact:
    """A decoder_joint as prediction network, encoder projection and joint (`convert.split`)."""
    family = at.model.family
    source, files = family.graphs(precision)[1], family.parts(precision)

    def make() -> Done:
        targets = [at.folder / name for name in files]
        split_file(at.folder / source, targets, at.events.progress)
        return {}

    return Artifact(
        name=f"{precision}, decoder in parts",
        section="splits",
        precision=precision,
        sources=(source,) * len(files),
        files=files,
        make=make,
        prove=partial(prover.parts, precision),
        works=lambda verdict: (
            f"{precision}: its decoder is in parts, which decode faster; {verdict.why}"
        ),
        without="it decodes whole, which is slower",
        work={"decode": prover.clips_s},
    )


def tuned(at: Installation, prover: Prover) -> Artifact:
    """FP32 written tighter for the CPU, beside the weights it shares (`convert.tuned`)."""
    family = at.model.family
    sources, files = family.graphs("fp32"), family.graphs(TUNED)

    def make() -> Done | None:
        at.events.progress("writing FP32 tighter for the CPU", 0, 1)
        if not tune(at.folder / sources[0], at.folder / files[0]):
            return None
        for source, name in zip(sources[1:], files[1:], strict=True):
            shutil.copyfile(at.folder / source, at.folder / name)
        return {}

    def works(verdict: Verdict) -> str:
        (error,) = (c.figure for c in verdict.checks if c.name == "encoder error")
        return f"fp32: written tighter for the CPU, its encoder differs by {error:.0e}"

    return Artifact(
        name="fp32 written tighter",
        section="tuned",
        precision=TUNED,
        sources=sources[:1] * len(files),
        files=files,
        make=make,
        prove=prover.tuned,
        works=works,
        without="fp32 stays as it is",
        work=prover.work("fp32"),
    )


def for_cuda(at: Installation, prover: Prover, precision: str) -> Artifact:
    """A precision without convolutions and with rounds as one graph, for CUDA (`convert.cuda`)."""
    family = at.model.family
    encoder, *others = family.graphs(precision)
    files = family.for_cuda(precision)

    def make() -> Done | None:
        at.events.progress(f"writing {precision} for CUDA", 0, 1)
        if write_for_cuda(at.folder / encoder, at.folder / files[0]):
            return None
        for source, name in zip(others, files[1:], strict=False):
            shutil.copyfile(at.folder / source, at.folder / name)
        if family.step_stem is not None:
            write_step(at.folder / others[0], at.folder / files[-1], family.step_durations)
        return {}

    return Artifact(
        name=f"{precision} for CUDA",
        section="cuda",
        precision=precision,
        sources=(encoder, *others, *others)[: len(files)],
        files=files,
        make=make,
        prove=partial(prover.for_cuda, precision),
        works=lambda verdict: (
            f"{precision}: written for CUDA, where nothing is built anew when lengths change; "
            f"{verdict.why}"
        ),
        without=f"on CUDA {precision} runs as it is, which is slow where lengths change",
        work=prover.work(precision),
    )
