"""The digits model, installed once for all tests of set-up; each works on a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stt.engine.manifest import Manifest
from stt.install import artifacts
from stt.install.installation import Events, Installation
from stt.install.observation import Clip
from stt.install.proof import Check, Verdict
from stt.install.prover import Prover
from stt.install.setup import SetupOptions, set_up
from stt.install.source import Source, find_source
from stt.settings.places import Places
from support.paths import DIGITS
from support.place import CLIPS, make_quick

ALL = SetupOptions(("fp16", "int8"))
PROVEN = Verdict((Check("encoder error", passed=True, message="", figure=0.0, bound=1.0),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing and prove on short audio."""
    make_quick(monkeypatch)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call every artifact proven, where its proof is not what a test is about."""
    monkeypatch.setattr(Prover, "precision", lambda self, precision: PROVEN)
    monkeypatch.setattr(Prover, "parts", lambda self, precision: PROVEN)
    monkeypatch.setattr(Prover, "tuned", lambda self: PROVEN)


@pytest.fixture
def trusting_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of parts and FP32 written tighter alone."""
    monkeypatch.setattr(Prover, "parts", lambda self, precision: PROVEN)
    monkeypatch.setattr(Prover, "tuned", lambda self: PROVEN)


@pytest.fixture(scope="session")
def clips() -> tuple[Clip, ...]:
    return CLIPS


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A copy of the digits model, to be imported."""
    return stick(tmp_path)


def stick(root: Path) -> Source:
    folder = root / "stick" / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips", "README.md"))
    return find_source(str(folder), None, Places.only(Path("models")))


def installed(root: Path, options: SetupOptions) -> Path:
    """Set the digits model up, quickly, as a processor that needs no unsigned weights does."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        patch.setattr(artifacts, "cpu_saturates", lambda: False)
        events = Events(lambda *_: None, lambda _: None)
        return set_up(stick(root), root / "models", options, events, CLIPS)


@pytest.fixture(scope="session")
def made_fp16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `stt setup` leaves, FP16 and all; nobody changes it."""
    return installed(tmp_path_factory.mktemp("fp16"), SetupOptions())


@pytest.fixture(scope="session")
def made_all(tmp_path_factory: pytest.TempPathFactory, made_fp16: Path) -> Path:
    """The same with INT8."""
    root = tmp_path_factory.mktemp("all")
    shutil.copytree(made_fp16, root / "models" / "digits")
    return installed(root, ALL)


def copy(made: Path, root: Path) -> Path:
    """Return the installed model as if `root`'s stick were what it came from."""
    folder = shutil.copytree(made, root / "models" / "digits")
    manifest = Manifest.read(folder)
    manifest.source = str(root / "stick" / "digits")
    manifest.save(folder)
    return folder


@pytest.fixture
def in_fp16(made_fp16: Path, source: Source, tmp_path: Path) -> Path:
    """Installed from `source` in `tmp_path / "models"`, with FP16."""
    return copy(made_fp16, tmp_path)


@pytest.fixture
def in_all(made_all: Path, source: Source, tmp_path: Path) -> Path:
    """The same with FP16 and INT8."""
    return copy(made_all, tmp_path)


@pytest.fixture
def in_fp32(in_fp16: Path) -> Path:
    """The same in FP32 alone."""
    at = Installation(in_fp16, Events(lambda *_: None, lambda _: None))
    at.manifest.forget("precisions", "fp16", ())
    family = at.model.family
    at.delete([*family.graphs("fp16"), *family.parts("fp16")])
    at.save()
    return in_fp16
