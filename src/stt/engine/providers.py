"""Execution providers by short name: which to try, and which one really runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stt.errors import ProviderError

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
