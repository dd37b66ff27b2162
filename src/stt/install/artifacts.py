"""What set-up makes of a model, in the order that serves the machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from stt.convert import fp16, mixed
from stt.convert.attention import tune
from stt.convert.mixed import Feed
from stt.convert.products import cpu_saturates
from stt.convert.split import split_file
from stt.engine.folder import TUNED
from stt.install.artifact import Artifact, Done
from stt.install.installation import Events, Installation
from stt.install.proof import Verdict
from stt.install.prover import Prover
from stt.install.time_left import TimeLeft, Work


def artifacts(
    at: Installation,
    prover: Prover,
    precisions: Sequence[str],
    *,
    gpu: bool,
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
        tolerance: see `options_of`.
        force: see `options_of`.
    """
    converted = {
        p: converted_precision(at, prover, p, options_of(at, p, tolerance, force=force))
        for p in precisions
    }
    decoders = {}
    if at.model.family.parts("fp32"):
        there = bool(at.manifest.verdict("precisions", "fp16").get("proven"))
        halves = ("fp16",) if there or "fp16" in precisions else ()
        decoders = {p: in_parts(at, prover, p) for p in ("fp32", *halves)}
    half = [one for d in (converted, decoders) if (one := d.get("fp16"))]
    fp32 = [one for one in (decoders.get("fp32"), tuned(at, prover)) if one]
    int8 = [converted["int8"]] if "int8" in converted else []
    return [*half, *fp32, *int8] if gpu else [*fp32[:1], *int8, *fp32[1:], *half]


class PrecisionProver(Protocol):
    """What proves a converted precision beside FP32."""

    clock: TimeLeft
    longest_s: float
    """Seconds of the longest audio that precisions are proven on."""

    def precision(self, precision: str) -> Verdict:
        """Prove it; one that does not load has failed."""

    def feeds(self) -> tuple[Sequence[Feed], Sequence[Feed]]:
        """Return inputs of FP32's graphs on real speech, for a search."""

    def work(self, precision: str) -> Work:
        """Say what proving it takes."""


def converted_precision(
    at: Installation, prover: PrecisionProver, precision: str, options: Options
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
        work=_sum({"convert": at.gigabytes("fp32")}, prover.work(precision)),
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


def _sum(*works: Mapping[str, float]) -> dict[str, float]:
    return {kind: sum(work.get(kind, 0.0) for work in works) for work in works for kind in work}


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
    feeds: Sequence[Feed],
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
        return {"quantised": _plain(asdict(report))}
    if "rtol" in options:
        holds = mixed.within(source, feeds, options["rtol"], options["atol"])
        events.note(f"{target.name}: searching what must stay in FP32 (#)")
        found = mixed.search(source, target, holds, lambda trial: events.note(trial.picture()))
        events.note(f"{target.name}: {', '.join(found.kept) or 'nothing'} stays in FP32")
        return _described(found.conversion) | {
            "kept_groups": list(found.kept),
            "trials": found.trials,
        }
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


def _plain(value: Any) -> Any:
    """The same for JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
