"""`-o FILE`, `-f A,B`, paths that are looked at before a model is loaded, and lines of news."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.cli.output import fitted
from support.command import SAID, Run
from support.paths import CLIPS, DIGITS

CLIP = CLIPS / "two-digits.flac"


@pytest.fixture
def run(stt_run: Run) -> Run:
    return partial(stt_run, "transcribe", "-m", DIGITS)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.transcriber.load_with", lambda *_, **__: pytest.fail("loaded"))


# --- -o FILE ---------------------------------------------------------------------------------


def test_a_file_gets_the_format_of_its_suffix(run: Run, tmp_path: Path) -> None:
    for name, begins in [
        ("a.srt", "1\n00:00:0"),
        ("b.TXT", SAID[CLIP.name]),
        ("new/c.vtt", "WEBVTT"),
    ]:
        path = tmp_path / name
        code, out, err = run(CLIP, "-o", path)
        assert (code, out) == (0, "")
        assert path.read_text("utf-8").startswith(begins)
        assert f"saved: {path}" in err
    assert {p.name for p in tmp_path.iterdir()} == {"a.srt", "b.TXT", "new"}
    assert run(CLIP, "-q", "-f", "json", "-o", tmp_path / "d.json")[2] == ""
    assert json.loads((tmp_path / "d.json").read_text("utf-8"))["segments"]


def test_what_was_in_the_file_is_kept(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("mine")
    assert "kept as talk.txt.old" in run(CLIP, "-o", path)[2]
    assert (tmp_path / "talk.txt.old").read_text() == "mine"
    assert "kept" not in run(CLIP, "-o", path)[2], "the same text again"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_of_such_a_name_is_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.txt").mkdir()
    assert run(CLIP, "-o", tmp_path / "out.txt")[0] == 0
    assert (tmp_path / "out.txt" / "two-digits.txt").exists()


@pytest.mark.usefixtures("no_model")
def test_several_recordings_go_into_no_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.srt"
    for arguments, code, message in [
        ((CLIP, CLIP, "-o", path), 2, "is a file, for one recording; give -o DIR for several"),
        ((CLIPS, "-o", path), 2, "is a file, for one recording"),
        ((CLIP, "-f", "vtt", "-o", path), 2, "is written as srt, -f says vtt"),
        ((CLIP, "--watch", "-o", path), 2, "--watch goes with a folder of results"),
    ]:
        got, out, err = run(*arguments)
        assert (got, out) == (code, "")
        assert message in err
        assert len(err.splitlines()) == 1
    assert not path.exists()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", ["out.doc", "talk.DOCX", "a/b.mp3", "talk.md", "talk.sub"])
def test_a_file_that_no_format_makes(run: Run, tmp_path: Path, name: str) -> None:
    for recordings in ([CLIP], [CLIP, CLIP], [CLIPS]):
        code, out, err = run(*recordings, "-o", tmp_path / name)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert f"no format has the ending {Path(name).suffix}; give one of .txt, .srt" in line
        assert f"-o {tmp_path / name}/" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.doc/", "there.doc", "2026.11", "v1.5", "Dr. Who", ".hidden"])
def test_a_folder_with_a_dot_in_its_name(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "there.doc").mkdir()
    assert run(CLIP, "-o", f"{tmp_path}/{name}")[0] == 0
    assert (tmp_path / name / "two-digits.txt").exists()


# --- -f --------------------------------------------------------------------------------------


def test_formats_with_commas_and_repeated(run: Run, tmp_path: Path) -> None:
    assert run(CLIP, "-f", "srt,VTT", "-f", "vtt,json", "-o", tmp_path)[0] == 0
    names = {path.name for path in tmp_path.iterdir()} - {".stt"}
    assert names == {"two-digits.srt", "two-digits.vtt", "two-digits.json"}


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("formats", ["srt,doc", "srt,", ",", "srt;vtt"])
def test_a_format_that_does_not_exist(run: Run, formats: str) -> None:
    code, _, err = run(CLIP, "-f", formats)
    assert code == 2
    assert "is not one of 'txt', 'srt'" in err


# --- paths -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("output", [[], ["-o", "out"], ["-o", "out.txt"]])
def test_missing_recordings_cost_no_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["nowhere.wav"] if output == ["-o", "out.txt"] else ["nowhere.wav", "none.mp3"]
    code, out, err = run(*paths, *output)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"stt: {path}: no such file; check the path and its spelling" for path in paths
    ]
    assert not list(tmp_path.iterdir())


def test_a_missing_one_is_told_before_the_others_are_done(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    code, out, err = run(tmp_path / "nowhere.wav", CLIP, tmp_path / "empty.wav")
    assert code == 1
    assert SAID[CLIP.name] in out
    first, second, third, *_ = err.splitlines()
    assert "no such file" in first
    assert "the file is empty" in second
    assert "model parakeet-digits" in third
    assert "1 done, 2 failed" in err


def test_folders_passed_over_are_told(run: Run, tmp_path: Path) -> None:
    for name in ("a", "deep/b", "deep/er/c", "notes/d"):
        target = tmp_path / "in" / f"{name}.{'txt' if 'notes' in name else 'flac'}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIP, target)
    message = "2 recordings in 2 folders inside it passed over; add --recursive to take them too"
    for output in ([], ["-o", tmp_path / "out"]):
        code, _, err = run(tmp_path / "in", *output)
        assert code == 0
        assert err.count(message) == 1
        assert message not in run(tmp_path / "in", "-q", *output)[2]
    assert "passed over; add" not in run(tmp_path / "in", "--recursive", "-o", tmp_path / "x")[2]
    done = tmp_path / "in" / "deep"
    assert message not in run(tmp_path / "in", "-o", tmp_path / "y", "--move-done", done)[2]


def test_lines_break_at_spaces_only() -> None:
    message = "stt: standin from someone/standin-of-parakeet at revision c0ffee000000, 2.55 GB"
    assert fitted(message, 40) == (
        "stt: standin from\nsomeone/standin-of-parakeet at revision\nc0ffee000000, 2.55 GB"
    )


def test_a_command_stays_on_one_line() -> None:
    message = "stt: nothing fits; run `stt setup --precision int8` and then go on"
    assert fitted(message, 34).split("\n")[1] == "`stt setup --precision int8` and"
    assert "`stt setup --precision int8`" in fitted(message, 20)  # wider than the terminal


def test_lines_that_are_no_news_of_a_terminal_stay_as_they_are() -> None:
    message = f"stt: {'word ' * 40}end"
    assert fitted(message, None) == message
    assert fitted("stt: a\n\n  b", 80) == "stt: a\n\n  b"


@given(st.text(alphabet="ab `-\n", max_size=80), st.integers(5, 30))
def test_no_letter_is_lost(text: str, columns: int) -> None:
    assert fitted(text, columns).split() == text.split()
