"""FP16 and INT8 of the starter: made of its FP32, proven beside it on speech, measured with it.

So the precision selector can be tried before Parakeet is fetched. The starter's manifest takes the
entries that set-up writes of any model. Compared are the encoder's output, the decoder's logits at
FP32's own tokens, and the tokens that come out: what `proof` compares of transducers, and at the
same bounds but for INT8's tokens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stt.convert.mixed import Feed
from stt.engine.folder import ModelFolder
from stt.errors import ModelError, UsageError
from stt.install import measure
from stt.install.artifact import bring_about, is_settled
from stt.install.artifacts import converted_precision, options_of
from stt.install.clips import Clip, bundled_clips
from stt.install.installation import Events, Installation
from stt.install.observation import Observation, load, observe
from stt.install.proof import Check, Verdict, common, relative_error, static_checks
from stt.install.time_left import TimeLeft, Work
from stt.types import ReportProgress

MADE = ("fp16", "int8")
_USUAL = {"clip": 4.0, "round": 3.0}
"""Seconds before any were measured, on two cores: to prove a precision on a clip, a round of all
when they are measured."""
_ROUNDS = 7
"""Rounds that measuring usually takes."""
ENCODER_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
"""Largest relative error (L2 norm of the difference over that of FP32) of the encoder's output."""
LOGITS_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
SAME_TOKENS: Mapping[str, float] = {"fp16": 0.995, "int8": 0.90}
"""Share of FP32's tokens that must come out the same. INT8 loses words, which is known and said;
it is used unasked only where `auto_int8` allows it."""


def check_order(precisions: Sequence[str]) -> None:
    """Refuse what is not made of the starter.

    Raises:
        UsageError: names the first that is not.
    """
    if wrong := [p for p in precisions if p not in MADE]:
        raise UsageError(f"{wrong[0]} is not made of the starter; {' and '.join(MADE)} are")


def add(
    folder: Path,
    precisions: Sequence[str],
    events: Events,
    *,
    force: bool = False,
    clips: Sequence[Clip] | None = None,
) -> bool:
    """Have precisions of the starter in its folder; what is there and right is kept.

    Args:
        folder: the starter's, with its FP32 whole.
        precisions: fp16, int8.
        events: where to tell of it.
        force: make, prove and measure again.
        clips: speech to prove them on, instead of the bundled.

    Returns:
        Whether all are proven. One that is not has lost its files.

    Raises:
        ModelError: FP32 does not load.
        OSError: e.g. a full disk.
    """
    at = Installation(folder, events)
    clock = TimeLeft(events.left, _USUAL | at.manifest.rates)
    prover = _Prover(at, tuple(clips or bundled_clips()), clock)
    ordered = [converted_precision(at, prover, p, options_of(at, p)) for p in precisions]
    wanted = [artifact for artifact in ordered if force or not is_settled(at, artifact)]
    rounds = {"round": _ROUNDS * len(measure.providers_here())}
    for place, artifact in enumerate(wanted):
        clock.plan(prover.work_fp32(), *(one.work for one in wanted[place:]), rounds)
        bring_about(at, artifact, force=force, keep_failed=False)
    for artifact in ordered:
        if artifact not in wanted and not at.manifest.precisions[artifact.name]["proven"]:
            events.note(
                f"{artifact.name}: failed its proof before; `--force` makes and proves it again"
            )
    _measure(at, clock, changed=bool(wanted))
    at.manifest.rates |= clock.rates
    at.save()
    return all(at.manifest.precisions[p]["proven"] for p in precisions)


def check(folder: Path, events: Events, clips: Sequence[Clip] | None = None) -> list[str]:
    """Hold what was made of the starter against its manifest, and prove it again.

    Returns:
        What is wrong, a line each; empty when all is right.
    """
    at = Installation(folder, events)
    proven = [p for p in MADE if at.manifest.precisions.get(p, {}).get("proven")]
    damaged = [p for p in proven if not all(map(at.is_right, at.model.family.graphs(p)))]
    if damaged:
        return [f"its {p} files are damaged; `stt setup starter --precision {p}`" for p in damaged]
    if not proven:
        return []
    clock = TimeLeft(events.left, _USUAL | at.manifest.rates)
    prover = _Prover(at, tuple(clips or bundled_clips()), clock)
    clock.plan(prover.work_fp32(), *map(prover.work, proven))
    events.note(
        f"proving {' and '.join(proven)} again: about {clock.rounded()}; `--check --quick` reads "
        "the files and runs one clip"
    )
    verdicts = {precision: prover.precision(precision) for precision in proven}
    return [f"{p}: {verdict.why}" for p, verdict in verdicts.items() if not verdict.proven]


class _Prover:
    """Proves precisions beside FP32, which is observed once."""

    longest_s = 30.0

    def __init__(self, at: Installation, clips: tuple[Clip, ...], clock: TimeLeft) -> None:
        self.at, self.clips, self.clock = at, clips, clock
        self._report = _timed("clip", clock, at.events.progress)
        self._fp32: Observation | None = None

    def precision(self, precision: str) -> Verdict:
        """Prove one.

        Raises:
            ModelError: FP32 does not load.
        """
        if self._fp32 is None:
            self._fp32 = observed(self.at.model, "fp32", self.clips, self._report)
        return prove(self.at.model, precision, self._fp32, self.clips, self._report)

    def feeds(self) -> tuple[Sequence[Feed], Sequence[Feed]]:
        """Return none: no search is made of the starter."""
        return (), ()

    def work(self, precision: str) -> Work:
        """Clips that are run of any precision."""
        del precision
        return {"clip": len(self.clips)}

    def work_fp32(self) -> Work:
        """The same of FP32, once."""
        return {} if self._fp32 else self.work("fp32")


def _timed(kind: str, clock: TimeLeft, report: ReportProgress) -> ReportProgress:
    """Return `report`, with the time between two reports of a stage taken for a unit of work."""
    last = time.monotonic()

    def report_timed(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and not stage.startswith("loading"):
            clock.did(kind, 1, now - last)
        last = now
        report(stage, done, total)

    return report_timed


def _measure(at: Installation, clock: TimeLeft, *, changed: bool) -> None:
    """Measure FP32 and all that is proven, in turns, where a figure is missing."""
    proven = [p for p, entry in at.manifest.precisions.items() if entry["proven"]]
    have = {row["precision"] for row in at.manifest.measurements}
    if not proven or not (changed or have < {"fp32", *proven}):
        return
    providers = measure.providers_here()
    for place, provider in enumerate(providers):
        clock.plan({"round": _ROUNDS * (len(providers) - place)})
        able = [p for p in ("fp32", *proven) if provider == "cpu" or p != "int8"]
        report = _timed("round", clock, at.events.progress)
        found = measure.compare(at.folder, able, provider, report)
        for speed in found.values():
            if isinstance(speed, ModelError):
                at.events.note(f"not measured: {speed}")
            else:
                at.measured(speed)
                at.events.note(
                    f"{speed.precision} measured on {provider}: {speed.rtfx:.1f} times real time"
                )
    clock.plan()


def prove(
    folder: ModelFolder,
    precision: str,
    fp32: Observation,
    clips: Sequence[Clip],
    report: ReportProgress,
) -> Verdict:
    """Compare a precision of a Whisper model with its FP32; one that does not load has failed.

    Args:
        folder: the model's.
        precision: fp16 or int8, complete in the folder.
        fp32: what FP32 gave for these clips.
        clips: of each the first 30 s.
        report: called with (stage, clips done, clips in all).
    """
    static = static_checks(folder, precision)
    try:
        other = observed(folder, precision, clips, report, like=fp32)
    except ModelError as error:
        failed = Check("loads", passed=False, message=" ".join(str(error).split()))
        return Verdict((*static, failed))
    return Verdict((*static, *_judged(precision, fp32, other)))


def observed(
    folder: ModelFolder,
    precision: str,
    clips: Sequence[Clip],
    report: ReportProgress,
    like: Observation | None = None,
) -> Observation:
    """Run all clips; `like`: FP32's, whose tokens are fed again for the logits.

    Raises:
        ModelError: the precision does not load.
    """
    probe, done = load(folder, precision), 0
    report(f"proving {precision}", done, len(clips))

    def heard(_: float) -> None:
        nonlocal done
        done += 1
        report(f"proving {precision}", done, len(clips))

    return observe(probe, (), clips, heard, like=like, most_steps=None)


def _judged(precision: str, fp32: Observation, other: Observation) -> tuple[Check, ...]:
    encoder = max(map(relative_error, fp32.frames, other.frames))
    logits = relative_error(*(np.stack([s.logits for s in one.steps]) for one in (fp32, other)))
    pairs = list(zip(fp32.tokens, other.tokens, strict=True))
    lost = sum(bool(one) and not two for one, two in pairs)
    same = sum(common(one, two) for one, two in pairs)
    total = max(1, sum(max(len(one), len(two)) for one, two in pairs))
    least = SAME_TOKENS[precision]
    steps = len(fp32.steps)
    return (
        _bounded("encoder error", "encoder error", encoder, ENCODER_ERROR[precision]),
        # under the name that `proof` has for it, so that one table shows both
        _bounded(
            "joint error", f"logits' error over {steps} steps", logits, LOGITS_ERROR[precision]
        ),
        Check(
            "never empty",
            not lost,
            f"empty on {lost} clips where FP32 is not" if lost else "never empty where FP32 is not",
            lost,
            0,
        ),
        Check(
            "tokens",
            same / total >= least,
            f"{same} of {total} tokens on {len(pairs)} clips as in FP32",
            same / total,
            least,
        ),
    )


def _bounded(name: str, what: str, error: float, bound: float) -> Check:
    return Check(name, error <= bound, f"{what} {error:.2%} (at most {bound:.0%})", error, bound)
