"""Speed, load time and memory of one precision on one provider: each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from stt.engine.providers import PROVIDERS
from stt.errors import ModelError

AUDIO_S = 28.0
"""Seconds of speech; with the silence after it what Whisper takes at once."""
_RUNS = 3
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured; medians of three runs."""

    precision: str
    provider: str
    rtfx: float
    """Seconds of audio per second."""
    load_s: float
    peak_mib: float | None
    """None where the system does not tell (Windows)."""


def providers_here() -> list[str]:
    """Short names of the providers this ONNX Runtime was built with, the CPU last."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return sorted((n for n, p in PROVIDERS.items() if p in available), key=lambda n: n == "cpu")


def measure(folder: Path, precision: str, provider: str) -> Speed:
    """Measure in a child process, so that memory and load time are of this precision alone.

    Raises:
        ModelError: it did not run; the text says why.
    """
    command = [sys.executable, "-m", "stt.models.measure", str(folder), precision, provider]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{precision} on {provider} took over {_TIMEOUT_S} s") from error
    if done.returncode:
        told = (done.stderr.strip() or "it was killed").splitlines()[-1]
        raise ModelError(f"{precision} on {provider} did not run: {told}")
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _main(folder: Path, precision: str, provider: str) -> None:
    from stt.engine.recognizer import load_recognizer
    from stt.models.clips import bundled_clips, of_length
    from stt.models.folder import inspect

    speech = of_length(bundled_clips(), AUDIO_S)
    began = time.perf_counter()
    recognizer, _ = load_recognizer(
        inspect(folder), precision=precision, provider=provider, strict=True
    )
    load_s = time.perf_counter() - began
    recognizer.recognize([speech])  # the first run allocates
    taken = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        recognizer.recognize([speech])
        taken.append(time.perf_counter() - began)
    result = {
        "precision": precision,
        "provider": recognizer.provider,
        "rtfx": round(AUDIO_S / median(taken), 2),
        "load_s": round(load_s, 2),
        "peak_mib": peak_mib(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def peak_mib() -> float | None:
    """Return the most memory this process has had, in MiB; None where the system does not tell."""
    with suppress(OSError):
        # getrusage's figure begins, on Linux, with that of the process that started this one
        status = Path("/proc/self/status").read_text("ascii", "replace")
        (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return round(int(peak) / 1024, 0)
    try:
        import resource
    except ImportError:
        return None
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # as macOS tells it
    return round(peak_bytes / (1 << 20), 0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
