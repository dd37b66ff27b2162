"""How sessions of ONNX Runtime are made: their options, in one place, chosen by measurement."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


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


def share_of(threads: int) -> Share:
    """Share `threads`, 0 for all cores, out among utterances: the fewest to each that may be.

    One thread does all of an utterance without ever waiting for another (docs/speed.md).
    """
    cores = threads or usable_cores()
    streams = min(cores, _MOST_STREAMS)
    return Share(threads, cores // streams, streams)


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
    options.log_severity_level = 3  # errors are raised; warnings would land on the user's screen
    return options
