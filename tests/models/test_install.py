"""Installing a pinned model: nothing unproven ever gets the model's name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from stt.errors import ModelError, UsageError
from stt.models import install as module
from stt.models.catalog import MODELS, PinnedFile, PinnedModel
from stt.models.folder import inspect

CONTENT = {
    "config.json": b'{"model_type": "nemo-conformer-tdt"}',
    "vocab.txt": b"<blk> 0\n",
    "encoder-model.onnx": b"encoder",
    "decoder_joint-model.onnx": b"decoder",
}
TINY = PinnedModel(
    "tiny",
    "someone/tiny",
    "0" * 40,
    "CC0",
    "a test",
    tuple(
        PinnedFile(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in CONTENT.items()
    ),
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the hub sends; change it to make the hub lie."""
    sent = dict(CONTENT)

    def fetch(model: PinnedModel, file: PinnedFile, staging: Path) -> None:
        (staging / file.name).write_bytes(sent[file.name])

    monkeypatch.setattr(module, "_fetch", fetch)
    monkeypatch.setattr(module, "MODELS", {"tiny": TINY})
    return sent


def ignore(stage: str, done: int, total: int) -> None:
    pass


def test_a_proven_model_is_installed_with_its_manifest(
    tmp_path: Path, hub: dict[str, bytes]
) -> None:
    folder = module.install("tiny", tmp_path, ignore)
    assert folder == tmp_path / "tiny"
    assert inspect(folder).problems["fp32"] is None
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["revision"] == TINY.revision
    assert manifest["files"]["vocab.txt"]["size"] == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny"]


def test_an_installed_model_is_not_fetched_again(tmp_path: Path, hub: dict[str, bytes]) -> None:
    module.install("tiny", tmp_path, ignore)
    hub.clear()
    module.install("tiny", tmp_path, ignore)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"<!DOCTYPE html>", "15 bytes arrived where 7 were pinned"),
        (b"encodeR", "SHA-256 .* arrived where .* was pinned"),
    ],
)
def test_what_is_not_as_pinned_is_refused_and_removed(
    tmp_path: Path, hub: dict[str, bytes], sent: bytes, told: str
) -> None:
    hub["encoder-model.onnx"] = sent
    with pytest.raises(ModelError, match=told):
        module.install("tiny", tmp_path, ignore)
    assert not (tmp_path / "tiny").exists()
    assert not (tmp_path / ".tiny.partial" / "encoder-model.onnx").exists()
    hub["encoder-model.onnx"] = CONTENT["encoder-model.onnx"]
    assert module.install("tiny", tmp_path, ignore).is_dir()


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose parakeet, parakeet-v2, starter"):
        module.install("other", tmp_path, ignore)


def test_an_unreachable_hub_is_one_line_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"could not be downloaded .* run `stt setup` again") as e:
        module.install("parakeet", tmp_path, ignore)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "parakeet").exists()


def test_the_catalogue_is_complete() -> None:
    for name, model in MODELS.items():
        assert model.name == name
        assert len(model.revision) == 40
        assert {"config.json", "vocab.txt", "encoder-model.onnx"} <= {f.name for f in model.files}
        assert all(len(f.sha256) == 64 for f in model.files if f.sha256)
    assert MODELS["parakeet"].size == 2_549_805_955
