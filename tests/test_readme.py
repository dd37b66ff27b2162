"""The README says what is true: its Python example runs, its commands and options exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stt.cli import stt as command_line
from support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_example_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    example, live_example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(live_example, "README.md", "exec")  # tests/live has a microphone to run the like on
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weather.srt").exists()
    first, used, *segments = done.stdout.splitlines()
    assert "rain" in first
    assert used.startswith(("starter fp32", "parakeet "))
    assert re.match(r"\d+\.\d\d \d+\.\d\d \w+", segments[0])


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"stt {name}" in README


@pytest.mark.parametrize("name", ["transcribe", "live", "setup", "bench"])
def test_every_option_is_in_the_readme(name: str) -> None:
    told = re.search(rf"```\n(stt {name} (?:PATH|\[).*?)```", README, re.DOTALL)
    assert told
    for parameter in command_line.commands[name].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert any(flag in told[1] for flag in parameter.opts), parameter.opts


def test_the_help_shows_each_command_whole() -> None:
    for name in ("", *command_line.commands):
        result = CliRunner().invoke(command_line, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert all(len(line) <= 100 for line in result.output.splitlines())


def test_files_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
