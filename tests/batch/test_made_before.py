"""A folder of results that the version of 2026-11-27 wrote: nothing in it is done again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from stt.cli import main
from support.paths import DATA, DIGITS
from support.place import Place, make_quick

MADE = DATA / "made-2026-11-27"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return Place(tmp_path_factory.mktemp("model")).set_up().folder


@pytest.fixture
def here(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its model, recordings, results and journal; the current folder."""
    shutil.copytree(model, tmp_path / "models" / "parakeet-digits")
    (tmp_path / "stt_config.json").write_text('{"models_dir": "models"}')
    shutil.copytree(MADE / "out", tmp_path / "out")
    (tmp_path / "out" / ".stt").mkdir()
    (tmp_path / "rec").mkdir()
    message = (MADE / "journal.sql").read_text("utf-8")
    db = sqlite3.connect(tmp_path / "out" / ".stt" / "journal.sqlite")
    db.executescript(
        message.replace("RECORDINGS", str(tmp_path / "rec")) + "PRAGMA user_version = 2;"
    )
    for source, mtime_ns in db.execute("SELECT source, mtime_ns FROM recordings").fetchall():
        path = Path(json.loads(source))
        shutil.copy(DIGITS / "clips" / path.name, path)
        os.utime(path, ns=(mtime_ns, mtime_ns))
    db.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return main(["transcribe", "-m", "parakeet-digits", *arguments])


def test_it_is_known_as_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (here / "out").glob("[!.]*")}
    assert run("-p", "fp32", "-f", "txt,json", "-o", "out", "rec") == 0
    assert {path: path.read_bytes() for path in (here / "out").glob("[!.]*")} == before
    assert "0 done, 3 done before, 0 failed" in capsys.readouterr().err


def test_another_format_is_written_from_its_journal(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (here / "rec").iterdir():  # whoever would hear them again fails
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert run("-p", "fp32", "-f", "srt", "-o", "out", "rec") == 0
    assert "eight six one five three" in (here / "out" / "five-digits-rp.srt").read_text("utf-8")
