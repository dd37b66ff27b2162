"""From the `model` setting to a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stt.errors import ModelError
from stt.models.locate import locate


def ignore(stage: str, done: int, total: int) -> None:
    pass


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "nemo-conformer-tdt"}))
    for name in ("vocab.txt", "encoder-model.onnx", "decoder_joint-model.onnx"):
        (folder / name).write_bytes(b"x")
    return folder


def test_auto_takes_parakeet_where_it_is_installed(tmp_path: Path) -> None:
    folder = make(tmp_path / "parakeet")
    assert locate("auto", tmp_path, ignore).path == folder


def test_auto_takes_the_starter_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = make(tmp_path / "built")
    monkeypatch.setattr("stt.models.starter.ensure_starter", lambda models_dir, progress: starter)
    assert locate("auto", tmp_path, ignore).path == starter


def test_a_damaged_parakeet_is_an_error_and_not_silently_the_starter(tmp_path: Path) -> None:
    (make(tmp_path / "parakeet") / "encoder-model.onnx").unlink()
    with pytest.raises(ModelError, match=r"encoder-model.onnx is missing"):
        locate("auto", tmp_path, ignore)


def test_a_name_in_the_models_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    assert locate("mine", tmp_path, ignore).path == folder


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "elsewhere" / "model")
    assert locate(str(folder), tmp_path / "models", ignore).path == folder
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert locate("model", tmp_path / "models", ignore).name == "model"


def test_an_unknown_name_says_what_is_there(tmp_path: Path) -> None:
    make(tmp_path / "mine")
    with pytest.raises(ModelError, match=r"no model named other .* \(there: mine, starter\)"):
        locate("other", tmp_path, ignore)
