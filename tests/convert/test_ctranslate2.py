from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stt.convert.ctranslate2 import read_ctranslate2
from stt.errors import ModelError

VALUES = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "single": np.linspace(0, 1, 5, dtype=np.float32),
    "brain": (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16),
    "whole": np.array([1, -1], np.int8),
    "heads": np.array(6, np.int16),
}


@pytest.fixture
def raw(write_model: Callable[..., bytes]) -> bytes:
    return write_model(VALUES, {"other": "half"}, spec="SomeSpec")


def test_reads_names_shapes_and_values(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(raw)
    model = read_ctranslate2(tmp_path / "model.bin")
    assert model.spec == "SomeSpec"
    assert set(model.variables) == set(VALUES)
    np.testing.assert_array_equal(model.float32("half"), VALUES["half"])
    np.testing.assert_array_equal(model.float32("other"), VALUES["half"])
    np.testing.assert_array_equal(model.float32("single"), VALUES["single"])
    np.testing.assert_array_equal(model.float32("brain"), [1.5, -2.0])
    assert model.float32("brain").dtype == np.float32
    assert model.scalar("heads") == 6
    assert "other" in model and "half" in model and "nothing" not in model


def test_wrong_questions_are_model_errors(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(raw)
    model = read_ctranslate2(tmp_path / "model.bin")
    with pytest.raises(ModelError, match="no variable nothing"):
        model.array("nothing")
    with pytest.raises(ModelError, match="int8"):
        model.float32("whole")
    with pytest.raises(ModelError, match="one number"):
        model.scalar("single")


def test_every_truncation_is_a_model_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "model.bin"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelError):
            read_ctranslate2(path)


def test_foreign_files_are_model_errors(tmp_path: Path, write_model: Callable[..., bytes]) -> None:
    path = tmp_path / "model.bin"
    with pytest.raises(ModelError, match="cannot read"):
        read_ctranslate2(path)
    path.write_bytes(b"<!DOCTYPE html><html>blocked by your proxy</html>")
    with pytest.raises(ModelError, match="not a CTranslate2 model"):
        read_ctranslate2(path)
    path.write_bytes(write_model({}, {}, version=7))
    with pytest.raises(ModelError, match="first number is 7"):
        read_ctranslate2(path)
    path.write_bytes(write_model({}, {}) + b"more")
    with pytest.raises(ModelError, match="damaged"):
        read_ctranslate2(path)
