"""How sessions of ONNX Runtime are made: on which provider, with which options; what they raise.

The options are in one place, chosen by measurement.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stt.errors import ModelError, NonFiniteOutput, ProviderError
from stt.types import Floats

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE searches anew for every input length
    "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and never gives back
}


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_MOST_STREAMS = 4
"""Each holds the activations of an utterance in memory, up to 0.5 GB of 30 s."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the sessions of a model run on."""

    provider: str = "cpu"
    """Short name of the execution provider."""
    threads: int = 0
    """Of the CPU, for all that is done at the same time; 0: as many as there are cores."""
    concurrency: int | None = None
    """Utterances worked on at the same time, which share the threads out among them; None: one,
    with all of them."""

    @classmethod
    def shared(cls, provider: str, threads: int, jobs: int | None) -> Runtime:
        """Share the CPU's `threads` out among `jobs` utterances; 0: as was fastest.

        That is the fewest threads to each that may be: one thread does all of an utterance without
        ever waiting for another (docs/measurements/speed.md). With None, and on another provider,
        all threads work on one.
        """
        if jobs is None or provider != "cpu":
            return cls(provider, threads)
        return cls(provider, threads, jobs or min(threads or usable_cores(), _MOST_STREAMS))

    @property
    def streams(self) -> int:
        """Utterances worked on at the same time."""
        return self.concurrency or 1

    @property
    def threads_each(self) -> int:
        """Threads that work on one utterance together; 0: as many as there are cores."""
        if self.concurrency is None:
            return self.threads
        return max(1, (self.threads or usable_cores()) // self.concurrency)


def runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions: they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type)]
    return tuple(kind for kind in found if issubclass(kind, Exception))


def load_error(error: Exception, path: Path) -> ModelError:
    """Return ONNX Runtime's exception on loading from a folder, on one line about the file."""
    text = " ".join(str(error).split()).replace(f"{path}/", "")
    if "Protobuf parsing failed" in text:
        text = f"{text.split(' failed:')[0].split('Load model from ')[-1]} is not an ONNX file"
    return ModelError(text if len(text) <= 300 else text[:297] + "...")


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
        if lacks_memory(error):
            raise ModelError(_NO_MEMORY) from error
        message = _HEAD.sub("", " ".join(str(error).split()))
        raise ModelError(
            f"the model cannot run ({message[:200]}); its files do not fit one another or "
            "config.json: run `stt setup` for this model again"
        ) from error


def lacks_memory(error: Exception) -> bool:
    """Whether an exception says that memory was not enough, the processor's or a card's."""
    return isinstance(error, MemoryError) or bool(_ALLOCATION.search(str(error)))


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


def finite(values: Floats, where: str) -> Floats:
    """Return a model's output as it is.

    Raises:
        NonFiniteOutput: a value is NaN or infinite; its text names `where`.
    """
    if np.isfinite(values).all():
        return values
    raise NonFiniteOutput(f"{'NaN' if np.isnan(values).any() else 'infinity'} in the {where}")


def preload(onnxruntime: Any) -> None:
    """Let ONNX Runtime find the CUDA libraries of installed wheels, where it was built for CUDA.

    One built for the CPU alone (1.23) prints advice on standard output, which is for text.
    """
    able = PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if able and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def to_try(requested: str, available: Sequence[str]) -> list[str]:
    """Return the short names to try in order, given what this ONNX Runtime was built with.

    `auto` tries CUDA where it is built in, then the CPU.

    Raises:
        ProviderError: a provider asked for by name is not in this ONNX Runtime.
    """
    if requested == "auto":
        return [name for name in ("cuda", "cpu") if PROVIDERS[name] in available]
    if PROVIDERS[requested] not in available:
        raise ProviderError(
            f"provider {requested} is not in this ONNX Runtime (it has "
            f"{', '.join(name for name in PROVIDERS if PROVIDERS[name] in available)}); "
            f"{_cure(requested)}"
        )
    return [requested]


def not_running(requested: str, actual: str) -> ProviderError:
    """Return the error for a provider that ONNX Runtime lists but did not use."""
    return ProviderError(
        f"provider {requested} was asked for, but ONNX Runtime ran on {actual}: its libraries or "
        f"driver could not be loaded; {_cure(requested)}"
    )


def session_providers(name: str) -> list[Any]:
    """Return ONNX Runtime's `providers` argument for one short name, the CPU as its helper."""
    if name == "cpu":
        return [PROVIDERS["cpu"]]
    options = _CUDA_OPTIONS if name == "cuda" else {}
    return [(PROVIDERS[name], options), PROVIDERS["cpu"]]


def with_cuda_graphs(providers: Sequence[Any]) -> list[Any]:
    """Return CUDA's providers for a session that keeps what it runs as CUDA graphs.

    ONNX Runtime refuses a graph of which a node is not on CUDA.
    """
    (cuda, options), *helpers = providers
    return [(cuda, {**options, "enable_cuda_graph": "1"}), *helpers]


def short_name(provider: str) -> str:
    """Return the short name of an ONNX Runtime provider, or its own where it has none."""
    return next((short for short, name in PROVIDERS.items() if name == provider), provider)


def _cure(name: str) -> str:
    if name in ("cuda", "tensorrt"):
        return (
            "install this package with its extra `gpu` instead of `cpu` in a fresh environment "
            "(README, Install) and an NVIDIA driver, or choose provider cpu"
        )
    return "install an ONNX Runtime that has it, or choose provider cpu"
