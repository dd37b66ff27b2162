"""Shared: where recordings lie, and speech as samples."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import settings

from support.command import Run
from support.paths import ROOT

# No test is timed; and where a change is judged, the same examples judge it each time.
settings.register_profile("stt", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("stt")


def pytest_configure(config: pytest.Config) -> None:
    """Leave slow tests out unless `-m` names them: of `-m "not e2e"` too."""
    asked = config.option.markexpr
    if "slow" not in asked:
        config.option.markexpr = f"({asked}) and not slow" if asked else "not slow"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The recordings that come with the project."""
    return ROOT / "samples"


@pytest.fixture
def stt_run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; returns exit code, stdout and stderr."""
    from stt.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No STT_* variable of whoever runs the tests."""
    for name in [name for name in os.environ if name.upper().startswith(("STT_", "_STT"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def speech(samples_dir: Path) -> npt.NDArray[np.float32]:
    """About 10 s of speech at 16 kHz, float32 [n]."""
    import soxr

    values, rate = soundfile.read(samples_dir / "weather.flac", dtype="float32")
    return np.asarray(soxr.resample(values, rate, 16_000), np.float32)
