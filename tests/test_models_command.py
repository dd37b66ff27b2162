"""`stt models`: the list, and taking one away."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from stt.cli import stt as command_line
from stt.cli.models import shown_size
from stt.engine.manifest import Manifest
from stt.errors import ModelError, UsageError
from stt.install import locate
from stt.install.catalog import KNOWN
from stt.settings import loading as settings
from stt.settings import places
from support.paths import DIGITS

SIZE = sum(
    path.stat().st_size
    for path in DIGITS.iterdir()
    if path.suffix in (".onnx", ".data", ".txt", ".json")
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no model, and no clone."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("STT_MODELS_DIR", raising=False)
    monkeypatch.delenv("STT_CONFIG", raising=False)
    monkeypatch.setattr(settings, "user_config", lambda: tmp_path / "user" / "stt_config.json")
    monkeypatch.setattr(places, "clone_models", lambda: None)
    monkeypatch.setattr(places, "user_models", lambda: tmp_path / "data")
    return tmp_path


def put(folder: Path, **noted: str) -> Path:
    """The digits model, as one that is installed."""
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips", "README.md"))
    if noted:
        Manifest(**noted).save(folder)  # type: ignore[arg-type]
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, ["models", *arguments], catch_exceptions=False)


def rows(result: Result) -> dict[str, list[str]]:
    table = result.stdout.partition("\n\n")[0]
    assert all(len(line) <= 80 for line in table.splitlines())
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()}


def test_nothing_is_installed(home: Path) -> None:
    result = run()
    assert [*rows(result)] == ["name", *KNOWN]
    assert rows(result)["parakeet"] == ["no", "2.5", "GB", "25", "European", "CC-BY-4.0"]
    assert rows(result)["parakeet-ultra"][0] == "no"
    assert rows(result)["starter"] == ["no", "192", "MB", "English", "MIT"]
    assert f"new ones go to {home / 'data'}" in result.stdout
    assert "install one: stt setup parakeet" in result.stdout


def test_what_is_installed_comes_first_with_its_place(home: Path) -> None:
    ultra = KNOWN["parakeet-ultra"].repo_id or ""
    put(home / "data" / "mine", source=ultra, licence="cc-by-4.0")
    put(home / "here" / "models" / "digits", source=str(DIGITS))
    put(home / "data" / "parakeet")
    (home / "data" / "parakeet" / "vocab.txt").unlink()
    (home / "here" / "stt_config.json").write_text("{}")
    result = run()
    table = rows(result)
    assert [*table][:4] == ["name", "parakeet", "digits", "mine"]
    assert table["digits"][0] == "fp32"
    assert table["digits"][-2:] == ["?", "?"]
    assert table["mine"][-3:] == ["25", "European", "cc-by-4.0"]
    assert table["parakeet"][0] == "damaged"
    assert "vocab.txt is missing" in result.stdout
    assert str(home / "here" / "models" / "digits") in result.stdout
    assert str(home / "data" / "mine") in result.stdout
    document = json.loads(run("--json").stdout)
    assert document["places"] == [str(home / "here" / "models"), str(home / "data")]
    assert [model["name"] for model in document["models"]][:3] == ["parakeet", "digits", "mine"]
    assert document["models"][1]["bytes"] >= SIZE


def test_remove_says_what_was_freed_and_leaves_nothing(home: Path) -> None:
    folder = put(home / "data" / "digits")
    put(home / "data" / ".digits.partial")
    result = run("remove", "digits", "--yes")
    assert result.exit_code == 0
    assert f"digits removed from {folder} and " in result.stdout
    assert f"{shown_size(2 * SIZE)} freed" in result.stdout
    assert not any((home / "data").iterdir())
    with pytest.raises(ModelError, match=r"no model named digits is installed \(installed: none\)"):
        run("remove", "digits", "--yes")


def test_remove_takes_the_one_in_use_and_tells_of_another(home: Path) -> None:
    here, data = home / "here" / "models" / "digits", home / "data" / "digits"
    put(here)
    put(data)
    (home / "here" / "stt_config.json").write_text("{}")
    result = run("remove", "digits", "--yes")
    assert f"digits is in {data} as well" in result.stdout
    assert not here.exists()
    assert data.exists()


def test_remove_asks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(home / "data" / "digits")
    with pytest.raises(UsageError, match="say --yes"):
        run("remove", "digits")
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys.modules["stt.cli.models"], "sys", terminal)
    for answer, left in ((False, True), (True, False)):
        monkeypatch.setattr("click.confirm", lambda text, answer=answer: answer)
        assert run("remove", "digits").exit_code == 0
        assert folder.exists() == left


def test_a_link_is_removed_and_what_it_leads_to_stays(home: Path) -> None:
    target = put(home / "elsewhere")
    (home / "data").mkdir()
    (home / "data" / "linked").symlink_to(target)
    assert "0.0 MB freed" in run("remove", "linked", "--yes").stdout
    assert (target / "vocab.txt").exists()
    assert not (home / "data" / "linked").is_symlink()


@pytest.mark.parametrize("name", ["..", ".", "", "../data/digits", "a/b"])
def test_what_is_no_name_is_not_deleted(home: Path, name: str) -> None:
    put(home / "data" / "digits")
    with pytest.raises(ModelError):
        run("remove", name, "--yes")
    assert (home / "data" / "digits").exists()


def test_a_removal_that_was_interrupted_is_cleaned_up(home: Path) -> None:
    put(home / "data" / ".digits.removed")
    folder = put(home / "data" / "digits")
    locate.remove(folder)
    assert not any((home / "data").iterdir())
