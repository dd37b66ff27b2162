"""Runs a model's precisions beside FP32 and judges them; what FP32 gave is kept for all.

One model is in memory at a time. It stays until another is needed, so that what is proven after it
(its decoder_joint in parts) need not load gigabytes again.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from stt.engine.folder import TUNED
from stt.engine.recognizer import Feed, Probe
from stt.engine.sessions import running_graphs, runtime_errors
from stt.errors import ModelError
from stt.install import proof
from stt.install.clips import Clip
from stt.install.installation import Installation
from stt.install.observation import Observation, feeds, load, observe, possible
from stt.install.proof import Check, Verdict
from stt.install.source import Source
from stt.install.time_left import TimeLeft, Work
from stt.models import inspect

_WORTH_S = 3.0
"""Seconds of speech that tell a rate; less is mostly the first run's own cost."""


class Prover:
    """See the module."""

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
        return sum(len(clip.samples) for clip in self.clips) / 16_000

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
        return self._beside_fp32(precision, on_paper, proof.BOUNDS[precision])

    def tuned(self) -> Verdict:
        """Prove the tuned form beside FP32 itself; one that does not load has failed.

        Raises:
            ModelError: FP32 does not load.
        """
        return self._beside_fp32(TUNED, (), proof.BOUNDS[TUNED])

    def parts(self, precision: str) -> Verdict:
        """Prove a decoder_joint in parts beside the whole one; parts that do not load have failed.

        Raises:
            ModelError: the whole one does not load.
        """
        seen = self._fp32() if precision == "fp32" else self._seen.get(precision)
        if seen is None:
            seen = self._observed(precision, (), None)
        probe = self._probe(precision)
        refusals: tuple[type[Exception], ...] = (ModelError, *runtime_errors())
        try:
            parts = probe.in_parts()
            with self.clock.doing("decode", self.clips_s):
                return proof.compare_parts(parts, seen, precision)
        except refusals as error:
            return Verdict((_unloadable(error),))

    def feeds(self) -> tuple[list[Feed], list[Feed]]:
        """Return inputs of FP32's graphs on real speech, see `observation.feeds`."""
        return feeds(self._probe("fp32"), self.clips)

    def release(self) -> None:
        """Let go of the model in memory."""
        self._loaded = None

    def work(self, precision: str) -> Work:
        """Say what proving a precision takes once FP32's results are there."""
        size = self.at.gigabytes(precision)
        return {"load": size, "speech": self._speech_s() * self.at.gigabytes("fp32")}

    def work_fp32(self) -> Work:
        """Say what getting FP32's results takes; nothing where they are there."""
        return {} if "fp32" in self._seen else self.work("fp32")

    def _speech_s(self) -> float:
        return sum(self.durations) + self.clips_s

    def _beside_fp32(
        self, precision: str, before: tuple[Check, ...], bounds: proof.Bounds
    ) -> Verdict:
        fp32 = self._fp32()
        refusals: tuple[type[Exception], ...] = (ModelError, *runtime_errors())
        try:
            seen = self._observed(precision, tuple(fp32.encoded), fp32)
        except refusals as error:
            return Verdict((*before, _unloadable(error)))
        judged = proof.compare(fp32, seen, bounds, self.clips)
        return Verdict((*before, *judged.checks))

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

        seen = observe(probe, durations, self.clips, heard, like=like)
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


def _unloadable(error: Exception) -> Check:
    return Check("loads", passed=False, message=" ".join(str(error).split()))


def try_fp32(folder: Path, source: Source, clip: Clip) -> None:
    """Load FP32 on the CPU and run one clip.

    Args:
        folder: where the model lies now.
        source: where it came from, of which an error speaks.
        clip: speech; what is heard does not matter.

    Raises:
        ModelError: it does not load or run; the text names the file to correct, where it is one.
    """
    try:
        model = inspect(folder)
        model.check_vocabulary()
        with running_graphs():
            observe(load(model, "fp32"), (), [clip])
    except ModelError as error:
        raise ModelError(_refusal(str(error), folder, source)) from error


def _refusal(error: str, folder: Path, source: Source) -> str:
    why = re.split(r"[;:] (?:run `stt setup`|correct )", error)[0]
    why = why.removeprefix(f"{folder}: ").replace(str(folder), source.origin)
    by_hand = (file.name for file in source.files if ".onnx" not in file.name)
    wrong = next((name for name in by_hand if name in why), None)
    head = f"{source.origin}: fp32 does not run ({why}); nothing was installed"
    if source.folder is None:
        return f"{head}; choose another revision or repository"
    again = f"`stt setup {shlex.quote(str(source.folder))}` again"
    if wrong is None:
        return f"{head}; see what is wrong with its files, then {again}"
    return f"{head}; correct {source.folder.resolve() / wrong}, then {again}"
