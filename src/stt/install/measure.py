"""Speed, load time and memory of precisions on one provider, each in a process of its own.

A machine is not equally fast from one minute to the next. So precisions that are compared take
turns, and a speed comes with its confidence interval: a difference counts only beyond it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from math import ceil, comb
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

import psutil

from stt import models
from stt.engine.sessions import PROVIDERS
from stt.errors import ModelError
from stt.install.installation import Installation, TimeLeft, Work
from stt.install.observation import bundled_clips, graph_bytes, of_length
from stt.models import inspect
from stt.types import ReportProgress

_AUDIO_S = 14.0
"""Seconds of speech in a turn."""
_TURN_S = 0.2
"""Seconds a turn takes at least: a small model recognises the audio several times in it."""
_LEAST, _MOST, _ALONE = 7, 21, 3
"""Rounds in which each precision has its turn; alone it has nothing to be compared with."""
_FEWEST = 5
"""Rounds where `_LEAST` take too long. Chance puts 5 of one before 5 of another once in 250."""
_LONG_ENOUGH_S = 25.0
"""Seconds after which no further round begins, if there were `_FEWEST`."""
LEAST_S = _AUDIO_S * (2 + _LEAST)
"""Seconds of speech that each of several precisions recognises at least."""
_QUIET = 0.05
"""Relative width of the widest interval at which further rounds tell nothing new."""
_CONFIDENCE = 0.95
_APART_ROUNDS, _APART_TURNS = 3, 3
"""Where memory holds one precision at a time: rounds, and turns each has in one."""
_MEMORY_FACTOR = {"fp32": 1.5, "fp16": 3.5, "int8": 2.0}
"""Memory of a loaded model for each byte of its graphs and weights, with room."""
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured."""

    precision: str
    provider: str
    rtfx: float
    """Seconds of audio per second, the median of all turns."""
    load_s: float
    peak_mib: float | None
    """None where the system does not tell (Windows)."""
    rtfx_low: float | None = None
    """Lower end of the median's confidence interval; None where it was not measured in turns."""
    rtfx_high: float | None = None
    turns: int = 0


def providers_here() -> list[str]:
    """Short names of the providers this ONNX Runtime was built with, the CPU last."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return sorted((n for n, p in PROVIDERS.items() if p in available), key=lambda n: n == "cpu")


def work(at: Installation, precision: str) -> Work:
    """Say what measuring a precision on one provider takes."""
    return {"load": at.gigabytes(precision), "speech": LEAST_S * at.gigabytes("fp32")}


def measure_proven(at: Installation, clock: TimeLeft, *, again: bool) -> list[Speed]:
    """Time and note FP32 and all that is proven, on every provider this machine really has.

    On a provider where something is to be timed all is: figures that are compared must be of the
    same hour. `again`: also where everything has its figures.
    """
    proven = [p for p, entry in at.manifest.precisions.items() if entry["proven"]]
    have = {
        (row["precision"], row["provider"])
        for row in at.manifest.measurements
        if "rtfx_low" in row  # older ones were not measured in turns
    }
    measured = []
    for provider in providers_here():
        # int8 is 10 to 25 times slower than fp32 on others, and never chosen
        able = [p for p in ("fp32", *proven) if provider == "cpu" or p != "int8"]
        if not again and all((p, provider) in have for p in able):
            continue
        clock.plan(*(work(at, precision) for precision in able))
        found = compare(at.folder, able, provider, at.events.progress)
        clock.plan()
        for speed in found.values():
            if isinstance(speed, ModelError):
                at.events.note(f"not measured: {speed}")
            else:
                others = [
                    row
                    for row in at.manifest.measurements
                    if (row["precision"], row["provider"]) != (speed.precision, speed.provider)
                ]
                at.manifest.measurements = [*others, {**asdict(speed), "correct": True}]
                at.save()
                measured.append(speed)
    return measured


def compare(
    folder: Path,
    precisions: Sequence[str],
    provider: str,
    report: ReportProgress = lambda *_: None,
) -> dict[str, Speed | ModelError]:
    """Measure precisions in turns; returns for each what was measured, or why it did not run.

    All are loaded at once where memory holds them; else one at a time, again and again.
    """
    if len(precisions) == 1 or _fit(folder, precisions):
        with suppress(ModelError):  # what does not load beside others may do so alone
            return _together(folder, precisions, provider, report)
    return _apart(folder, precisions, provider, report)


def _fit(folder: Path, precisions: Sequence[str]) -> bool:
    """Whether memory holds all of them at once; true where one is not there, which will say so."""
    try:
        model = inspect(folder)
        needed = sum(
            _MEMORY_FACTOR[precision] * graph_bytes(model.path / name)
            for precision in precisions
            for name in model.family.graphs(precision)
        )
    except (ModelError, FileNotFoundError):
        return True
    return needed < psutil.virtual_memory().available


def _together(
    folder: Path, precisions: Sequence[str], provider: str, report: ReportProgress
) -> dict[str, Speed | ModelError]:
    found: dict[str, Speed | ModelError] = {}
    with ExitStack() as stack:
        running: dict[str, _Child] = {}
        for precision in precisions:
            report(f"loading {precision} on {provider}", len(running), len(precisions))
            running[precision] = stack.enter_context(_Child(folder, precision, provider))
        turns: dict[str, list[float]] = {precision: [] for precision in running}
        began = time.monotonic()
        stage = f"measuring {' and '.join(turns)} on {provider}, in turns"
        for number in range(_MOST):
            if _is_enough(turns, time.monotonic() - began):
                report(stage, number, number)
                break
            report(stage, number, _MOST)
            for precision in (list(turns), list(reversed(turns)))[number % 2]:
                try:
                    turns[precision].append(running[precision].turn())
                except ModelError as error:
                    found[precision] = error
                    del turns[precision]
        for precision, rtfx in turns.items():
            found[precision] = running[precision].speed(rtfx)
    return found


def _is_enough(turns: dict[str, list[float]], taken_s: float) -> bool:
    """Whether further rounds would tell nothing new, or take too long.

    It does not look at which is faster: to stop as soon as one is would make chance a choice.
    """
    rounds = len(next(iter(turns.values()), ()))
    if len(turns) < 2:  # nothing to compare
        return rounds >= _ALONE
    if rounds < _FEWEST:
        return False
    if taken_s > _LONG_ENOUGH_S:
        return True
    widest = max((high - low) / low for low, high in map(bounds, turns.values()))
    return rounds >= _LEAST and widest <= _QUIET


def _apart(
    folder: Path, precisions: Sequence[str], provider: str, report: ReportProgress
) -> dict[str, Speed | ModelError]:
    found: dict[str, Speed | ModelError] = {}
    turns: dict[str, list[float]] = {precision: [] for precision in precisions}
    loads: dict[str, list[Speed]] = {precision: [] for precision in precisions}
    for number in range(_APART_ROUNDS):
        for precision in (list(turns), list(reversed(turns)))[number % 2]:
            report(f"measuring {precision} on {provider}, one at a time", number, _APART_ROUNDS)
            try:
                with _Child(folder, precision, provider) as child:
                    turns[precision] += [child.turn() for _ in range(_APART_TURNS)]
                    loads[precision].append(child.speed(turns[precision]))
            except ModelError as error:
                found[precision] = error
                del turns[precision]
    for precision in turns:
        load_s = median(one.load_s for one in loads[precision])
        found[precision] = replace(loads[precision][-1], load_s=load_s)
    return found


def bounds(rtfx: Sequence[float]) -> tuple[float, float]:
    """Return the confidence interval of the median, from order statistics: no distribution assumed.

    With fewer than 9 values it is the smallest and the largest.
    """
    ordered, count = sorted(rtfx), len(rtfx)
    left_out = 0
    while left_out + 1 < ceil(count / 2) and _coverage(count, left_out + 1) >= _CONFIDENCE:
        left_out += 1
    return ordered[left_out], ordered[-1 - left_out]


def _coverage(count: int, left_out: int) -> float:
    """Probability that the true median lies within all but so many values at either end."""
    outside: int = sum(comb(count, k) for k in range(left_out + 1))
    return 1.0 - 2.0 * outside / float(2**count)


class _Child:
    """A process that has loaded one precision and recognises when it is asked to.

    All that waits for it raises ModelError where it died or hangs.
    """

    def __init__(self, folder: Path, precision: str, provider: str) -> None:
        self._precision, self._wanted = precision, provider
        self._command = [sys.executable, "-m", __name__, str(folder), precision, provider]

    def __enter__(self) -> _Child:
        """Start it and wait until it has loaded."""
        with ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
            stack.callback(self._process.communicate)
            stack.callback(self._process.kill)
            self._loaded = Speed(self._precision, rtfx=0.0, **self._answer())
            self._until_exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._until_exit.close()

    def turn(self) -> float:
        """Recognise for a moment; returns seconds of audio per second."""
        assert self._process.stdin is not None
        with suppress(OSError):  # dead: the answer that does not come says so
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        answer = self._answer()
        self._loaded = replace(self._loaded, peak_mib=answer["peak_mib"])
        return float(answer["rtfx"])

    def speed(self, rtfx: Sequence[float]) -> Speed:
        """Put its turns and what it reported together."""
        low, high = (round(end, 2) for end in bounds(rtfx))
        middle, turns = round(median(rtfx), 2), len(rtfx)
        return replace(self._loaded, rtfx=middle, rtfx_low=low, rtfx_high=high, turns=turns)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = Timer(_TIMEOUT_S, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline()
            in_time = late.is_alive()
        finally:  # Ctrl-C too: nothing may be left that the program waits for at its end
            late.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        name = f"{self._precision} on {self._wanted}"
        if not in_time:
            raise ModelError(f"{name} took over {_TIMEOUT_S} s")
        self._process.wait()
        self._errors.seek(0)
        errors = self._errors.read().decode("utf-8", "replace").strip() or "it was killed"
        raise ModelError(f"{name} did not run: {errors.splitlines()[-1]}")


def _main(folder: Path, precision: str, provider: str) -> None:
    """Load, tell how long that took, and recognise once for every line of standard input."""
    model = inspect(folder)
    speech = of_length(bundled_clips(), _AUDIO_S)
    began = time.perf_counter()
    recognizer, _ = models.load(model, precision=precision, provider=provider, strict=True)
    load_s = time.perf_counter() - began
    recognizer.recognize([speech])  # the first run allocates
    began = time.perf_counter()
    recognizer.recognize([speech])
    times = max(1, ceil(_TURN_S / (time.perf_counter() - began)))
    _tell({"provider": recognizer.provider, "load_s": round(load_s, 2), "peak_mib": peak_mib()})
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(times):
            recognizer.recognize([speech])
        taken = time.perf_counter() - began
        _tell({"rtfx": _AUDIO_S * times / taken, "peak_mib": peak_mib()})


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def peak_mib() -> float | None:
    """Return the most memory this process has had, in MiB; None where the system does not tell."""
    with suppress(OSError):
        # getrusage's figure begins, on Linux, with that of the process that started this one
        status = Path("/proc/self/status").read_text("ascii", "replace")
        (peak,) = re.findall(r"^VmHWM:\s*(\d+)", status, re.MULTILINE)
        return round(int(peak) / 1024, 0)
    try:
        import resource
    except ImportError:
        return None
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # as macOS tells it
    return round(peak_bytes / (1 << 20), 0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
