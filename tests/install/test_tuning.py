"""The tuned form of FP32 in an installation: made and proven once, used on the CPU, repaired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stt.engine.manifest import Manifest
from stt.engine.sessions import Runtime
from stt.install import artifacts
from stt.install.prover import check
from stt.install.setup import SetupOptions
from stt.models import inspect
from stt.models.onnx_asr_edge import load_tdt
from support.place import CLIPS, Place, make_quick

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return Place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    return Place(tmp_path, like=made)


def test_it_is_made_once_proven_and_used(place: Place) -> None:
    assert any("written tighter for the CPU" in note for note in place.notes)
    assert place.graph().name == "encoder-model.tuned.onnx"
    entry = Manifest.read(place.folder).tuned
    assert entry["proven"]
    assert {"lengths", "encoder error", "tokens"} <= {c["name"] for c in entry["checks"]}
    assert check(place.folder, place.events, CLIPS) == []
    model = inspect(place.folder)
    tuned, plain = (load_tdt(m, "fp32", Runtime("cpu", 1)) for m in (model, model.as_published))
    samples = CLIPS[0].samples
    np.testing.assert_allclose(tuned.encode(samples), plain.encode(samples), atol=2e-4)
    place.set_up()
    assert not any("tighter" in note for note in place.notes)


def test_a_damaged_one_is_named_and_made_again(place: Place) -> None:
    path = place.folder / "encoder-model.tuned.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert place.graph().name == "encoder-model.onnx"  # meanwhile FP32 itself runs
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert check(place.folder, place.events, CLIPS) == ["encoder-model.tuned.onnx is damaged"]
    place.set_up()
    assert path.read_bytes() == whole


def test_one_that_says_otherwise_is_removed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    tune = artifacts.tune

    def wrong(source: Path, target: Path) -> int:
        layers = tune(source, target)
        content = target.read_bytes()
        target.write_bytes(content[:-4000] + bytes(4000))
        return layers

    monkeypatch.setattr(artifacts, "tune", wrong)
    place.set_up(SetupOptions(precisions=(), force=True))
    assert any(
        note.startswith("fp32 written tighter: failed its proof (encoder error")
        and "stays as it is" in note
        for note in place.notes
    )
    assert not list(place.folder.glob("*tuned*"))
    assert place.graph().name == "encoder-model.onnx"
    assert not Manifest.read(place.folder).tuned["proven"]
    place.set_up()
    assert not any("stays as it is" in note for note in place.notes)  # not tried again


@pytest.mark.usefixtures("trusting")
def test_it_goes_with_fp32(place: Place) -> None:
    place.set_up(SetupOptions(keep_fp32=False))
    assert not list(place.folder.glob("*tuned*"))
    assert Manifest.read(place.folder).tuned == {}
