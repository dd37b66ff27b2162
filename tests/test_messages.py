"""Messages that name a command: each is followed, and the command works."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

DIGITS = ROOT / "tests" / "data" / "parakeet-digits"
CLIP = DIGITS / "clips" / "two-digits.flac"
TRAIN = ROOT / "samples" / "train.flac"

FOLLOWED = {
    "stt config": "config",
    "stt config set auto_int8 true": "config set auto_int8 true",
    "stt config set models_dir DIR": "config set models_dir elsewhere",
    "stt config set {} VALUE": "config set precision fp32",
    "stt models": "models",
    "stt setup starter": "setup starter",
    "stt setup starter --precision {}": "setup starter --precision fp16",
    "stt setup MODEL": "setup digits",
    "stt setup MODEL --check": "setup digits --check",
    "stt setup --check --quick": "setup digits --check --quick",
    "stt setup {}": "setup digits",
    "stt setup {} --from DIR": f"setup digits --from {DIGITS}",
    "stt setup {} --from DIR --keep-fp32": f"setup digits --from {DIGITS} --keep-fp32",
    "stt transcribe": f"transcribe {TRAIN}",
    "stt transcribe --help": "transcribe --help",
    "stt transcribe FILE": f"transcribe {TRAIN}",
    "stt transcribe {}": f"transcribe {TRAIN.parent}",
}
"""Command as a message has it, {} for what is filled in -> the command to try."""
ELSEWHERE = {
    "stt setup": "test_setup_full_size.py: fetches 2.5 GB",
    "stt setup --from DIR": "test_setup_full_size.py: needs the files of Parakeet",
    "stt devices": "test_devices_command.py: needs a sound card",
    "stt live": "test_live_command.py: needs a microphone",
    "stt transcribe - < FILE": "test_inputs.py: reads standard input",
}
"""Command -> where it is followed, and why not here."""


def named() -> set[str]:
    """Every command in backquotes in a message of the program; docstrings are none."""
    found = set()
    for path in (ROOT / "src" / "stt").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        nodes = list(ast.walk(tree))
        passed = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        passed |= {id(part) for node in joined for part in node.values}
        texts = [
            "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
            for node in joined
            if id(node) not in passed
        ]
        texts += [
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in passed
        ]
        found |= {command for text in texts for command in re.findall(r"`(stt [^`]*)`", text)}
    return found


def test_every_command_that_a_message_names_is_in_the_table() -> None:
    assert named() - set(FOLLOWED) - set(ELSEWHERE) == set()


class Machine:
    """A user with a home and a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.here = folder / "here"
        self.here.mkdir()
        home = folder / "home"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STT_", "XDG_"))}
        self._environment = kept | {"HOME": str(home), "STT_MODELS_DIR": str(folder / "models")}
        self._environment |= {"HF_HUB_OFFLINE": "1", "USERPROFILE": str(home)}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `stt` with arguments, or a script of the repository."""
        command = ["-m", "stt", *map(str, arguments)]
        if str(arguments[0]).startswith("scripts/"):
            command = [str(ROOT / str(arguments[0])), *map(str, arguments[1:])]
        return subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.here,
            env=self._environment,
            timeout=900,
        )

    def follow(self, said: str, contains: str) -> subprocess.CompletedProcess[str]:
        """Run the command in backquotes that a message names, as it is written."""
        (command,) = {c for c in re.findall(r"`([^`]*)`", said) if contains in c}
        words = shlex.split(command)
        return self.run(*(words[1:] if words[0] == "stt" else words))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def copy_of_digits(folder: Path) -> Path:
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips", "README.md"))
    return folder


@pytest.mark.e2e
@pytest.mark.slow
def test_fp16_that_is_not_there_says_how_to_get_it(machine: Machine, tmp_path: Path) -> None:
    model = copy_of_digits(tmp_path / "my models" / "digits")
    done = machine.run("transcribe", "-m", model, "-p", "fp16", CLIP)
    assert done.returncode == 0
    made = machine.follow(done.stderr, "--precision fp16")
    assert made.returncode == 0, made.stderr
    done = machine.run("transcribe", "-m", "digits", "-p", "fp16", CLIP)
    assert "model digits, precision fp16, provider cpu (asked for by name)" in done.stderr


@pytest.mark.e2e
def test_the_scripts_lead_to_a_whole_conversion(machine: Machine, tmp_path: Path) -> None:
    model = copy_of_digits(tmp_path / "digits")
    done = machine.run("scripts/fix_fp16_casts.py", "--input-dir", model)
    assert done.returncode == 1
    made = machine.follow(done.stderr, "scripts/")
    assert made.returncode == 0, made.stderr
    assert machine.run("scripts/fix_fp16_casts.py", "--input-dir", model).returncode == 0
    (model / "decoder_joint-model.onnx").write_bytes(b"no model")
    for path in model.glob("*.fp16.onnx"):
        path.unlink()
    assert machine.run("scripts/convert_to_fp16.py", "--input-dir", model).returncode == 1
    assert not list(model.glob("*.fp16.onnx"))  # not the half of it either


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_command_works(machine: Machine, tmp_path: Path) -> None:
    model = copy_of_digits(tmp_path / "digits")
    assert machine.run("setup", model, "--precision", "fp32").returncode == 0
    for template, command in FOLLOWED.items():
        done = machine.run(*shlex.split(command))
        assert done.returncode == 0, f"{template}: {done.stderr}"


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_starters_precision_is_what_the_settings_say(machine: Machine) -> None:
    """From the first transcript to fp16 and int8 of what is at hand, and back."""
    first = machine.run("transcribe", "-m", "starter", "-p", "int8", TRAIN)
    assert first.returncode == 0, first.stderr
    assert "precision fp32, provider cpu (int8 was asked for, but: no int8 files (" in first.stderr
    made = machine.follow(first.stderr, "--precision int8")
    assert made.returncode == 0, made.stderr
    made = machine.run("setup", "starter", "--precision", "fp16,int8")
    assert made.returncode == 0, made.stderr
    assert "auto takes fp32 on cpu: fp16 passed over: " in made.stdout
    assert "fp32 " in made.stdout
    assert "FILE` takes this model" in made.stdout
    assert max(map(len, made.stdout.split("installed in")[0].splitlines())) <= 80
    quick = machine.run("setup", "starter", "--check", "--quick")
    assert quick.returncode == 0, quick.stderr
    assert "files and one clip: about " in quick.stderr
    assert "fp32 on cpu heard: " in quick.stdout
    assert "proving" not in quick.stderr
    for precision in ("fp16", "int8", "fp32"):
        assert machine.run("config", "set", "precision", precision).returncode == 0
        done = machine.run("transcribe", "-m", "starter", TRAIN)
        assert done.returncode == 0, done.stderr
        said = f"model starter, precision {precision}, provider cpu (asked for by name)"
        assert said in done.stderr
        assert "train to Bristol" in done.stdout
    checked = machine.run("setup", "starter", "--check")
    assert checked.returncode == 0, checked.stderr
    assert "proving fp16 and int8 again: about " in checked.stderr
