"""Packed copies: used on the machine they were made on alone; the same bits come out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt.engine import sessions
from stt.engine.folder import inspect, packed_folder
from stt.errors import ModelError
from stt.install import measure, packed
from stt.install.setup import Order
from stt.install.verify import check
from stt.models import onnx_asr_edge as onnx_asr_models
from stt.models.onnx_asr_edge import load_tdt
from stt.types import ReportProgress
from support.place import CLIPS, Place

ALWAYS = float("-inf")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def frames(place: Place) -> npt.NDArray[np.float32]:
    return load_tdt(inspect(place.folder), "fp32", "cpu", 1).encode(CLIPS[0].samples)


def test_the_same_bits_come_out_and_it_is_noted(place: Place) -> None:
    before = frames(place)
    assert place.graph().parent == place.folder
    speed = packed.pack(place.at(), "fp32", CLIPS, ALWAYS)
    assert speed is not None
    assert place.graph().parent == packed_folder(place.folder, "fp32")
    assert np.array_equal(before, frames(place))
    assert packed.is_settled(place.at(), "fp32")
    assert "packed for this processor" in place.notes[-1]
    assert check(place.folder, place.events, CLIPS) == []
    data = place.folder / "packed-fp32" / "encoder-model.onnx.data"
    damaged = bytearray(data.read_bytes())
    damaged[1000] ^= 1
    data.write_bytes(damaged)
    assert check(place.folder, place.events, CLIPS) == [
        "packed-fp32/encoder-model.onnx.data is damaged"
    ]
    assert not packed.is_settled(place.at(), "fp32")


def test_another_machine_or_a_short_file_loads_without_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed.pack(place.at(), "fp32", CLIPS, ALWAYS)
    for key in ("another machine", None):
        with monkeypatch.context() as patched:
            patched.setattr(onnx_asr_models, "packing_key", lambda key=key: key)
            assert place.graph().parent == place.folder
    data = place.folder / "packed-fp32" / "encoder-model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    assert place.graph().parent == place.folder


def test_what_is_not_faster_is_not_kept_nor_tried_again(place: Place) -> None:
    assert packed.pack(place.at(), "fp32", CLIPS, float("inf")) is None
    assert not packed_folder(place.folder, "fp32").exists()
    assert packed.is_settled(place.at(), "fp32")
    assert "not packed (loads in" in place.notes[-1]
    assert place.graph().parent == place.folder
    assert not any("packed" in name for name in place.at().manifest.files)


def test_what_comes_out_otherwise_is_not_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = sessions.pack

    def with_a_fault(source: Path, target: Path) -> None:
        pack(source, target)
        if "encoder" in target.name:
            data = target.with_name(f"{target.name}.data")
            weights = np.fromfile(data, np.uint8)
            weights[len(weights) // 2 :] = 0
            weights.tofile(data)

    monkeypatch.setattr(sessions, "pack", with_a_fault)
    assert packed.pack(place.at(), "fp32", CLIPS, ALWAYS) is None
    assert place.notes[-1] == "fp32: not packed (its output differs)"
    assert not packed_folder(place.folder, "fp32").exists()


def test_copies_of_other_files_go(place: Place) -> None:
    packed.pack(place.at(), "fp32", CLIPS, ALWAYS)
    at = place.at()
    at.manifest.files["encoder-model.onnx"]["sha256"] = "0" * 64
    packed.drop_stale(at)
    assert not packed_folder(place.folder, "fp32").exists()
    assert inspect(place.folder).packed == {}
    assert not any("packed" in name for name in at.manifest.files)


@pytest.fixture
def slow_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes as long as Parakeet's, and is made as much shorter by a packed copy."""
    real = measure.compare

    def compared(
        folder: Path, precisions: list[str], provider: str, *report: ReportProgress
    ) -> dict[str, measure.Speed | ModelError]:
        found = real(folder, precisions, provider, *report)
        for precision, speed in found.items():
            assert isinstance(speed, measure.Speed)
            load_s = 2.0 if precision in inspect(folder).packed else 5.0
            found[precision] = replace(speed, load_s=load_s, rtfx=10.0)
        return found

    monkeypatch.setattr(measure, "compare", compared)


def test_a_model_that_loads_in_no_time_stays_as_it_is(place: Place) -> None:
    place.set_up(Order(precisions=(), fast_load=True))
    assert not list(place.folder.glob("packed-*"))
    assert any(n.startswith("fp32: not packed (it loads in 0.") for n in place.notes)
    place.set_up()
    assert not any("not packed" in note for note in place.notes)  # told to who asked


@pytest.mark.usefixtures("slow_to_load")
def test_what_a_killed_set_up_left_goes(place: Place) -> None:
    place.set_up(Order(precisions=(), fast_load=True))
    half = place.folder / ".packed-fp32.partial"
    unknown = place.folder / "packed-int8"
    for left in (half, unknown):
        shutil.copytree(packed_folder(place.folder, "fp32"), left)
    place.set_up()
    assert [path.name for path in place.folder.glob("*packed*")] == ["packed-fp32"]
    at = place.at()
    at.manifest.packed.clear()  # its conversion was made again, and set-up killed before it packed
    at.save()
    place.set_up(Order(precisions=(), fast_load=False))
    assert not list(place.folder.glob("*packed*"))
    assert check(place.folder, place.events, CLIPS) == []


@pytest.mark.usefixtures("slow_to_load")
def test_set_up_packs_what_auto_takes(place: Place) -> None:
    place.set_up(Order(precisions=(), force=True))
    assert place.graph().parent == place.folder  # nobody asked for it
    place.set_up(Order(precisions=(), fast_load=True))
    assert place.graph().parent == packed_folder(place.folder, "fp32")
    assert inspect(place.folder).measured["fp32", "cpu"].load_s == 2.0
    place.set_up()
    assert not any("packed" in note for note in place.notes)  # once is enough
    (place.folder / "packed-fp32" / "encoder-model.onnx").unlink()
    place.set_up()
    assert place.graph().parent == packed_folder(place.folder, "fp32")
    place.set_up(Order(precisions=("fp16",)))
    made = [path.name for path in place.folder.glob("packed-*")]
    assert made == ["packed-fp32"]  # fp16 is no faster
    place.set_up(Order(precisions=("fp16",), keep_fp32=False))
    made = [path.name for path in place.folder.glob("packed-*")]
    assert made == ["packed-fp16"]  # there is nothing else
    place.set_up(Order(fast_load=False))
    assert not list(place.folder.glob("packed-*"))


@pytest.mark.usefixtures("slow_to_load")
def test_a_full_disk_costs_no_more_than_the_copy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(packed, "_GROWTH", 1e9)
        place.set_up(Order(precisions=(), force=True, fast_load=True))
    assert "fp32: not packed (the disk has no room for it)" in place.notes
    place.set_up()
    assert place.graph().parent == packed_folder(place.folder, "fp32")
