"""What set-up makes of a model, in the order that serves the machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial

from stt.convert.positions import tune
from stt.convert.split import split_file
from stt.engine.folder import TUNED
from stt.install.artifact import Artifact, Told
from stt.install.installation import Installation
from stt.install.making import made, options_of
from stt.install.proof import Verdict
from stt.install.prover import Prover


def artifacts(
    at: Installation,
    prover: Prover,
    precisions: Sequence[str],
    *,
    gpu: bool,
    rtol: float,
    atol: float | None,
) -> list[Artifact]:
    """List what is to be made of FP32, and of the precisions that are ordered or there already.

    On a GPU FP16 comes first and what only a CPU uses comes last. Without one FP32 runs meanwhile,
    and what makes it faster comes first, then INT8.

    Args:
        at: the installation.
        prover: what they are proven with.
        precisions: those ordered.
        gpu: whether a provider other than the CPU is here.
        rtol: for mixed, see `stt.convert.mixed.within`.
        atol: likewise.
    """
    halves = [p for p in ("fp16", "mixed") if p in precisions]
    converted = {p: converted_precision(at, prover, p, rtol=rtol, atol=atol) for p in precisions}
    decoders = {}
    if at.model.family.parts("fp32"):
        there = [p for p in ("fp16", "mixed") if at.manifest.verdict("precisions", p).get("proven")]
        decoders = {p: in_parts(at, prover, p) for p in ("fp32", *dict.fromkeys(halves + there))}
    half = [one for p in ("fp16", "mixed") for d in (converted, decoders) if (one := d.get(p))]
    fp32 = [one for one in (decoders.get("fp32"), tuned(at, prover)) if one]
    int8 = [converted["int8"]] if "int8" in converted else []
    return [*half, *fp32, *int8] if gpu else [*fp32[:1], *int8, *fp32[1:], *half]


def converted_precision(
    at: Installation, prover: Prover, precision: str, *, rtol: float, atol: float | None
) -> Artifact:
    """FP32 converted to another precision; for mixed, with its tolerances."""
    family = at.model.family
    sources, files = family.graphs("fp32"), family.graphs(precision)
    options = options_of(at, precision)

    def make() -> Told:
        feeds = prover.feeds() if precision == "mixed" else ((), ())
        with prover.clock.doing("convert", at.gigabytes("fp32")):
            return {
                name: made(
                    precision=precision,
                    source=at.folder / source,
                    target=at.folder / name,
                    rtol=rtol,
                    atol=atol,
                    unsigned="weights" in options,
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
        options={"rtol": rtol, "atol": atol} if precision == "mixed" else options,
        scope={"longest_s": prover.longest_s},
        work=_sum({"convert": at.gigabytes("fp32")}, prover.work(precision)),
    )


def in_parts(at: Installation, prover: Prover, precision: str) -> Artifact:
    """A decoder_joint as prediction network, encoder projection and joint (`convert.split`)."""
    family = at.model.family
    source, files = family.graphs(precision)[1], family.parts(precision)

    def make() -> Told:
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

    def make() -> Told | None:
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


def _sum(*works: Mapping[str, float]) -> dict[str, float]:
    return {kind: sum(work.get(kind, 0.0) for work in works) for work in works for kind in work}
