"""Graphs that run on values which stay where they were computed, on a card or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stt.engine.sessions import PROVIDERS


def device(session: Any) -> str:
    """Return where a session's values lie, as ONNX Runtime calls it."""
    return "cuda" if session.get_providers()[0] == PROVIDERS["cuda"] else "cpu"


def run(session: Any, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
    """Run a graph and leave its outputs where they are computed.

    Args:
        session: of the graph.
        inputs: arrays, or OrtValues.
        outputs: names of those that are wanted.

    Returns:
        An OrtValue for each, computed to the end.
    """
    from onnxruntime import OrtValue

    binding = session.io_binding()
    for name, value in inputs.items():
        if isinstance(value, OrtValue):
            binding.bind_ortvalue_input(name, value)
        else:
            binding.bind_cpu_input(name, value)
    for name in outputs:
        binding.bind_output(name, device(session), 0)
    session.run_with_iobinding(binding)
    binding.clear_binding_inputs()  # the outputs keep the binding
    return list(binding.get_outputs())
