"""Speed of this application beside others: same audio, same threads, in turn, in one run.

The processes of `contenders` are started one after the other; then rounds go through all of them,
batch size by batch size. Speeds are medians over the rounds: a machine that is busy for a while
slows all alike.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile

from stt.audio.files import AUDIO_SUFFIXES, open_audio
from stt.audio.samples import resampled
from stt.bench.contenders import Contender, Worker, started
from stt.engine.sessions import usable_cores
from stt.errors import UsageError
from stt.install.installation import Events
from stt.install.observation import bundled_clips, of_length
from stt.system.packages import stt_version
from stt.system.temporary import temporary_folder
from stt.types import SAMPLE_RATE, Samples

FILE_S = 28.0
"""Seconds of every recording, at most: what Whisper takes at once, and the pipeline's longest
utterance, so that each engine hears a recording in one piece."""
_ROUNDS = 3
_LIMIT_S = 180.0
"""Seconds that all rounds are to take, as the first recording tells it."""
_MOST, _FEWEST = 16, 4
"""Recordings: so many that the last one, which cores do not share, weighs little."""
_SHORTEST_S = 4.0


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
    """A folder of recordings, all of which are measured; None: those that come along."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row."""

    engine: str
    model: str
    """The model folder's name."""
    precision: str
    provider: str
    batch: int
    threads: int
    recordings: int
    audio_s: float
    """Seconds of audio in one round, all recordings together."""
    rtfx: float
    """Seconds of audio per second, files in to text out, median of the rounds."""
    rtfx_min: float
    """Of the slowest round."""
    rtfx_max: float
    ratio: float | None
    """RTFx beside `Result.reference` with as many threads, median of each round's ratio."""
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


def bench(plan: Plan, events: Events) -> Result:
    """Measure; with the recordings that come along as many, and as long, as take 3 minutes.

    Raises:
        ModelError: a contender does not run; the text says why.
        AudioError: a recording cannot be read.
        UsageError: no recordings in the folder.
    """
    pieces = _pieces_of(plan.audio) if plan.audio else _bundled(_MOST, FILE_S)
    runs: list[Run] = []
    with temporary_folder("bench") as folder:
        first = _written(pieces[:1], folder / "first")
        for number, threads in enumerate(plan.threads):
            with ExitStack() as stack:
                workers = []
                for done, contender in enumerate(plan.contenders):
                    events.progress(f"loading {contender}", done, len(plan.contenders))
                    process = started(contender, plan.provider, threads, first[0])
                    workers.append(stack.enter_context(process))
                turns = _ROUNDS * len(plan.batches) * (len(plan.threads) - number)
                one_s = turns * sum(worker.one_s for worker in workers)
                if not number:
                    if not plan.audio:
                        pieces = _fitting(one_s, max(plan.batches), events.note)
                    files = _written(pieces, folder / "all")
                events.left(one_s * sum(map(_seconds, files)) / _seconds(first[0]))
                rows = list(_rows(workers, plan, threads, files, events))
                for place in range(len(workers)):
                    runs += rows[place :: len(workers)]
    beside = _reference(plan.contenders)
    reference = f"{beside}, batch {plan.batches[0]}" if beside else None
    return Result(machine(), reference, tuple(runs))


def _fitting(one_s: float, batch: int, note: Callable[[str], None]) -> list[Samples]:
    """Recordings for rounds that take `_LIMIT_S`, where one of 28 s takes `one_s` in all rounds."""
    most, fewest = max(batch, _MOST), max(batch, _FEWEST)
    count = min(most, max(fewest, int(_LIMIT_S / one_s)))
    length = min(FILE_S, max(_SHORTEST_S, round(FILE_S * _LIMIT_S / (one_s * count))))
    if count < most or length < FILE_S:
        note(
            f"{most} recordings of {FILE_S:.0f} s would take {_span(one_s * most)}: "
            f"{count} of {length:.0f} s are measured"
        )
    note(f"{_ROUNDS} rounds take about {_span(one_s * count * length / FILE_S)}")
    return _bundled(count, length)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _bundled(count: int, seconds: float) -> list[Samples]:
    return np.split(of_length(bundled_clips(), count * seconds), count)


def _pieces_of(folder: Path) -> list[Samples]:
    """Read every recording of a folder, cut into as few equal pieces as fit 28 s."""
    found = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()
    )
    if not found:
        raise UsageError(f"{folder}: no recordings in it")
    pieces: list[Samples] = []
    for path in found:
        with open_audio(path) as stream:
            samples = np.concatenate(list(resampled(stream.blocks, stream.sample_rate)))
        several = max(1, -(-len(samples) // round(FILE_S * SAMPLE_RATE)))
        pieces += np.array_split(samples, several)
    return pieces


def _written(pieces: Sequence[Samples], folder: Path) -> list[Path]:
    """Write WAV, which all engines read: mono, 16 kHz, 16 bits."""
    folder.mkdir()
    paths = [folder / f"{place:04}.wav" for place in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        soundfile.write(path, piece, SAMPLE_RATE)
    return paths


def _seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


def _reference(found: Sequence[Contender]) -> Contender | None:
    """Return onnx-asr, in FP32 where that is there; None where it is not asked for."""
    theirs = [one for one in found if one.engine == "onnx-asr"]
    return next((one for one in theirs if one.precision == "fp32"), next(iter(theirs), None))


def _rows(
    workers: Sequence[Worker],
    plan: Plan,
    threads: int,
    files: Sequence[Path],
    events: Events,
) -> Iterator[Run]:
    """Measure with so many threads: rounds through all workers, one batch size after the other."""
    beside, audio_s = _reference(plan.contenders), sum(map(_seconds, files))
    theirs: list[dict[str, Any]] = []
    total, done = _ROUNDS * len(plan.batches) * len(workers), 0
    later = len(plan.threads) - plan.threads.index(threads) - 1
    for batch in plan.batches:
        rounds: list[list[dict[str, Any]]] = []
        for _ in range(_ROUNDS):
            began, turn = time.perf_counter(), []
            for worker in workers:
                events.progress("measuring", done, total)
                turn.append(worker.ask(files, batch))
                done += 1
            rounds.append(turn)
            turn_s = time.perf_counter() - began
            events.left(turn_s * (total * (later + 1) - done) / len(workers))
        of_each = list(zip(*rounds, strict=True))
        if beside and batch == plan.batches[0]:
            theirs = list(of_each[plan.contenders.index(beside)])
        for worker, ours in zip(workers, of_each, strict=True):
            ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=False)]
            speeds = [audio_s / one["seconds"] for one in ours]
            yield Run(
                engine=worker.contender.engine,
                model=worker.contender.folder.name,
                precision=worker.contender.precision,
                provider=worker.provider,
                batch=batch,
                threads=threads,
                recordings=len(files),
                audio_s=round(audio_s, 1),
                rtfx=round(median(speeds), 2),
                rtfx_min=round(min(speeds), 2),
                rtfx_max=round(max(speeds), 2),
                ratio=round(median(ratios), 2) if ratios else None,
                cpu_ms_per_s=round(1000 * median(one["cpu"] for one in ours) / audio_s, 1),
                load_s=round(worker.load_s, 2),
                first_result_s=round(worker.first_result_s, 2),
                peak_mib=ours[-1]["peak_mib"],
            )


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
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
