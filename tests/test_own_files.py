"""No name that stt writes of its own accord takes the place of a transcript or of a user's file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import Run
from support.paths import CLIPS, DIGITS

Transcribe = Callable[..., tuple[int, str]]
RECORDINGS = sorted(CLIPS.glob("*.flac"))


@pytest.fixture
def run(tmp_path: Path, stt_run: Transcribe) -> Transcribe:
    """Transcribe into `out` with the digits model; returns exit code and what stderr says."""

    def call(*arguments: object) -> tuple[int, str]:
        code, _, err = stt_run("transcribe", "-m", DIGITS, "-o", tmp_path / "out", *arguments)
        return code, err

    return call


def recording(path: Path, clip: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(RECORDINGS[clip], path))


def test_a_recording_called_summary_has_its_transcript(tmp_path: Path, run: Transcribe) -> None:
    first, second = recording(tmp_path / "summary.flac"), recording(tmp_path / "b.flac", 1)
    code, _ = run("-f", "json", first, second)
    assert code == 0
    said = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert said["segments"]
    message = json.loads((tmp_path / "out" / ".stt" / "summary.json").read_text("utf-8"))
    assert [file["name"] for file in message["files"]] == ["b", "summary"]


@pytest.mark.parametrize("name", ["summary.json", "SUMMARY.JSON", "journal.sqlite", "b.txt.old"])
def test_a_users_own_file_is_untouched(tmp_path: Path, run: Run, name: str) -> None:
    own = tmp_path / "out" / name
    own.parent.mkdir()
    own.write_text("{}")
    for _ in range(2):
        code, _ = run(recording(tmp_path / "a.flac"), recording(tmp_path / "b.flac", 1))
        assert code == 0
        assert own.read_text() == "{}"


def test_a_users_own_file_where_a_transcript_belongs_is_kept(
    tmp_path: Path, run: Transcribe
) -> None:
    own = tmp_path / "out" / "summary.json"
    own.parent.mkdir()
    own.write_text("{}")
    code, err = run("-f", "json", recording(tmp_path / "summary.flac"))
    assert code == 0
    assert "kept as summary.json.old" in err
    assert (tmp_path / "out" / "summary.json.old").read_text() == "{}"
    assert json.loads(own.read_text("utf-8"))["segments"]


@pytest.mark.parametrize("name", [".stt-hello", ".stt-0123456789ab"])
def test_what_is_swept_after_a_kill_is_no_transcript(tmp_path: Path, run: Run, name: str) -> None:
    code, _ = run(recording(tmp_path / f"{name}.flac"))
    assert code == 0
    left = tmp_path / "out" / ".stt-0123456789ab.tmp"
    left.write_text("half a resu")
    code, _ = run(recording(tmp_path / "b.flac", 1))
    assert code == 0
    assert (tmp_path / "out" / f"{name}.txt").read_text().strip()
    assert not left.exists()


@pytest.mark.parametrize("second", ["talk", "TALK", "Talk"])
def test_results_of_two_runs_are_apart_on_every_disk(tmp_path: Path, run: Run, second: str) -> None:
    run(recording(tmp_path / "x" / "Talk.flac"))
    run(recording(tmp_path / "y" / f"{second}.flac", 1))
    texts = sorted(path.name for path in (tmp_path / "out").glob("*.txt"))
    assert texts == sorted(["Talk.txt", f"{second}-2.txt"])
    run(tmp_path / "x" / "Talk.flac", tmp_path / "y" / f"{second}.flac")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.txt")) == texts


def test_a_recording_in_the_folder_of_results_is_kept(tmp_path: Path, run: Transcribe) -> None:
    odd = recording(tmp_path / "out" / "talk.txt")  # a recording may have any name
    content = odd.read_bytes()
    code, _ = run(odd)
    assert code == 0
    assert (tmp_path / "out" / "talk.txt.old").read_bytes() == content


def test_recordings_that_are_moved_keep_their_names_apart(tmp_path: Path, run: Transcribe) -> None:
    done = tmp_path / "done"
    own = recording(done / "a.flac", 2)
    content = own.read_bytes()
    code, _ = run("--move-done", done, recording(tmp_path / "in" / "a.flac"))
    assert code == 0
    assert own.read_bytes() == content
    assert (done / "a-2.flac").read_bytes() == RECORDINGS[0].read_bytes()
