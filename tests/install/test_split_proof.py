"""Set-up takes the decoder_joint apart, proves that, repairs it, leaves it whole where it must."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stt.convert.model_file import read, write
from stt.engine.manifest import Manifest
from stt.engine.sessions import Runtime
from stt.install import artifacts
from stt.install.installation import Events
from stt.install.observation import Clip, bundled_clips
from stt.install.prover import check
from stt.install.setup import SetupOptions, set_up
from stt.install.source import find_source
from stt.models import FAMILIES, inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.models.transducer import TdtRecognizer
from stt.settings.places import Places
from support.paths import DIGITS

PARTS = FAMILIES["nemo-conformer-tdt"].parts("fp32")


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def clips() -> tuple[Clip, ...]:
    return bundled_clips(DIGITS / "clips")[:4]


def install(tmp_path: Path, clips: tuple[Clip, ...]) -> tuple[Path, list[str]]:
    """Set the digits model up in FP32 alone; returns its folder and what was said."""
    origin, notes = tmp_path / "stick" / "digits", []
    if not origin.exists():
        shutil.copytree(DIGITS, origin, ignore=shutil.ignore_patterns("clips", "README.md"))
    events = Events(lambda stage, done, total: None, notes.append)
    source = find_source(str(origin), None, Places.only(Path("models")))
    return set_up(source, tmp_path / "models", SetupOptions(precisions=()), events, clips), notes


def test_parts_are_made_proven_and_used(tmp_path: Path, clips: tuple[Clip, ...]) -> None:
    folder, notes = install(tmp_path, clips)
    assert any("in parts" in note for note in notes)
    entry = Manifest.read(folder).splits["fp32"]
    assert entry["proven"]
    figures = {found["name"]: found["figure"] for found in entry["checks"]}
    assert figures["logits in parts"] < 1e-5
    found = inspect(folder)
    assert found.split == {"fp32"}
    whole, parts = (
        TdtRecognizer(load_tdt(inspect(DIGITS), "fp32", Runtime("cpu", 1))),
        load_tdt(found.as_published, "fp32", Runtime("cpu", 1)),
    )
    assert parts.split is not None
    samples = [clip.samples for clip in clips]
    assert TdtRecognizer(parts).recognize(samples) == whole.recognize(samples)
    assert check(folder, Events(lambda *_: None, notes.append), clips) == []


def test_parts_decode_where_they_are_better_which_int8_is_not(in_fp32: Path) -> None:
    folder = in_fp32
    manifest = Manifest.read(folder)
    for precision in ("int8", "fp16"):
        manifest.splits[precision] = manifest.splits["fp32"]
        for name, other in zip(PARTS, FAMILIES["nemo-conformer-tdt"].parts(precision), strict=True):
            shutil.copy(folder / name, folder / other)
            manifest.files[other] = manifest.files[name]
    manifest.save(folder)
    assert inspect(folder).split == {"fp32", "fp16"}


def test_parts_are_not_made_again_and_a_damaged_one_is(
    in_fp32: Path, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder = in_fp32
    before = {name: (folder / name).stat().st_mtime_ns for name in PARTS}
    install(tmp_path, clips)
    assert {name: (folder / name).stat().st_mtime_ns for name in PARTS} == before
    (folder / PARTS[2]).write_bytes(b"cut short")
    assert inspect(folder).split == frozenset()
    install(tmp_path, clips)
    assert inspect(folder).split == {"fp32"}


def test_parts_that_say_otherwise_are_removed(
    tmp_path: Path, clips: tuple[Clip, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = artifacts.split_file

    def spoilt(source: Path, targets: list[Path], report: object) -> None:
        real(source, targets)
        file = read(targets[2])
        weights = dict(file.weights)
        for name, weight in weights.items():
            values = np.roll(weight.load(), 1, axis=-1)
            weights[name] = type(weight)(
                name, weight.elem_type, weight.shape, weight.nbytes, lambda values=values: values
            )
        write(targets[2], file.model, weights.values())

    monkeypatch.setattr(artifacts, "split_file", spoilt)
    folder, notes = install(tmp_path, clips)
    assert any("decodes whole" in note and "logits differ" in note for note in notes)
    assert not Manifest.read(folder).splits["fp32"]["proven"]
    assert not any((folder / name).exists() for name in PARTS)
    assert load_tdt(inspect(folder), "fp32", Runtime("cpu", 1)).split is None
