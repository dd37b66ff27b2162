"""The digits model, set up once for all tests; each works on a copy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from stt.install.proof import Check, Verdict
from stt.install.prover import Prover
from support.place import Place, make_quick

PROVEN = Verdict((Check("encoder error", passed=True, message="", figure=0.0, bound=1.0),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing and prove on short audio."""
    make_quick(monkeypatch)


@pytest.fixture
def trusting_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call all but precisions proven, where their proof is not what a test is about."""
    monkeypatch.setattr(Prover, "parts", lambda self, precision: PROVEN)
    monkeypatch.setattr(Prover, "for_cuda", lambda self, precision: PROVEN)
    monkeypatch.setattr(Prover, "tuned", lambda self: PROVEN)


@pytest.fixture
def trusting(trusting_forms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of every artifact."""
    monkeypatch.setattr(Prover, "precision", lambda self, precision: PROVEN)


def installed(root: Path, *precisions: str, made: Path | None = None) -> Path:
    """Set the digits model up, quickly; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return Place(root, made).set_up(*precisions).folder


@pytest.fixture(scope="session")
def made_fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="session")
def made_fp16(tmp_path_factory: pytest.TempPathFactory, made_fp32: Path) -> Path:
    return installed(tmp_path_factory.mktemp("fp16"), "fp16", made=made_fp32)


@pytest.fixture(scope="session")
def made_all(tmp_path_factory: pytest.TempPathFactory, made_fp16: Path) -> Path:
    return installed(tmp_path_factory.mktemp("all"), "fp16", "int8", made=made_fp16)


@pytest.fixture
def new(tmp_path: Path) -> Place:
    """Nothing is installed yet."""
    return Place(tmp_path)


@pytest.fixture
def in_fp32(made_fp32: Path, tmp_path: Path) -> Place:
    """Installed in FP32, with its decoder in parts and written tighter."""
    return Place(tmp_path, made_fp32)


@pytest.fixture
def in_fp16(made_fp16: Path, tmp_path: Path) -> Place:
    """The same with FP16."""
    return Place(tmp_path, made_fp16)


@pytest.fixture
def in_all(made_all: Path, tmp_path: Path) -> Place:
    """The same with FP16 and INT8."""
    return Place(tmp_path, made_all)
