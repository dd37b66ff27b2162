"""From the `model` setting to a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stt.errors import ModelError
from stt.install.locate import locate
from stt.settings.places import Places, find_places


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
    assert locate("auto", Places.only(tmp_path), ignore).path == folder


def test_auto_takes_another_parakeet_before_the_starter(tmp_path: Path) -> None:
    for name in ("parakeet-v2", "parakeet-ultra"):
        folder = make(tmp_path / name)
        assert locate("auto", Places.only(tmp_path), ignore).path == folder


def test_auto_takes_the_starter_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = make(tmp_path / "built")
    monkeypatch.setattr("stt.install.starter.ensure_starter", lambda models_dir, progress: starter)
    monkeypatch.setattr("stt.install.starter.is_built", lambda models_dir: False)
    assert locate("auto", Places.only(tmp_path), ignore).path == starter


def test_a_damaged_parakeet_is_an_error_and_not_silently_the_starter(tmp_path: Path) -> None:
    (make(tmp_path / "parakeet") / "encoder-model.onnx").unlink()
    with pytest.raises(ModelError, match=r"encoder-model.onnx is missing"):
        locate("auto", Places.only(tmp_path), ignore)


def test_a_name_in_the_models_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    assert locate("mine", Places.only(tmp_path), ignore).path == folder


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "elsewhere" / "model")
    assert locate(str(folder), Places.only(tmp_path / "models"), ignore).path == folder
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert locate("model", Places.only(tmp_path / "models"), ignore).name == "model"


def test_an_unknown_name_says_what_is_there(tmp_path: Path) -> None:
    make(tmp_path / "mine")
    with pytest.raises(
        ModelError, match=r"no model named other \(installed: mine, starter; looked in .*\)"
    ):
        locate("other", Places.only(tmp_path), ignore)


def test_a_model_is_found_in_each_place_and_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.settings.places.clone_models", lambda: tmp_path / "clone/models")
    monkeypatch.setattr("stt.settings.places.user_models", lambda: tmp_path / "data/models")
    there = ["named", "beside/models", "clone/models", "users", "data/models"]
    for folder in there:
        make(tmp_path / folder / folder.replace("/", "-"))
        make(tmp_path / folder / "parakeet")
    users, named = str(tmp_path / "users"), str(tmp_path / "named")
    beside = tmp_path / "beside"
    without_any = ["clone/models", "users", "data/models"]
    for given, expected in [
        ((named, beside, users), ["named", *without_any]),
        ((None, beside, users), ["beside/models", *without_any]),
        ((None, None, users), without_any),
        ((None, None, None), ["clone/models", "data/models"]),
    ]:
        places = find_places(*given)
        assert [place.folder for place in places] == [tmp_path / folder for folder in expected]
        for folder in expected:
            name = folder.replace("/", "-")
            assert locate(name, places, ignore).path == tmp_path / folder / name
        assert locate("auto", places, ignore).path == tmp_path / expected[0] / "parakeet"
        assert [p.everywhere for p in places][1:] == [True] * (len(expected) - 1)


def test_where_set_up_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone, data = tmp_path / "clone/models", tmp_path / "data/models"
    monkeypatch.setattr("stt.settings.places.clone_models", lambda: clone)
    monkeypatch.setattr("stt.settings.places.user_models", lambda: data)
    users = str(tmp_path / "users")
    assert find_places(None, None, None).target("parakeet") == data
    assert find_places(None, tmp_path / "project", None).target("parakeet") == data
    assert find_places(None, tmp_path / "clone", None).target("parakeet") == clone
    assert find_places(None, tmp_path / "project", users).target("parakeet") == Path(users)
    make(clone / "parakeet")  # repaired where it is, unless another folder is asked for by name
    assert find_places(None, tmp_path / "project", users).target("parakeet") == clone
    assert find_places(users, None, None).target("parakeet") == Path(users)


def test_without_a_home_models_go_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.settings.places.clone_models", lambda: None)
    (tmp_path / "file").touch()
    for home in (None, tmp_path / "file" / "data"):  # none, and one that cannot be written to
        monkeypatch.setattr("stt.settings.places.user_models", lambda home=home: home)
        places = find_places(None, tmp_path, None)
        assert places.new == tmp_path / "models"
        assert places.described_reach(places.new).endswith("settings file is in force")
        with pytest.raises(ModelError, match="STT_MODELS_DIR"):
            find_places(None, None, None).target("parakeet")


def test_the_starter_is_built_once_for_all_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setattr("stt.settings.places.clone_models", lambda: None)
    monkeypatch.setattr("stt.settings.places.user_models", lambda: data)
    monkeypatch.setattr(
        "stt.install.starter.is_built", lambda folder: (folder / "starter").exists()
    )
    built: list[Path] = []

    def build(models_dir: Path, progress: object) -> Path:
        built.append(models_dir)
        return make(models_dir / "starter")

    monkeypatch.setattr("stt.install.starter.ensure_starter", build)
    for beside in (None, tmp_path / "one", tmp_path / "two"):
        assert locate("starter", find_places(None, beside, None), ignore).path == data / "starter"
    assert built == [data]
