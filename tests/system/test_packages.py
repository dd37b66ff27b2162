"""A package that is not installed is one line with the way to install it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stt.errors import UsageError
from stt.system.packages import CURES, require
from support.paths import DIGITS

CLIP = DIGITS / "clips/two-digits.flac"
RUNTIME = ("needs the package onnxruntime; `pip install 'stt-parakeet[cpu]'`",)

# each command in one process that has never had the packages
HIDDEN = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from stt.cli import main
for line in sys.argv[2].split(";"):
    sys.stderr.write(f"{main(line.split('|'))} <- {line}\\n")
"""


def test_every_command_names_the_extra_that_it_needs(tmp_path: Path) -> None:
    commands = {
        f"transcribe|{CLIP}": RUNTIME,
        f"transcribe|-m|{DIGITS}|{CLIP}": RUNTIME,
        f"setup|{DIGITS}": RUNTIME,
        "setup|starter|--force": RUNTIME,
        f"bench|-m|{DIGITS}": RUNTIME,
        "live": ("sounddevice", "`mic`"),
        "devices": ("sounddevice", "`mic`"),
        f"transcribe|--ray||-o|out|-m|{DIGITS}|{CLIP}": ("stt-parakeet[ray]",),
    }
    (tmp_path / "stt_config.json").write_text('{"models_dir": "models"}')
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, "onnxruntime,sounddevice,ray", ";".join(commands)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    lines = done.stderr.splitlines()
    for command, parts in commands.items():
        code = 1 if command in ("live", "devices") else 2
        message = lines[lines.index(f"{code} <- {command}") - 1]
        assert message.startswith("stt: ")
        assert all(part in message for part in parts), command


@pytest.mark.parametrize("module", sorted({*CURES, "av", "soxr", "huggingface_hub"}))
def test_one_that_is_met_by_surprise_is_one_line_too(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stt import cli

    def lacking(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}.part'", name=f"{module}.part")

    monkeypatch.setattr(cli.stt, "main", lacking)
    assert cli.main([]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert module.replace("_", "-") in message
    assert "pip install" in message


def test_half_of_onnxruntime_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="not both"):
        require("only_a_folder", "running a model")
