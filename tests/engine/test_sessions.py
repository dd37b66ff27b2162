"""Which providers are tried, and what is said when one cannot be had."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stt.engine import sessions
from stt.errors import ProviderError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("requested", "available", "tried"),
    [
        ("auto", [CPU], ["cpu"]),
        ("auto", [CUDA, CPU], ["cuda", "cpu"]),
        ("auto", ["TensorrtExecutionProvider", CUDA, CPU], ["cuda", "cpu"]),
        ("auto", ["AzureExecutionProvider", CPU], ["cpu"]),
        ("cpu", [CUDA, CPU], ["cpu"]),
        ("cuda", [CUDA, CPU], ["cuda"]),
    ],
)
def test_to_try(requested: str, available: list[str], tried: list[str]) -> None:
    assert sessions.to_try(requested, available) == tried


def test_a_named_provider_that_is_not_built_in_is_an_error_with_cause_and_cure() -> None:
    with pytest.raises(ProviderError, match=r"cuda is not in .* \(it has cpu\).*extra `gpu`"):
        sessions.to_try("cuda", [CPU])


def test_a_listed_provider_that_does_not_run_is_an_error_with_cause_and_cure() -> None:
    assert "ran on cpu" in str(sessions.not_running("cuda", "cpu"))
    assert "choose provider cpu" in str(sessions.not_running("cuda", "cpu"))


def test_every_provider_has_the_cpu_as_helper() -> None:
    for name in sessions.PROVIDERS:
        assert sessions.session_providers(name)[-1] == CPU


def test_libraries_of_cuda_are_looked_for_only_where_they_are_of_use() -> None:
    asked: list[str] = []
    for available in (["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]):
        runtime = SimpleNamespace(
            get_available_providers=lambda available=available: available,
            preload_dlls=lambda available=available: asked.append(available[0]),
        )
        sessions.preload(runtime)
    assert asked == ["CUDAExecutionProvider"]
    sessions.preload(SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"]))
