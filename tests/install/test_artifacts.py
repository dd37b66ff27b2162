"""What set-up makes of FP32 beside precisions: its decoder in parts, and its tighter form."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stt.convert.model_file import read, write
from stt.engine.sessions import Runtime
from stt.install import artifacts
from stt.models import FAMILIES, inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.models.transducer import TdtRecognizer
from support.paths import DIGITS
from support.place import CLIPS, Place

FAMILY = FAMILIES["nemo-conformer-tdt"]
PARTS = FAMILY.parts("fp32")
ONE = Runtime("cpu", 1)

pytestmark = pytest.mark.usefixtures("quick")


def test_both_are_made_once_proven_and_used(new: Place) -> None:
    new.set_up()
    assert new.said("in parts")
    assert new.said("written tighter for the CPU")
    assert new.graph().name == "encoder-model.tuned.onnx"
    tuned, parts = new.manifest.tuned, new.manifest.splits["fp32"]
    assert tuned["proven"]
    assert parts["proven"]
    assert {"lengths", "encoder error", "tokens"} <= {c["name"] for c in tuned["checks"]}
    figures = {found["name"]: found["figure"] for found in parts["checks"]}
    assert figures["logits in parts"] < 1e-5
    assert new.check() == []
    model = inspect(new.folder)
    assert model.split == {"fp32"}
    fast, plain = (load_tdt(m, "fp32", ONE) for m in (model, model.as_published))
    samples = [clip.samples for clip in CLIPS[:4]]
    np.testing.assert_allclose(fast.encode(samples[0]), plain.encode(samples[0]), atol=2e-4)
    assert plain.split is not None
    whole = TdtRecognizer(load_tdt(inspect(DIGITS), "fp32", ONE))
    assert TdtRecognizer(plain).recognize(samples) == whole.recognize(samples)
    new.set_up()
    assert not new.said("tighter")


def test_parts_decode_where_they_are_better_which_int8_is_not(in_fp32: Place) -> None:
    folder, manifest = in_fp32.folder, in_fp32.manifest
    for precision in ("int8", "fp16"):
        manifest.splits[precision] = manifest.splits["fp32"]
        for name, other in zip(PARTS, FAMILY.parts(precision), strict=True):
            shutil.copy(folder / name, folder / other)
            manifest.files[other] = manifest.files[name]
    manifest.save(folder)
    assert inspect(folder).split == {"fp32", "fp16"}


@pytest.mark.usefixtures("trusting")
def test_parts_are_not_made_again_and_a_damaged_one_is(in_fp32: Place) -> None:
    folder = in_fp32.folder
    before = {name: (folder / name).stat().st_mtime_ns for name in PARTS}
    in_fp32.set_up()
    assert {name: (folder / name).stat().st_mtime_ns for name in PARTS} == before
    (folder / PARTS[2]).write_bytes(b"cut short")
    assert inspect(folder).split == frozenset()
    in_fp32.set_up()
    assert inspect(folder).split == {"fp32"}


@pytest.mark.usefixtures("trusting")
def test_a_damaged_tighter_one_is_named_and_made_again(in_fp32: Place) -> None:
    path = in_fp32.folder / "encoder-model.tuned.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert in_fp32.graph().name == "encoder-model.onnx"  # meanwhile FP32 itself runs
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert in_fp32.check() == ["encoder-model.tuned.onnx is damaged"]
    in_fp32.set_up()
    assert path.read_bytes() == whole


def test_those_that_say_otherwise_are_removed(
    in_fp32: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune, split_file = artifacts.tune, artifacts.split_file

    def wrong(source: Path, target: Path) -> int:
        layers = tune(source, target)
        content = target.read_bytes()
        target.write_bytes(content[:-4000] + bytes(4000))
        return layers

    def spoilt(source: Path, targets: list[Path], report: object) -> None:
        split_file(source, targets)
        file = read(targets[2])
        weights = dict(file.weights)
        for name, weight in weights.items():
            values = np.roll(weight.load(), 1, axis=-1)
            weights[name] = type(weight)(
                name, weight.elem_type, weight.shape, weight.nbytes, lambda values=values: values
            )
        write(targets[2], file.model, weights.values())

    monkeypatch.setattr(artifacts, "tune", wrong)
    monkeypatch.setattr(artifacts, "split_file", spoilt)
    in_fp32.set_up(force=True)
    assert in_fp32.said("fp32 written tighter: failed its proof (encoder error", "stays as it is")
    assert in_fp32.said("decodes whole", "logits differ")
    assert not list(in_fp32.folder.glob("*tuned*"))
    assert in_fp32.graph().name == "encoder-model.onnx"
    assert not in_fp32.manifest.tuned["proven"]
    assert not in_fp32.manifest.splits["fp32"]["proven"]
    assert not in_fp32.names & set(PARTS)
    assert load_tdt(inspect(in_fp32.folder), "fp32", ONE).split is None
    in_fp32.set_up()
    assert not in_fp32.said("stays as it is")  # not tried again
