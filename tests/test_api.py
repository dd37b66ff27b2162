"""The public names, and that importing them costs nothing before they are used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import stt
from support.paths import ROOT


def test_all_is_the_namespace() -> None:
    """Both ways: what is listed is there, and what is there is listed."""
    public = {
        name
        for name, value in vars(stt).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public - {"annotations", "TYPE_CHECKING"} <= set(stt.__all__)
    assert sorted(dir(stt)) == sorted([*stt.__all__, "__version__"])
    assert all(getattr(stt, name) is not None for name in dir(stt))
    assert len(stt.__all__) <= 10


def test_a_transcriber_shows_what_runs_and_its_methods() -> None:
    shown = {name for name in dir(stt.Transcriber) if not name.startswith("_")}
    assert shown == {"model", "precision", "provider", "reason"} | {
        "hearing",
        "segments",
        "transcribe",
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(stt, "transcribed")


@pytest.mark.parametrize("module", ["stt", "stt.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = "{'numpy', 'onnxruntime', 'onnx', 'av', 'soundfile', 'sounddevice', 'pydantic'}"
    code = f"import sys, {module}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_page_of_the_interface_is_made_of_todays_docstrings() -> None:
    program = Path(sys.executable).with_name("griffe2md")
    if not program.exists():
        pytest.skip("needs the dependency group `docs`")
    done = subprocess.run([program, "stt"], cwd=ROOT, capture_output=True, text=True, check=True)
    made = re.sub(r"\[([^][]*)\]\(#[^)]*\)", r"\1", done.stdout)
    assert made == (ROOT / "docs" / "api.md").read_text("utf-8"), "run `make docs`"
