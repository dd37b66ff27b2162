"""How sessions of ONNX Runtime are made: their options, in one place, chosen by measurement."""

from __future__ import annotations

import os
from typing import Any


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def session_options(threads: int) -> Any:
    """Return ONNX Runtime's options for a model's graph.

    `threads`: of the CPU provider; 0 lets ONNX Runtime take one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors are raised; warnings would land on the user's screen
    return options
