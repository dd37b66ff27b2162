"""Speed of this application beside others: same audio, same threads, in turn, in one run.

Every engine runs each precision in a process of its own (`bench_worker`), so that load time and
memory are its own. They are started one after the other; then rounds go through all of them, batch
size by batch size, and all figures but load, first result and memory are medians over the rounds:
a machine that is busy for a while slows all alike.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import IO, Any

from stt.bench_audio import recordings, seconds_of
from stt.engine.folder import PRECISIONS, ModelFolder
from stt.engine.sessions import usable_cores
from stt.errors import ModelError, UsageError
from stt.install.sherpa import export
from stt.models import inspect
from stt.settings.places import Places
from stt.system.packages import require, stt_version
from stt.system.temporary import temporary_folder

ENGINES = ("stt", "onnx-asr", "sherpa-onnx")
STAGES = ("features", "encoder", "decoding", "other")
_ROUNDS = 3

Left = Callable[[float], None]
"""(seconds)."""
Report = Callable[[str, int, int], None]
"""(what is being done, steps done, steps in all)."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One engine with one precision of one model folder."""

    engine: str
    folder: Path
    precision: str

    def __str__(self) -> str:
        """Return it as the table names it."""
        return f"{self.engine} {self.folder.name} {self.precision}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    contenders: tuple[Contender, ...]
    batches: tuple[int, ...]
    """Recordings handed over at a time; rising."""
    threads: tuple[int, ...]
    """Measured one after the other; 0: ONNX Runtime decides."""
    provider: str
    """Short name, e.g. cpu."""
    audio: Path | None = None
    """A folder of recordings; None: those that come with the application."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row: medians over the rounds."""

    engine: str
    model: str
    """The model folder's name."""
    precision: str
    provider: str
    batch: int
    threads: int
    audio_s: float
    """Seconds of audio in one round."""
    rtfx: float
    """Seconds of audio per second, files in to text out."""
    rtfx_min: float
    """Of the slowest round."""
    rtfx_max: float
    ratio: float | None
    """RTFx beside `Result.reference` with as many threads, median of each round's ratio."""
    ms_per_s: dict[str, float] | None
    """Stage -> milliseconds per second of audio; None where the engine does not let one look.
    Of all threads together: where utterances are worked on side by side they come to more than the
    time taken. `other` is what is not hidden behind them."""
    cpu_ms_per_s: float
    """Milliseconds of processor time, of all cores together, per second of audio: what others at
    work on the machine disturb least. Threads that wait for one another count too."""
    load_s: float
    first_result_s: float
    """From starting the program to the text of one recording."""
    peak_mib: float | None
    """Most memory so far: with this batch size and smaller ones. None where unknown (Windows)."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `stt bench` tells."""

    machine: dict[str, Any]
    reference: str | None
    """What ratios are beside: onnx-asr, in FP32 where that is among the runs."""
    runs: tuple[Run, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "machine": self.machine,
            "reference": self.reference,
            "runs": [asdict(run) for run in self.runs],
        }


def contenders(
    model: ModelFolder, against: Sequence[str], provider: str, places: Places
) -> tuple[Contender, ...]:
    """List every precision of the model for this application, then for each of `against`.

    Args:
        model: the folder to measure.
        against: an engine's name, or `ENGINE=MODEL` to give it the files of another folder, or of
            another installed model.
        provider: short name; int8 is left out on all but the CPU.
        places: where installed models are.

    Raises:
        UsageError: an engine that is not known, or sherpa-onnx is not installed.
        ModelError: a folder that holds no model.
    """
    require("onnxruntime", "running a model")
    found = [("stt", model)]
    for item in against:
        engine, _, folder = item.partition("=")
        if engine not in ENGINES[1:]:
            raise UsageError(f"--against {engine!r} is not known; use {' or '.join(ENGINES[1:])}")
        if engine == "sherpa-onnx":
            require("sherpa_onnx", "--against sherpa-onnx")
        other = places.find(folder) or Path(folder)
        found.append((engine, inspect(other) if folder else model))
    return tuple(
        Contender(engine, folder.path.resolve(), precision)
        for engine, folder in found
        for precision in PRECISIONS
        if folder.problems[precision] is None and (provider == "cpu" or precision != "int8")
    )


def bench(plan: Plan, report: Report, left: Left = lambda _: None) -> Result:
    """Measure; `left` is told, each time it is known better, the seconds all of it still takes.

    Raises:
        ModelError: a contender does not run; the text says why.
        AudioError: a recording cannot be read.
    """
    with temporary_folder("bench") as folder:
        files = recordings(plan.audio, max(plan.batches), folder)
        runs = [
            run for threads in plan.threads for run in _runs(plan, threads, files, report, left)
        ]
        return Result(machine(), _named(_reference(plan.contenders), plan), tuple(runs))


def _reference(contenders: Sequence[Contender]) -> Contender | None:
    """Return onnx-asr, in FP32 where that is there; None where it is not asked for."""
    theirs = [one for one in contenders if one.engine == "onnx-asr"]
    return next((one for one in theirs if one.precision == "fp32"), next(iter(theirs), None))


def _named(reference: Contender | None, plan: Plan) -> str | None:
    return f"{reference}, batch {plan.batches[0]}" if reference else None


def _runs(
    plan: Plan, threads: int, files: Sequence[Path], report: Report, left: Left
) -> tuple[Run, ...]:
    """Measure with so many threads."""
    with ExitStack() as stack:
        workers = []
        for done, contender in enumerate(plan.contenders):
            report(f"loading {contender}", done, len(plan.contenders))
            started = _started(contender, plan.provider, threads, files[0])
            workers.append(stack.enter_context(started))
        more = len(plan.threads) - plan.threads.index(threads)
        turn_s = sum(worker.one_s for worker in workers) * len(files) * len(plan.batches)
        left(turn_s * (_ROUNDS + 1) * more)
        timings = _rounds(
            workers,
            plan,
            files,
            report,
            lambda turn_s, turns: left(turn_s * (turns + (more - 1) * (_ROUNDS + 1))),
        )
        seconds = sum(seconds_of(file) for file in files)
        return _rows(workers, plan, threads, timings, seconds)


def machine() -> dict[str, Any]:
    """Describe this machine and the versions that matter."""
    import onnxruntime
    import psutil

    packages = ("numpy", "onnx-asr", "sherpa-onnx", "sherpa-onnx-core")
    known = {name: version(name) for name in packages if find_spec(name.replace("-", "_"))}
    return {
        "cpu": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "stt": stt_version(),
        "onnxruntime": onnxruntime.__version__,
        **known,
    }


def _processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class _Worker:
    """A contender's process: asks in JSON, a line each."""

    def __init__(
        self, contender: Contender, provider: str, threads: int, folder: Path, errors: IO[str]
    ) -> None:
        self.contender = contender
        self._errors = errors
        command = [sys.executable, "-m", "stt.bench_worker", contender.engine, str(folder)]
        self._process = subprocess.Popen(
            [*command, contender.precision, provider, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.load_s: float = 0.0
        self.one_s: float = 0.0
        """Seconds that the first recording took."""
        self.first_result_s: float = 0.0
        self.provider = provider
        self.peak_mib: dict[int, float | None] = {}
        """Batch size -> most memory so far."""

    def ask(self, files: Sequence[Path], batch: int) -> dict[str, Any]:
        """Have `files` transcribed, `batch` at a time.

        Raises:
            ModelError: the process ended; the text is its last line.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"files": [str(file) for file in files], "batch": batch}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            told = (self._errors.read().strip() or "it was killed").splitlines()[-1]
            told = re.sub(r"^[\w.]+(Error|Exception): ", "", told)
            raise ModelError(f"{self.contender} did not run: {told}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextmanager
def _started(contender: Contender, provider: str, threads: int, first: Path) -> Iterator[_Worker]:
    """Start a contender and have it transcribe one recording."""
    with temporary_folder("export") as folder, tempfile.TemporaryFile("w+") as errors:
        files = contender.folder
        if contender.engine == "sherpa-onnx":
            files = folder
            export(contender.folder, contender.precision, files)
        began = time.perf_counter()
        worker = _Worker(contender, provider, threads, files, errors)
        try:
            answer = worker.ask([first], 1)
            worker.first_result_s = time.perf_counter() - began
            worker.load_s, worker.provider = answer["load_s"], answer["provider"]
            worker.one_s = answer["seconds"]
            yield worker
        finally:
            worker.close()


_Timing = dict[str, Any]
"""A worker's answer: `seconds` in all, `cpu` seconds, `stages` (stage -> seconds, or None),
peak_mib."""


def _rounds(
    workers: Sequence[_Worker],
    plan: Plan,
    files: Sequence[Path],
    report: Report,
    turned: Callable[[float, int], None],
) -> dict[tuple[int, int], list[_Timing]]:
    """Return (worker, batch) -> the timing of each round; a first round warms up.

    `turned` is told after each round how many seconds it took, and how many are left.
    """
    timings: dict[tuple[int, int], list[_Timing]] = {}
    total = (_ROUNDS + 1) * len(plan.batches) * len(workers)
    done = 0
    for turn in range(_ROUNDS + 1):
        began = time.perf_counter()
        for batch in plan.batches:
            for place, worker in enumerate(workers):
                report("measuring", done, total)
                timing = worker.ask(files, batch)
                done += 1
                if turn:
                    timings.setdefault((place, batch), []).append(timing)
                else:
                    worker.peak_mib[batch] = timing["peak_mib"]
        turned(time.perf_counter() - began, _ROUNDS - turn)
    return timings


def _rows(
    workers: Sequence[_Worker],
    plan: Plan,
    threads: int,
    timings: dict[tuple[int, int], list[_Timing]],
    audio_s: float,
) -> tuple[Run, ...]:
    beside = _reference(plan.contenders)
    reference = timings[plan.contenders.index(beside), plan.batches[0]] if beside else ()
    rows = []
    for place, worker in enumerate(workers):
        for batch in plan.batches:
            rounds = timings[place, batch]
            speeds = [audio_s / one["seconds"] for one in rounds]
            ratios = [
                theirs["seconds"] / ours["seconds"]
                for ours, theirs in zip(rounds, reference, strict=False)
            ]
            rows.append(
                Run(
                    engine=worker.contender.engine,
                    model=worker.contender.folder.name,
                    precision=worker.contender.precision,
                    provider=worker.provider,
                    batch=batch,
                    threads=threads,
                    audio_s=round(audio_s, 1),
                    rtfx=round(median(speeds), 2),
                    rtfx_min=round(min(speeds), 2),
                    rtfx_max=round(max(speeds), 2),
                    ratio=round(median(ratios), 2) if ratios else None,
                    ms_per_s=_stages(rounds, audio_s),
                    cpu_ms_per_s=round(1000 * median(one["cpu"] for one in rounds) / audio_s, 1),
                    load_s=round(worker.load_s, 2),
                    first_result_s=round(worker.first_result_s, 2),
                    peak_mib=worker.peak_mib[batch],
                )
            )
    return tuple(rows)


def _stages(rounds: Sequence[_Timing], audio_s: float) -> dict[str, float] | None:
    if rounds[0]["stages"] is None:
        return None
    return {
        stage: round(1000 * median(one["stages"][stage] for one in rounds) / audio_s, 2)
        for stage in STAGES
    }
