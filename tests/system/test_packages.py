"""A package that is not installed is one line with the way to install it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stt.errors import UsageError
from stt.system.packages import CURES, require
from support.paths import ROOT

CLIP = str(ROOT / "tests/data/parakeet-digits/clips/two-digits.flac")
DIGITS = str(ROOT / "tests/data/parakeet-digits")

# each command in one process that has never had the packages
HIDDEN = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from stt.cli import main
for line in sys.argv[2].split(";"):
    sys.stderr.write(f"{main(line.split('|'))} <- {line}\\n")
"""


def run(hidden: str, *commands: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, hidden, ";".join(commands)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_every_command_names_the_extra_of_onnxruntime(tmp_path: Path) -> None:
    commands = (
        f"transcribe|{CLIP}",
        f"transcribe|-m|{DIGITS}|{CLIP}",
        f"setup|{DIGITS}",
        "setup|starter|--force",
        f"bench|-m|{DIGITS}",
    )
    (tmp_path / "stt_config.json").write_text('{"models_dir": "models"}')
    lines = run("onnxruntime", *commands, folder=tmp_path)
    for command in commands:
        told = lines[lines.index(f"2 <- {command}") - 1]
        assert told.startswith("stt: ")
        assert "needs the package onnxruntime; `pip install 'stt-parakeet[cpu]'`" in told, command
    assert not any("internal error" in line for line in lines)


def test_the_other_extras(tmp_path: Path) -> None:
    commands = ("live", "devices", f"transcribe|--ray||-o|out|-m|{DIGITS}|{CLIP}")
    lines = run("sounddevice,ray", *commands, folder=tmp_path)
    told = [lines[number - 1] for number, line in enumerate(lines) if " <- " in line]
    assert "sounddevice" in told[0] and "`mic`" in told[0]
    assert "sounddevice" in told[1] and "`mic`" in told[1]
    assert "stt-parakeet[ray]" in told[2]
    assert not any("internal error" in line for line in lines)


@pytest.mark.parametrize("module", sorted({*CURES, "av", "soxr", "huggingface_hub"}))
def test_one_that_is_met_by_surprise_is_one_line_too(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stt import cli

    def lacking(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}.part'", name=f"{module}.part")

    monkeypatch.setattr(cli.stt, "main", lacking)
    assert cli.main([]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert module.replace("_", "-") in told
    assert "pip install" in told


def test_half_of_onnxruntime_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="not both"):
        require("only_a_folder", "running a model")
