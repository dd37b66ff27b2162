"""Runs a model's precisions beside FP32 and judges them; checks an installation.

One model is in memory at a time. It stays until another is needed, so that what is proven after it
(its decoder_joint in parts) need not load gigabytes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stt import models
from stt.engine.folder import TUNED, cuda_form
from stt.engine.manifest import Manifest
from stt.engine.recognizer import Feed, Probe
from stt.engine.sessions import runtime_errors
from stt.errors import ModelError, NonFiniteOutput
from stt.install import proof
from stt.install.installation import Events, Installation, TimeLeft, Work
from stt.install.observation import (
    STEPS,
    Clip,
    Observation,
    bundled_clips,
    feeds,
    load,
    observe,
    possible,
)
from stt.install.proof import Check, Verdict
from stt.models import inspect
from stt.types import SAMPLE_RATE

_WORTH_S = 3.0
"""Seconds of speech that tell a rate; less is mostly the first run's own cost."""
_SMALL = 1_000_000
"""Bytes."""


class Prover:
    """See the module."""

    most_steps: int | None = STEPS
    """Decoding steps of FP32 whose logits are compared; None: all."""

    def __init__(
        self, at: Installation, clips: Sequence[Clip], longest_s: float, clock: TimeLeft
    ) -> None:
        """`longest_s`: seconds of the longest audio that encoders' numbers are compared on."""
        self.at, self.clips, self.clock = at, tuple(clips), clock
        self.longest_s, self.durations = longest_s, proof.durations(longest_s)
        self._loaded: tuple[str, Probe] | None = None
        self._seen: dict[str, Observation] = {}

    @property
    def clips_s(self) -> float:
        """Seconds of all clips."""
        return sum(len(clip.samples) for clip in self.clips) / SAMPLE_RATE

    def precision(self, precision: str) -> Verdict:
        """Prove a converted precision beside FP32; one that does not load has failed.

        Raises:
            ModelError: FP32 does not load, or a graph cannot be read.
        """
        folder = self.at.model
        self.at.events.progress(f"proving {precision}: its graphs", 0, 1)
        static = proof.static_checks(folder, precision)
        lengths = proof.lengths_alone(folder, precision)
        if lengths is None:  # then audio must tell
            self.durations = tuple(sorted({*self.durations, *proof.DURATIONS_S}))
        on_paper = (*static, *((lengths,) if lengths else ()))
        if not all(check.passed for check in on_paper):
            return Verdict(on_paper)
        return self._beside_fp32(precision, on_paper)

    def tuned(self) -> Verdict:
        """Prove the tuned form beside FP32 itself; one that does not load has failed.

        Raises:
            ModelError: FP32 does not load.
        """
        return self._beside_fp32(TUNED, ())

    def parts(self, precision: str) -> Verdict:
        """Prove a decoder_joint in parts beside the whole one; parts that do not load have failed.

        Raises:
            ModelError: the whole one does not load.
        """
        seen = self._fp32() if precision == "fp32" else self._seen.get(precision)
        if seen is None:
            seen = self._observed(precision, (), None)
        probe = self._probe(precision)
        try:
            parts = probe.in_parts()
            with self.clock.doing("decode", self.clips_s):
                return proof.compare_parts(parts, seen, precision)
        except _refusals() as error:
            return Verdict((_unloadable(error),))

    def for_cuda(self, precision: str) -> Verdict:
        """Prove a precision's form for CUDA beside FP32, on the CPU, and its rounds beside it.

        Raises:
            ModelError: FP32 does not load.
        """
        form = cuda_form(precision)
        encoder = self._beside_fp32(form, ())
        if not encoder.proven or self.at.model.family.step_stem is None:
            return encoder
        try:
            rounds = self._probe(form).in_one_step()
            return Verdict((*encoder.checks, *proof.compare_rounds(rounds, self._seen[form])))
        except _refusals() as error:
            return Verdict((*encoder.checks, _unloadable(error)))

    def feeds(self) -> tuple[list[Feed], list[Feed]]:
        """Return inputs of FP32's graphs on real speech, see `observation.feeds`."""
        return feeds(self._probe("fp32"), self.clips)

    def release(self) -> None:
        """Let go of the model in memory."""
        self._loaded = None

    def work(self, precision: str) -> Work:
        """Say what proving a precision takes once FP32's results are there."""
        seconds = sum(self.durations) + self.clips_s
        fp32 = self.at.gigabytes("fp32")
        return {"load": self.at.gigabytes(precision), "speech": seconds * fp32}

    def work_fp32(self) -> Work:
        """Say what getting FP32's results takes; nothing where they are there."""
        return {} if "fp32" in self._seen else self.work("fp32")

    def judge(self, precision: str, fp32: Observation, other: Observation) -> tuple[Check, ...]:
        """Compare what a precision gave with what FP32 gave."""
        return proof.compare(fp32, other, proof.BOUNDS[precision], self.clips).checks

    def _beside_fp32(self, precision: str, before: tuple[Check, ...]) -> Verdict:
        fp32 = self._fp32()
        try:
            seen = self._observed(precision, tuple(fp32.encoded), fp32)
        except _refusals() as error:
            return Verdict((*before, _unloadable(error)))
        return Verdict((*before, *self.judge(precision, fp32, seen)))

    def _fp32(self) -> Observation:
        """What FP32 gave, at all durations wanted by now.

        Raises:
            ModelError: it does not load or run.
        """
        known = self._seen.get("fp32")
        wanted = possible(self.at.model, "fp32", self.durations)
        if known is not None and set(wanted) <= set(known.encoded):
            return known
        try:
            return self._observed("fp32", wanted, None)
        except runtime_errors() as error:  # memory that others took meanwhile, as a rule
            reason = " ".join(str(error).split())
            raise ModelError(
                f"fp32 does not run ({reason}); free some memory and run the same command again"
            ) from error

    def _observed(
        self, precision: str, durations: Sequence[float], like: Observation | None
    ) -> Observation:
        durations = possible(self.at.model, precision, durations)
        probe, stage = self._probe(precision), f"proving {precision}"
        total = sum(durations) + self.clips_s
        done, noted, since = 0.0, 0.0, time.monotonic()
        self.at.events.progress(stage, 0, round(total))

        def heard(seconds: float) -> None:
            nonlocal done, noted, since
            done += seconds
            if done - noted >= _WORTH_S or done >= total:
                now = time.monotonic()
                self.clock.did("speech", (done - noted) * self.at.gigabytes("fp32"), now - since)
                noted, since = done, now
            self.at.events.progress(stage, min(round(done), round(total)), round(total))

        seen = observe(probe, durations, self.clips, heard, like=like, most_steps=self.most_steps)
        self._seen[precision] = seen
        return seen

    def _probe(self, precision: str) -> Probe:
        if self._loaded is not None and self._loaded[0] == precision:
            return self._loaded[1]
        self._loaded = None  # before the next takes its memory
        self.at.events.progress(f"loading {precision}", 0, 1)
        with self.clock.doing("load", self.at.gigabytes(precision)):
            probe = load(self.at.model, precision)
        self._loaded = (precision, probe)
        return probe


def _refusals() -> tuple[type[Exception], ...]:
    return (ModelError, *runtime_errors())


def _unloadable(error: Exception) -> Check:
    return Check("loads", passed=False, message=" ".join(str(error).split()))


# --- an installation checked --------------------------------------------------------------------


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
    beside = [*proven, *(["fp32"] if model.tuned else []), *sorted(model.cuda)]
    works = [prover.work(precision) for precision in beside]
    clock.plan({"read": _gigabytes(at)}, *([prover.work_fp32()] if works else []), *works)
    events.note(
        f"checking {_gigabytes(at):.2f} GB of files and running every proof again: about "
        f"{clock.rounded()}; `--check --quick` reads the files and runs one clip"
    )
    if wrong := _damaged(at, clock, list(at.manifest.files)):
        return wrong
    proofs: dict[str, Callable[[], Verdict]] = {}
    if "fp32" in model.split:
        proofs["fp32, decoder in parts"] = partial(prover.parts, "fp32")
    if model.tuned:
        proofs["fp32 written tighter"] = prover.tuned
    for precision in dict.fromkeys((*proven, *sorted(model.split - {"fp32"}))):
        if precision in proven:
            proofs[precision] = partial(prover.precision, precision)
        if precision in model.split:
            proofs[f"{precision}, decoder in parts"] = partial(prover.parts, precision)
    for precision in sorted(model.cuda):
        proofs[f"{precision} for CUDA"] = partial(prover.for_cuda, precision)
    verdicts = {name: prove() for name, prove in proofs.items()}
    return [f"{name}: {verdict.why}" for name, verdict in verdicts.items() if not verdict.proven]


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
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"]:
            wrong.append(f"{name} is damaged")
        else:
            with clock.doing("read", entry["size"] / 1e9):
                if at.hash(name) != entry["sha256"]:
                    wrong.append(f"{name} is damaged")
    return wrong


def _understands(manifest: Manifest) -> bool:
    """Whether FP32 was found to understand the clips when something was proven beside it."""
    checks = [check for entry in manifest.precisions.values() for check in entry.get("checks", [])]
    return any(check["name"] == "tokens" and check["figure"] is not None for check in checks)
