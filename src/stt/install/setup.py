"""Set-up: fetch a model, give it its name, then make, prove and measure what runs better.

A new model is fetched into a hidden folder beside its place and renamed when FP32 is whole and has
run once: from then on it can be used, in FP32. What is added then is written under its name only
when whole, and counts only when the manifest calls it proven. Every step is written down as it
ends, so an interrupted set-up goes on with the next.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stt.engine.folder import TUNED
from stt.engine.sessions import running_graphs
from stt.errors import ModelError, UsageError
from stt.install import measure, proof
from stt.install.artifacts import Artifact, artifacts, bring_about, is_settled
from stt.install.catalog import PinnedFile
from stt.install.installation import Events, Installation, TimeLeft, exclusive
from stt.install.observation import Clip, bundled_clips, load, observe
from stt.install.prover import Prover
from stt.install.source import Source, fetch
from stt.models import inspect
from stt.system.packages import require

CONVERTED = ("fp16", "int8")
"""Precisions that set-up makes from FP32."""
_SHARE = {"fp16": 0.51, "int8": 0.35}
"""Bytes of a converted graph for each byte of FP32, at most."""
_SHARE_SEARCHED = 0.75
"""The same of FP16 where a search may leave parts in FP32."""
_MARGIN = 300_000_000
"""Bytes left free for other things."""


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What is wanted of set-up."""

    precisions: tuple[str, ...] = ("fp16",)
    offline: bool = False
    """Ask nothing of the network."""
    force: bool = False
    """Convert, prove and measure again what is there already."""
    keep_fp32: bool | None = None
    """False: delete the FP32 files once another precision is proven; None: as it was before."""
    keep_failed: bool = False
    """Keep a conversion that failed its proof, as `NAME.failed.onnx`, to look at."""
    search: bool = False
    """Search what must stay in FP32 for FP16 to keep the tolerances; else FP16 is as it was made
    before, or plain."""
    rtol: float = 0.02
    """Of the search: see `stt.convert.mixed.within`."""
    atol: float | None = None
    provider: str = "auto"
    """One to prepare for although it is not here: cuda."""
    longest_s: float = proof.LONGEST_S
    """Seconds of the longest utterance that conversions are proven for on audio."""

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            UsageError: a precision that set-up does not make, or a tolerance that is none.
        """
        if wrong := [p for p in self.precisions if p not in CONVERTED]:
            raise UsageError(
                f"precision {wrong[0]!r} is not made by set-up; {', '.join(CONVERTED)} are"
            )
        if not 0 < self.rtol < math.inf or not 0 <= (self.atol or 0) < math.inf:
            raise UsageError("--rtol must be a number above 0, and --atol at least 0")


def set_up(
    source: Source,
    models_dir: Path,
    order: SetupOptions,
    events: Events,
    clips: Sequence[Clip] | None = None,
) -> Path:
    """Install a model, or bring an installed one to what is ordered; returns its folder.

    What is there and right is kept; a damaged file is fetched or made again, alone.

    Args:
        clips: speech to prove conversions on, instead of the bundled English.

    Raises:
        UsageError: a precision that cannot be made.
        ModelError: no space, no download, nothing that can be used; what was done is kept.
    """
    order.check()
    require("onnxruntime", "setting a model up")
    target = models_dir / source.name
    models_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(models_dir / f".{source.name}.lock"):
        _Job(source, target, order, events, tuple(clips or bundled_clips())).do()
    return target


def _remove_empty(work: Path) -> None:
    """Delete what a set-up leaves that failed before a byte came: nothing is lost with it."""
    for part in work.glob(".*.part"):
        if part.stat().st_size == 0:
            part.unlink()
    if not any(work.iterdir()):
        work.rmdir()


class _Job:
    """One run of set-up in one folder, which goes on with that of an earlier run."""

    def __init__(
        self,
        source: Source,
        target: Path,
        order: SetupOptions,
        events: Events,
        clips: tuple[Clip, ...],
    ) -> None:
        self.source, self.target, self.order = source, target, order
        self.events, self.clips = events, clips
        self.work = target if target.is_dir() else target.with_name(f".{target.name}.partial")
        self.work.mkdir(exist_ok=True)
        for left in self.work.glob(".*.trial.onnx*"):  # by a search that was killed
            left.unlink()
        self._open()

    def _open(self) -> None:
        self.at = Installation(self.work, self.events)
        self.manifest = self.at.manifest
        if self.order.keep_fp32 is not None:
            self.manifest.keep_fp32 = self.order.keep_fp32

    def do(self) -> None:
        """All steps in their order."""
        self.at.drop_outdated()
        if not self._fp32_is_needed():
            self.events.note("everything ordered is there and proven; FP32 was not kept")
            return
        try:
            self._check_space()
            with self._step("fetch"):
                fetch(self.source, self.at, offline=self.order.offline)
        finally:
            if self.work != self.target:
                _remove_empty(self.work)
        self._install()
        self.clock = TimeLeft(self.events.left, self.manifest.rates)
        changed = self._make()
        with self._step("measure"):
            measure.measure_proven(self.at, self.clock, again=changed or self.order.force)
        if not self.manifest.keep_fp32:
            self._drop_fp32()
        self.at.save()

    def _install(self) -> None:
        """Give a new model its name, if it runs: it can be used from here on.

        Raises:
            ModelError: it does not run; what was copied of a folder is deleted, as it is to change.
        """
        if self.work != self.target:
            self.at.save()
            self.events.progress("trying fp32 on one clip", 0, 1)
            try:
                _try_fp32(self.work, self.source, self.clips[0])
            except ModelError:
                if self.source.folder is not None:
                    shutil.rmtree(self.work)
                raise
            self.events.progress("trying fp32 on one clip", 1, 1)
            self.work.replace(self.target)
            self.work = self.target
            self._open()
            self.events.installed(self.target)

    def _make(self) -> bool:
        """Bring about all artifacts; says whether anything was made or proven."""
        order, at = self.order, self.at
        prover = Prover(at, self.clips, order.longest_s, self.clock)
        here = measure.providers_here()
        cuda = "cuda" in (*here, order.provider)
        tolerance = {"rtol": order.rtol, "atol": order.atol} if order.search else None
        wanted = artifacts(
            at,
            prover,
            order.precisions,
            gpu=here != ["cpu"],
            cuda=cuda,
            tolerance=tolerance,
            force=order.force,
        )
        todo: list[Artifact] = []
        for one in wanted:
            made_anew = {other.precision for other in todo}
            if order.force or one.precision in made_anew or not self._settled(one):
                todo.append(one)
        for place, artifact in enumerate(todo):
            if not self._has_sources(artifact):
                continue
            self._plan(prover, todo[place:])
            with self._step(artifact.name):
                bring_about(at, artifact, force=order.force, keep_failed=order.keep_failed)
            self.manifest.rates |= self.clock.rates
        prover.release()
        return bool(todo)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        taken = time.perf_counter() - began
        self.manifest.timings[name] = round(taken, 1)
        self.events.note(f"{name}: done in {taken:.1f} s")

    # --- fetch ----------------------------------------------------------------------------------

    def _fp32_is_needed(self) -> bool:
        """Whether there is work that reads FP32: not after --no-keep-fp32 when all is proven."""
        if self.order.force or self.manifest.keep_fp32 or not self.manifest.precisions:
            return True
        if any((self.work / file.name).exists() for file in self._graph_files()):
            return True
        return not all(
            self.manifest.precisions.get(precision, {}).get("proven")
            and all(map(self.at.is_right, self.at.model.family.graphs(precision)))
            for precision in self.order.precisions
        )

    def _graph_files(self) -> list[PinnedFile]:
        return [file for file in self.source.files if ".onnx" in file.name]

    def _check_space(self) -> None:
        """Before anything is written: downloads, conversions and a margin."""
        missing = sum(f.size for f in self.source.files if not (self.work / f.name).exists())
        fp32 = sum(file.size for file in self._graph_files())
        for precision in self.order.precisions:
            if precision not in self.manifest.precisions or self.order.force:
                searched = self.order.search and precision == "fp16"
                missing += int(fp32 * (_SHARE_SEARCHED if searched else _SHARE[precision]))
        free = shutil.disk_usage(self.work).free
        if missing and free < missing + _MARGIN:
            raise ModelError(
                f"{self.work.parent}: {free / 1e9:.1f} GB free where "
                f"{(missing + _MARGIN) / 1e9:.1f} GB are needed; make room, or choose another disk "
                "with `stt config set models_dir DIR`"
            )

    # --- make, prove and measure ----------------------------------------------------------------

    def _settled(self, artifact: Artifact) -> bool:
        if not is_settled(self.at, artifact):
            return False
        verdict = self.manifest.verdict(artifact.section, artifact.precision)
        if not verdict["proven"] and artifact.section == "precisions":
            self.events.note(
                f"{artifact.name}: failed its proof before ({verdict['why']}); "
                "`--force` makes and proves it again"
            )
        covered_s = verdict.get("longest_s", proof.DURATIONS_S[-1])
        return artifact.section != "precisions" or self.order.longest_s <= covered_s

    def _has_sources(self, artifact: Artifact) -> bool:
        """Whether what it is made from is there and may be used."""
        if artifact.section in ("splits", "cuda") and artifact.precision != "fp32":
            return bool(self.manifest.verdict("precisions", artifact.precision).get("proven"))
        return self.at.model.problems["fp32"] is None

    def _plan(self, prover: Prover, todo: Sequence[Artifact]) -> None:
        """Estimate what is left, with the measurements at the end."""
        proven = [p for p, entry in self.manifest.precisions.items() if entry["proven"]]
        timed = {"fp32", *proven, *(one.precision for one in todo if one.section == "precisions")}
        measured = [measure.work(self.at, precision) for precision in timed]
        self.clock.plan(prover.work_fp32(), *(one.work for one in todo), *measured)

    def _drop_fp32(self) -> None:
        """Delete FP32 when something proven can take its place."""
        if not any(entry["proven"] for entry in self.manifest.precisions.values()):
            self.events.note("FP32 is kept: nothing else is proven")
            return
        family = self.at.model.family
        names = [*(file.name for file in self._graph_files()), *family.parts("fp32")]
        for name in names:
            self.manifest.files.pop(name, None)
        self.manifest.splits.pop("fp32", None)
        self.manifest.tuned = {}
        self.manifest.cuda.pop("fp32", None)
        self.at.delete((*family.graphs(TUNED), *family.for_cuda("fp32")))
        self.at.save()
        for name in names:
            (self.work / name).unlink(missing_ok=True)
        self.events.note("FP32 files deleted: a recording on which another fails has no fallback")


def _try_fp32(folder: Path, source: Source, clip: Clip) -> None:
    """Load FP32, which came from `source`, on the CPU and run one clip.

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
