"""Reading a model folder: which precisions are there, and what is wrong with the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stt.errors import ModelError
from stt.models.folder import Measurement, inspect

TDT = {"model_type": "nemo-conformer-tdt", "features_size": 128}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(TDT))
    (path / "vocab.txt").write_text("a 0\n<blk> 1\n")
    for name in ("encoder-model.onnx", "decoder_joint-model.onnx"):
        (path / name).write_bytes(b"12345")
    return path


def write_manifest(folder: Path, **more: object) -> None:
    files = {p.name: {"size": p.stat().st_size} for p in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"files": files, **more}))


def test_fp32_alone(folder: Path) -> None:
    found = inspect(folder)
    assert found.name == "tiny"
    assert found.max_audio_s == 400
    assert found.problems == {"fp16": "no fp16 files", "fp32": None, "int8": "no int8 files"}


def test_both_files_of_a_pair_must_be_of_one_precision(folder: Path) -> None:
    (folder / "encoder-model.fp16.onnx").write_bytes(b"1")
    assert inspect(folder).problems["fp16"] == "decoder_joint-model.fp16.onnx is missing"


def test_an_empty_file_is_incomplete(folder: Path) -> None:
    for name in ("encoder-model.fp16.onnx", "decoder_joint-model.fp16.onnx"):
        (folder / name).touch()
    problem = inspect(folder).problems["fp16"]
    assert problem is not None
    assert "encoder-model.fp16.onnx is empty" in problem


def test_a_file_of_the_wrong_size_is_named_with_both_sizes(folder: Path) -> None:
    write_manifest(folder)
    (folder / "encoder-model.onnx").write_bytes(b"123")
    with pytest.raises(ModelError, match=r"encoder-model.onnx has 3 bytes where 5 belong"):
        inspect(folder)


def test_weights_beside_the_graph_count(folder: Path) -> None:
    (folder / "encoder-model.onnx.data").write_bytes(b"weights")
    write_manifest(folder)
    assert inspect(folder).problems["fp32"] is None
    (folder / "encoder-model.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"encoder-model.onnx.data is missing"):
        inspect(folder)


def test_the_longest_audio_can_be_said_in_the_configuration(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TDT | {"max_audio_s": 41}))
    assert inspect(folder).max_audio_s == 41


def test_measurements_are_read(folder: Path) -> None:
    row = {"precision": "fp32", "provider": "cpu", "rtfx": 20, "correct": True}
    write_manifest(folder, measurements=[row])
    assert inspect(folder).measured == {("fp32", "cpu"): Measurement(20.0, True)}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[]", "is not a JSON object"),
        ("config.json", '{"model_type": "kaldi-rnnt"}', "'kaldi-rnnt' is not known"),
        ("vocab.txt", None, "vocab.txt is missing"),
        ("vocab.txt", "", "vocab.txt is empty"),
        ("decoder_joint-model.onnx", None, "no complete model: .*decoder_joint-model.onnx is mis"),
    ],
)
def test_a_broken_folder_is_one_error(
    folder: Path, name: str, content: str | None, told: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelError, match=told) as caught:
        inspect(folder)
    assert "\n" not in str(caught.value)
    assert "stt setup" in str(caught.value) or "use one of" in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        inspect(tmp_path / "nothing")
