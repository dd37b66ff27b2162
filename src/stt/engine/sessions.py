"""How sessions of ONNX Runtime are made: their options, in one place, chosen by measurement."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stt.errors import ModelError


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Share:
    """How a CPU's threads are shared out among utterances."""

    whole: int
    """Threads in all; 0: as many as there are cores."""
    each: int
    """Threads that work on one utterance together; 0: as many as there are cores."""
    streams: int = 1
    """Utterances that are worked on at the same time."""


_MOST_STREAMS = 4
"""Each holds the activations of an utterance in memory, up to 0.5 GB of 30 s."""


def share_of(threads: int, jobs: int = 0) -> Share:
    """Share `threads`, 0 for all cores, out among `jobs` utterances; 0: as was fastest.

    That is the fewest threads to each that may be: one thread does all of an utterance without ever
    waiting for another (docs/speed.md).
    """
    cores = threads or usable_cores()
    streams = jobs or min(cores, _MOST_STREAMS)
    return Share(threads, max(1, cores // streams), streams)


def runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions: they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type)]
    return tuple(kind for kind in found if issubclass(kind, Exception))


@contextmanager
def running_graphs() -> Iterator[None]:
    """Give what ONNX Runtime raises while a graph runs, and a lack of memory, a line and a cure.

    Raises:
        ModelError: in their place.
    """
    try:
        yield
    except MemoryError as error:
        raise ModelError(_NO_MEMORY) from error
    except runtime_errors() as error:
        told = _HEAD.sub("", " ".join(str(error).split()))
        if _ALLOCATION.search(told):
            raise ModelError(_NO_MEMORY) from error
        raise ModelError(
            f"the model cannot run ({told[:200]}); its files do not fit one another or "
            "config.json: run `stt setup` for this model again"
        ) from error


_HEAD = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_ALLOCATION = re.compile(r"alloc|out of memory", re.IGNORECASE)
_NO_MEMORY = (
    "not enough memory to run the model; close other programs, use --jobs 1, or set max_segment_s "
    "or batch_size lower"
)


def session_options(threads: int, *, spinning: bool = True) -> Any:
    """Return ONNX Runtime's options for a model's graph.

    Args:
        threads: of the CPU provider; 0 lets ONNX Runtime take one per core.
        spinning: threads keep a core busy while they wait for the next piece of work.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # a pattern is kept for every shape met: 5,000 utterances of varied length took 85 MiB more
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # errors are raised, and need not be on the screen as well
    return options


def packed_options(threads: int) -> Any:
    """Return the options for a graph that `pack` wrote: there is nothing left to rewrite in it."""
    import onnxruntime

    options = session_options(threads)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def pack(source: Path, target: Path) -> None:
    """Write a graph as the CPU provider runs it: rewritten, its weights packed, in a file beside.

    Raises:
        An exception of ONNX Runtime's: the graph does not load, or cannot be written.
    """
    import onnxruntime

    options = session_options(0)
    options.optimized_model_filepath = str(target)
    for key, value in {
        "session.optimized_model_external_initializers_file_name": f"{target.name}.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])


def packing_key() -> str | None:
    """Return what `pack` made is good for: this ONNX Runtime on this kind of processor.

    None where the system does not tell what the processor can do: nothing may be packed then.
    """
    import onnxruntime

    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    wanted = ("model name", "flags", "Features", "CPU part")
    told = sorted({line for line in lines if line.startswith(wanted)})
    if not told:
        return None
    parts = (onnxruntime.__version__, platform.machine(), *told)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
