"""Reading a model folder: which precisions are there, and what is wrong with the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stt.engine.folder import PRECISIONS
from stt.engine.manifest import Measurement, Proof
from stt.errors import ModelError
from stt.models import FAMILIES, inspect

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
    missing = {p: f"no {p} files" for p in PRECISIONS if p != "fp32"}
    assert found.problems == missing | {"fp32": None}
    assert (found.proofs, found.measured) == ({}, {})


def test_both_files_of_a_pair_must_be_of_one_precision(folder: Path) -> None:
    (folder / "encoder-model.fp16.onnx").write_bytes(b"1")
    assert inspect(folder).problems["fp16"] == "decoder_joint-model.fp16.onnx is missing"


def test_an_empty_file_is_incomplete(folder: Path) -> None:
    for name in ("encoder-model.fp16.onnx", "decoder_joint-model.fp16.onnx"):
        (folder / name).touch()
    assert "encoder-model.fp16.onnx is empty" in (inspect(folder).problems["fp16"] or "")


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


RNNT = {"model_type": "nemo-conformer-rnnt"}


@pytest.mark.parametrize(
    ("config", "longest"),
    [({}, 400), ({"subsampling_factor": 4}, 200), (RNNT, 400), ({"max_audio_s": 41}, 41)],
)
def test_the_longest_audio_is_that_of_the_position_table_or_the_configuration(
    folder: Path, config: dict[str, object], longest: int
) -> None:
    (folder / "config.json").write_text(json.dumps(TDT | config))
    found = inspect(folder)
    assert found.max_audio_s == longest
    assert found.family.name == (TDT | config)["model_type"]
    assert found.problems["fp32"] is None


def test_ctc_is_one_file(tmp_path: Path) -> None:
    config = {"model_type": "nemo-conformer-ctc", "features_size": 80}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("a 0\n<blk> 1\n")
    (tmp_path / "model.int8.onnx").write_bytes(b"1")
    (tmp_path / "model.onnx").touch()
    problems = inspect(tmp_path).problems
    assert problems["int8"] is None
    assert problems["fp32"] == "model.onnx is empty"
    assert problems["fp16"] == "no fp16 files"
    (tmp_path / "model.mixed.onnx").write_bytes(b"1")
    assert inspect(tmp_path).problems == problems | {
        "fp16": "no fp16 files but mixed ones of an older version, run `stt setup` again"
    }


@pytest.mark.parametrize(
    ("kind", "precision", "names"),
    [
        ("nemo-conformer-tdt", "fp32", ("encoder-model.onnx", "decoder_joint-model.onnx")),
        (
            "nemo-conformer-rnnt",
            "fp16",
            ("encoder-model.fp16.onnx", "decoder_joint-model.fp16.onnx"),
        ),
        ("nemo-conformer-ctc", "fp16", ("model.fp16.onnx",)),
        ("whisper", "int8", ("encoder_model.int8.onnx", "decoder_model_merged.int8.onnx")),
    ],
)
def test_names_carry_the_precision(kind: str, precision: str, names: tuple[str, ...]) -> None:
    assert FAMILIES[kind].graphs(precision) == names


def test_measurements_are_read(folder: Path) -> None:
    row = {"precision": "fp32", "provider": "cpu", "rtfx": 20, "correct": True}
    more = {"precision": "fp16", "provider": "cpu", "load_s": 1.5, "peak_mib": 900}
    write_manifest(folder, measurements=[row, row | more])
    assert inspect(folder).measured == {
        ("fp32", "cpu"): Measurement(20.0, True),
        ("fp16", "cpu"): Measurement(20.0, True, 1.5, 900.0),
    }


def test_proofs_are_read(folder: Path) -> None:
    proofs = {
        "fp16": {"proven": True, "why": "same words", "largest_error": 0.01},
        "int8": {"proven": False, "why": "3 of 20 words differ"},
        "fp32": {"proven": "yes"},  # only true is true
        "mixed": {"proven": True},  # a precision of its own until 2026-11-27
    }
    write_manifest(folder, precisions=proofs)
    assert inspect(folder).proofs == {
        "fp16": Proof(True, "same words"),
        "int8": Proof(False, "3 of 20 words differ"),
        "fp32": Proof(False, ""),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": {"vocab.txt": {}}},
        {"files": []},
        {"precisions": {"fp16": True}},
        {"precisions": {"fp16": {"why": "?"}}},
        {"measurements": [{"precision": "fp16"}]},
        {"measurements": [{"precision": "fp16", "provider": "cpu", "rtfx": "x", "correct": True}]},
        {"measurements": [3]},
        [],
    ],
)
def test_a_manifest_of_another_form_is_one_error(folder: Path, wrong: object) -> None:
    (folder / "manifest.json").write_text(json.dumps(wrong))
    with pytest.raises(ModelError, match=r"manifest.json: is not as set-up writes it .*delete it"):
        inspect(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[]", "is not a JSON object"),
        ("config.json", '{"model_type": "kaldi-rnnt"}', "'kaldi-rnnt' is not known"),
        ("config.json", '{"model_type": ["whisper"]}', "is not known"),
        (
            "config.json",
            '{"model_type": "nemo-conformer-ctc", "features_size": 64}',
            "features_size 64 is not known; use one of 80, 128",
        ),
        ("vocab.txt", None, "vocab.txt is missing"),
        ("vocab.txt", "", "vocab.txt is empty"),
        ("decoder_joint-model.onnx", None, "no complete model: .*decoder_joint-model.onnx is mis"),
    ],
)
def test_a_broken_folder_is_one_error(
    folder: Path, name: str, content: str | None, message: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        inspect(folder)
    assert "\n" not in str(caught.value)
    assert "stt setup" in str(caught.value) or "use one of" in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        inspect(tmp_path / "nothing")
