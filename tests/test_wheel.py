"""The wheel and the source distribution, installed where nothing of the repository is near."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stt.cli import stt as command_line
from stt.install.observation import bundled_clips
from support.paths import ROOT, TESTS

DIGITS = ROOT / "tests" / "data" / "parakeet-digits"
README = (ROOT / "README.md").read_text("utf-8")

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]


def ran(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, check=False, **options
    )


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done = ran([sys.executable, "-m", "build", "--outdir", folder, ROOT])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def user(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    root = tmp_path_factory.mktemp("user")
    yield User(root, next(built.glob("*.whl")))
    shutil.rmtree(root, ignore_errors=True)  # half a gigabyte


class User:
    """Somebody with a home of their own, who installed the wheel and works in a folder."""

    def __init__(self, root: Path, wheel: Path) -> None:
        self.home, self.folder = root / "home", root / "anywhere"
        self.home.mkdir()
        self.folder.mkdir()
        environment = root / "environment"
        self.python = python_of(environment)
        for command in (
            [sys.executable, "-m", "venv", environment],
            [self.python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]"],
        ):
            # pip finds its cache by the home
            done = ran(command, env=self.environment() | {"HOME": os.environ.get("HOME", "")})
            assert done.returncode == 0, done.stderr
        self.stt = self.python.with_name("stt")

    def environment(self) -> dict[str, str]:
        ours = ("STT_", "XDG_", "PYTHON", "VIRTUAL_ENV", "HF_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return kept | {
            "HOME": str(self.home),
            "USERPROFILE": str(self.home),
            "LOCALAPPDATA": str(self.home),
            "FAKE_MICROPHONE": str(DIGITS / "clips" / "four-digits.flac"),
        }

    def run(self, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `stt`; it ends well and shows no traceback."""
        done = ran([self.stt, *arguments], cwd=self.folder, env=self.environment() | more)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        assert "Traceback" not in done.stderr
        return done


def test_the_wheel_holds_what_the_package_needs_and_nothing_twice(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    wanted = {
        str(path.relative_to(ROOT / "src").as_posix())
        for path in (ROOT / "src" / "stt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".LICENSE"
    }
    assert {name for name in names if name.startswith("stt/")} == wanted
    speech = [name for name in names if name.startswith("stt/install/speech/")]
    assert sum(sizes[name] for name in speech) < 1_000_000
    assert {name.partition("/")[0] for name in names} == {"stt", names[-1].partition("/")[0]}
    for field in ("Author", "License-Expression: MIT", "Summary", "Requires-Python: >=3.10"):
        assert field in metadata
    assert "Provides-Extra: cpu" in metadata


def test_the_source_distribution_is_whole(built: Path) -> None:
    """The wheel that is installed here was built from it, which is what `build` does."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "Makefile", "stt_config.json"} <= names
    assert {"src/stt/install/speech/story.ogg", "samples/story.flac", "tests/conftest.py"} <= names


def test_descriptions_and_wheel_are_clean(built: Path) -> None:
    files = sorted(built.iterdir())
    done = ran([sys.executable, "-m", "twine", "check", "--strict", *files])
    assert done.returncode == 0, done.stdout
    done = ran([sys.executable, "-m", "check_wheel_contents", *built.glob("*.whl")])
    assert done.returncode == 0, done.stdout


def test_every_command_has_help(user: User) -> None:
    assert user.run("--version").stdout.startswith("stt, version")
    for name in ("", *command_line.commands):
        assert "Usage: stt" in user.run(*name.split(), "--help").stdout


def test_it_transcribes_with_the_starter(user: User) -> None:
    done = user.run("transcribe", ROOT / "samples" / "train.flac")
    assert done.stdout.startswith("The evening train to Bristol"), "text and nothing else"
    assert "model starter, precision fp32, provider cpu" in done.stderr


def test_a_model_is_set_up_and_used(user: User) -> None:
    done = user.run("setup", DIGITS, "--precision", "fp32")
    line = next(line for line in done.stdout.splitlines() if line.startswith("installed in "))
    assert str(user.home) in line
    assert line.endswith("found from every folder")
    model = DIGITS.name
    assert model in user.run("models").stdout
    clip = next(c for c in bundled_clips(DIGITS / "clips") if c.name == "four-digits.flac")
    said = user.run("transcribe", "-m", model, DIGITS / "clips" / clip.name)
    assert said.stdout.strip() == clip.text
    table = user.run("bench", "-m", model).stdout  # on the speech that the package carries
    assert f"({model}, fp32)" in table
    fake = str(TESTS / "support" / "sound_card")
    spoken = user.run("live", "-m", model, "--plain", "--duration", "4", PYTHONPATH=fake)
    assert clip.text in spoken.stdout


def test_settings_are_changed(user: User) -> None:
    user.run("config", "set", "threads", "2")
    document = json.loads(user.run("config", "--json").stdout)
    assert document["settings"]["threads"]["value"] == 2
    assert str(user.home) in document["config"]
    user.run("config", "unset", "threads")


def test_the_example_of_the_readme_runs(user: User) -> None:
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    samples = user.folder / "samples"
    shutil.copytree(ROOT / "samples", samples)
    done = ran([user.python, "-c", example], cwd=user.folder, env=user.environment())
    assert done.returncode == 0, done.stderr
    assert "rain" in done.stdout.splitlines()[0]


def test_the_microphone_names_its_extra(user: User) -> None:
    done = ran([user.stt, "live"], cwd=user.folder, env=user.environment())
    assert done.returncode != 0
    assert "`mic`" in done.stderr
    assert done.stderr.count("\n") == 1
