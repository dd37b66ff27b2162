"""packaging/: linted, and what it types is typed here, as far as it can be without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import click
import pytest

from stt.cli import stt
from stt.settings.loading import OTHER_VARIABLES
from stt.settings.schema import KEYS
from support.paths import ROOT

DOCKERFILE = ROOT / "packaging" / "Dockerfile"
UNIT = ROOT / "packaging" / "stt-serve.service"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: (INSTRUCTION, rest)."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def unit(name: str) -> list[str]:
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), flags=re.MULTILINE)
    assert found
    return found


def parses(words: list[str]) -> None:
    """The command line takes these words."""
    name, *rest = words
    command = stt.commands[name]
    command.make_context(name, rest, parent=click.Context(stt), resilient_parsing=False)


def test_hadolint_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is missing: pip install --group test (Linux)")
    subprocess.run([linter, DOCKERFILE], check=True, timeout=60)


def test_what_is_copied_is_there_and_let_through() -> None:
    shown = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line[0] == "!"
    }
    for rest in of("COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert source in shown


def test_extras_variables_and_commands_are_the_programs_own() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (installs,) = (rest for rest in of("RUN") if "pip install" in rest)
    assert '".[${EXTRA},serve]"' in installs
    built = re.findall(r"EXTRA=(\w+)", DOCKERFILE.read_text("utf-8"))
    assert set(built) == {"cpu", "gpu"}
    assert {"cpu", "gpu", "serve"} <= set(project["optional-dependencies"])
    texts = (*of("ENV"), *unit("Environment"), UNIT.read_text("utf-8"))
    known = {f"STT_{key.upper()}" for key in KEYS} | OTHER_VARIABLES
    assert set(re.findall(r"\bSTT_[A-Z_]+", " ".join(texts))) <= known
    assert json.loads(of("ENTRYPOINT")[0]) == ["stt"]
    parses(json.loads(of("CMD")[0]))
    for line in unit("ExecStart"):
        program, *words = shlex.split(line)
        assert program.endswith("/bin/stt")
        parses(words)


def test_no_image_has_a_registrys_host() -> None:
    assert all("." not in image.split("/")[0].split(":")[0] for image in of("FROM"))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd-analyze is missing")
    program = Path(sys.executable).with_name("stt")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/stt/bin/stt", str(program)), "utf-8")
    command = [verifier, "verify", copy]  # it complains of other units too
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    ours = [line for line in found.stderr.splitlines() if UNIT.name in line]
    assert not ours


@pytest.mark.slow
@pytest.mark.e2e
def test_what_the_dockerfile_does_gives_a_server(tmp_path: Path) -> None:
    """In a fresh environment, from the files that it copies alone, with its variables."""
    source, home = tmp_path / "src", tmp_path / "data"
    home.mkdir()
    for rest in of("COPY"):
        *names, _ = rest.split()
        for name in names:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, target)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", ".[cpu,serve]"]
    subprocess.run(install, cwd=source, check=True, timeout=600)
    variables = dict(
        pair.replace("/data", str(home)).split("=", 1)
        for rest in of("ENV")
        for pair in rest.split()
    )
    variables |= {"PATH": os.environ["PATH"], "HOME": str(home), "STT_HOST": "127.0.0.1"}
    command = [environment / "bin" / "stt", *json.loads(of("CMD")[0]), "--port", "0"]
    server = subprocess.Popen(command, env=variables, cwd=home, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        url = next(w for line in server.stderr for w in line.split() if w.startswith("http://"))
        with urllib.request.urlopen(f"{url.rstrip(';')}/health", timeout=60) as answer:
            assert json.load(answer)["status"] == "ok"
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0
