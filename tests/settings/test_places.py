"""A model is set up in one folder and used from three others, as a user of a clone does it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stt.install.observation import bundled_clips
from support.paths import ROOT, TESTS

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]
DIGITS = ROOT / "tests" / "data" / "parakeet-digits"
CLIP = DIGITS / "clips" / "four-digits.flac"
PROJECTS = {
    "plain": None,
    "configured": '{"formats": ["txt"]}',
    "with-models-of-its-own": '{"models_dir": "mine"}',
}
"""Folder -> its settings file."""


class Machine:
    """A home, a clone of this repository, and folders to work in."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.clone = root, root / "home", root / "clone"
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src", self.clone / "src", ignore=unwanted)
        for name in ("pyproject.toml", "stt_config.json"):
            shutil.copy(ROOT / name, self.clone)
        self.home.mkdir()
        for name, settings in PROJECTS.items():
            (root / name).mkdir()
            if settings:
                (root / name / "stt_config.json").write_text(settings)
        stick = root / "stick" / "parakeet"
        shutil.copytree(DIGITS, stick, ignore=shutil.ignore_patterns("clips", "README.md"))
        self.stick = str(stick)

    def run(self, folder: str, *arguments: str, fails: bool = False) -> str:
        """Run `stt` of the clone in a folder; what it prints."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STT_", "XDG_"))}
        paths = [str(self.clone / "src"), str(TESTS / "support" / "sound_card")]
        changed = {
            "HOME": str(self.home),
            "USERPROFILE": str(self.home),
            "LOCALAPPDATA": str(self.home),
            "PYTHONPATH": os.pathsep.join(paths),
            "FAKE_MICROPHONE": str(CLIP),
        }
        done = subprocess.run(
            [sys.executable, "-m", "stt", *arguments],
            cwd=self.root / folder,
            env=kept | changed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def data(self) -> Path:
        """The user's data folder of models, as `stt config` names it."""
        places = json.loads(self.run("plain", "config", "--json"))["models"]
        return Path(places[-1])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def text_of_clip() -> str:
    return next(clip.text for clip in bundled_clips(DIGITS / "clips") if clip.name == CLIP.name)


@pytest.mark.parametrize("where", ["clone", "configured"])
def test_set_up_in_one_folder_everything_else_in_others(machine: Machine, where: str) -> None:
    message = machine.run(where, "setup", machine.stick, "--precision", "fp32")
    models = machine.clone / "models" if where == "clone" else machine.data()
    assert f"installed in {models / 'parakeet'}, found from every folder" in message
    assert (models / "parakeet" / "manifest.json").is_file()
    shutil.rmtree(machine.stick)
    audio = machine.root / "audio"
    audio.mkdir()
    shutil.copy(CLIP, audio)
    for folder in PROJECTS:
        heard = machine.run(folder, "transcribe", str(CLIP))
        assert text_of_clip() in heard
        assert "model parakeet," in heard, "and not the starter"
        spoken = machine.run(folder, "live", "--plain", "--duration", "4")
        assert "model parakeet," in spoken
        assert text_of_clip() in spoken
        assert "every file is as it was installed" in machine.run(folder, "setup", "--check")
        assert str(models) in machine.run(folder, "config")
        listed = machine.run(folder, "models")
        assert str(models) in listed
        assert [line.split()[:2] for line in listed.splitlines() if line.startswith("parakeet ")]
        table = machine.run(folder, "bench", "-m", "parakeet", "--audio", str(audio))
        assert "(parakeet, fp32)" in table
    assert not (machine.root / "with-models-of-its-own" / "mine").exists()
    machine.run("plain", "setup", "--offline", "--check")
    machine.run("with-models-of-its-own", "models", "remove", "parakeet", "--yes")
    assert not (models / "parakeet").exists()


def test_the_starter_is_prepared_once(machine: Machine) -> None:
    train = str(ROOT / "samples" / "train.flac")
    assert "less accurate than Parakeet" in machine.run("plain", "transcribe", train)
    starter = machine.data() / "starter"
    made = (starter / "manifest.json").stat().st_mtime_ns
    for folder in ("configured", "clone", "plain"):
        heard = machine.run(folder, "transcribe", train)
        assert "Bristol" in heard
        assert "less accurate than Parakeet" not in heard, "it introduces itself once"
        assert "stt: starter model" in heard
    assert (starter / "manifest.json").stat().st_mtime_ns == made
    assert not list(machine.root.glob("[!h]*/models/starter"))
