"""`stt transcribe DIR -o OUT` as a person runs it: again, with other flags, watching."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.cli import main
from support.command import Run
from support.paths import DIGITS

CLIPS = sorted((DIGITS / "clips").glob("*.flac"))
Transcribe = Callable[..., tuple[int, str]]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Two recordings in `in`, one of them in a folder."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(CLIPS[0], tmp_path / "in" / "a.flac")
    shutil.copy(CLIPS[1], tmp_path / "in" / "deep" / "b.flac")
    return tmp_path


@pytest.fixture
def run(here: Path, stt_run: Transcribe) -> Callable[..., tuple[int, str]]:
    """Transcribe `in` into `out`; returns exit code and what stderr says."""

    def call(*more: object) -> tuple[int, str]:
        arguments = ("transcribe", here / "in", "--recursive", "-m", DIGITS, "-o", here / "out")
        code, out, err = stt_run(*arguments, *more)
        assert out == ""
        return code, err

    return call


def test_it_is_done_once_and_told(here: Path, run: Transcribe) -> None:
    code, err = run()
    assert code == 0
    assert "a.flac: 0:0" in err
    assert "2 done, 0 failed; 0:0" in err
    assert "deep/b" in err.splitlines()[-2]  # the table
    summary = json.loads((here / "out" / ".stt" / "summary.json").read_text())
    assert summary["states"] == {"done": 2}
    assert [file["name"] for file in summary["files"]] == ["a", "deep/b"]
    for file in summary["files"]:
        coverage = file["coverage"]
        total = coverage["decoded"] + sum(coverage["skipped"].values())
        assert total == pytest.approx(file["duration"], abs=0.01)
    code, err = run()
    assert code == 0
    assert "a.flac: done before" in err
    assert "0 done, 2 done before, 0 failed" in err
    code, err = run("--force")
    assert "2 done, 0 failed" in err
    code, err = run("-f", "srt")
    assert "0 done, 2 done before" in err
    assert (here / "out" / "deep" / "b.srt").exists()


def test_only_what_failed_is_tried_again(here: Path, run: Transcribe) -> None:
    (here / "in" / "c.flac").write_bytes(b"fLaC no more")
    code, err = run()
    assert code == 1
    assert "2 done, 1 failed" in err
    assert "--retry-failed" in err
    (here / "in" / "new.flac").write_bytes(CLIPS[2].read_bytes())
    (here / "in" / "c.flac").write_bytes(CLIPS[2].read_bytes())
    code, err = run("--retry-failed")
    assert code == 0
    assert "c.flac" in err
    assert not (here / "out" / "new.txt").exists()
    assert (here / "out" / "c.txt").exists()


def test_one_recording_that_fails_needs_no_table(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "c.flac").write_bytes(b"fLaC no more")
    arguments = ("transcribe", here / "c.flac", "-m", DIGITS, "-o", here / "out")
    assert main([str(argument) for argument in arguments]) == 1
    err = capsys.readouterr().err
    assert "c.flac: not a recording" in err
    assert "recording  audio" not in err
    assert not (here / "out" / ".stt" / "summary.json").exists()


def damage(path: Path) -> None:
    """Spoil a flac in its middle."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)


def test_of_a_damaged_recording_what_can_be_read_is_kept(here: Path, run: Transcribe) -> None:
    run()
    whole = (here / "out" / "a.txt").read_text()
    parts = [soundfile.read(CLIPS[0], dtype="int16")[0], np.zeros(48_000, np.int16)] * 3
    soundfile.write(here / "in" / "a.flac", np.concatenate(parts), 16_000)
    damage(here / "in" / "a.flac")
    for _ in range(2):  # and again: it is not done
        code, err = run("--move-done", here / "done", "-q")
        assert code == 1
        assert "a.flac: warning: damaged or truncated after " in err
        assert (here / "in" / "a.flac").exists()
        assert (here / "out" / "a.txt").read_text().split()[: len(whole.split())] == whole.split()
    shutil.copy(CLIPS[2], here / "in" / "c.flac")
    code, err = run()
    assert "1 done, 1 done in part, 0 failed" in err
    assert "--retry-failed" in err
    summary = json.loads((here / "out" / ".stt" / "summary.json").read_text())
    assert summary["states"] == {"done": 1, "partly": 1}
    shutil.copy(CLIPS[0], here / "in" / "a.flac")
    code, err = run("--retry-failed")
    assert code == 0
    assert (here / "out" / "a.txt").read_text() == whole


def test_a_damaged_recording_is_printed_as_far_as_it_goes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [soundfile.read(CLIPS[0], dtype="int16")[0], np.zeros(48_000, np.int16)] * 3
    path = here / "long.flac"
    soundfile.write(path, np.concatenate(parts), 16_000)
    damage(path)
    assert main(["transcribe", str(path), "-m", str(DIGITS)]) == 1
    captured = capsys.readouterr()
    assert captured.out.split()
    assert "warning: damaged or truncated after " in captured.err


def test_names_of_results_stay(here: Path, run: Transcribe) -> None:
    run()
    shutil.copy(CLIPS[2], here / "in" / "a.wav.flac")
    (here / "in" / "a.wav.flac").rename(here / "in" / "a.wav")  # flac inside, whatever its name
    code, err = run()
    assert code == 0, err
    assert "1 done, 2 done before, 0 failed" in err
    assert (here / "out" / "a.txt").exists()
    assert (here / "out" / "a.wav.txt").exists()


def test_recordings_that_were_moved_are_known(here: Path, run: Transcribe) -> None:
    run()
    (here / "in").rename(here / "elsewhere")
    (here / "in").symlink_to(here / "nowhere")
    (here / "in").unlink()
    (here / "elsewhere").rename(here / "in")
    assert "2 done before" in run()[1]
    shutil.copytree(here / "in", here / "copy")
    shutil.rmtree(here / "in")
    (here / "copy").rename(here / "in")
    assert "2 done before" in run()[1]


@pytest.mark.parametrize("flag", ["--force", "--retry-failed", "--watch", "--move-done=x"])
def test_flags_that_need_a_folder(
    here: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(here / "in"), "-m", str(DIGITS), flag]) == 2
    assert "add -o DIR" in capsys.readouterr().err


def test_done_recordings_are_moved(here: Path, run: Transcribe) -> None:
    code, _ = run("--move-done", here / "done")
    assert code == 0
    assert not list((here / "in").rglob("*.flac"))
    assert (here / "done" / "deep" / "b.flac").exists()
    shutil.copy(CLIPS[3], here / "in" / "a.flac")  # another of the same name
    code, err = run("--move-done", here / "done")
    assert code == 0, err
    assert (here / "done" / "a-2.flac").exists()
    assert (here / "out" / "a.txt").read_text() != (here / "out" / "a-2.txt").read_text()


def test_what_comes_from_standard_input_is_something_else_each_time(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for clip in CLIPS[:2]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))
        assert main(["transcribe", "-", "-m", str(DIGITS), "-o", str(here / "out")]) == 0
        assert "done before" not in capsys.readouterr().err
        texts.append((here / "out" / "stdin.txt").read_text())
    assert texts[0] != texts[1]


def test_formats_of_another_day_tell_of_the_same_transcript(here: Path, run: Transcribe) -> None:
    run("-f", "txt", "-f", "tsv")
    shutil.copy(CLIPS[4], here / "in" / "a.flac")
    code, err = run("-f", "txt")
    assert code == 0
    assert "the recording has changed" in err
    text = (here / "out" / "a.txt").read_text().strip()
    assert (here / "out" / "a.tsv").read_text().splitlines()[1].split("\t")[2] == text


def test_subtitles_that_are_to_look_otherwise_are_written_from_the_journal(
    here: Path, run: Run
) -> None:
    run("-f", "srt", "-f", "txt")
    before = (here / "out" / "a.txt").stat().st_mtime_ns
    code, err = run("-f", "srt", "-f", "txt", "--line-chars", "12", "--lines", "1")
    assert code == 0
    assert "0 done, 2 done before" in err
    lines = (here / "out" / "a.srt").read_text().splitlines()
    assert all(len(line) <= 12 for line in lines if "-->" not in line)
    assert (here / "out" / "a.txt").stat().st_mtime_ns == before
    code, err = run("-f", "srt", "-f", "txt", "--line-chars", "12", "--lines", "1")
    assert "->" not in err  # nothing was written
    assert run("--line-chars", "many")[0] == 2


def test_what_somebody_wrote_is_put_aside(here: Path, run: Transcribe) -> None:
    (here / "out").mkdir()
    (here / "out" / "a.txt").write_text("my own notes")
    code, err = run()
    assert code == 0
    assert "a.txt kept as a.txt.old" in err
    assert (here / "out" / "a.txt.old").read_text() == "my own notes"
    (here / "out" / "a.txt").write_text("corrected")
    run()
    assert (here / "out" / "a.txt").read_text() == "corrected"
    assert "VAD threshold was 0.5 and is off" in run("--no-vad")[1]
    assert (here / "out" / "a.txt").read_text() == "corrected"  # the same words as before
    shutil.copy(CLIPS[4], here / "in" / "a.flac")
    run("--no-vad")
    assert (here / "out" / "a.txt.old2").read_text() == "corrected"
    assert (here / "out" / "a.txt").read_text() != "corrected"
    run("--force", "--no-vad")
    assert not (here / "out" / "a.txt.old3").exists()  # it was stt's own


def test_recordings_that_are_done_stay_where_they_were_moved(here: Path, run: Transcribe) -> None:
    for _ in range(3):
        assert run("--move-done", here / "in" / "done")[0] == 0
    assert sorted(p.name for p in (here / "in").rglob("*.flac")) == ["a.flac", "b.flac"]


def test_no_copy_is_left_where_a_recording_cannot_be_moved(
    here: Path, run: Transcribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> Callable[..., None]:
        def raises(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return raises

    unlink = Path.unlink

    def unlink_copies_alone(path: Path, *, missing_ok: bool = False) -> None:
        if path.suffix == ".flac" and "done" not in path.parts:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse(errno.EXDEV))
        patched.setattr(Path, "unlink", unlink_copies_alone)
        code, err = run("--move-done", here / "done")
    assert code == 1
    assert "could not be moved" in err
    assert not list((here / "done").rglob("*.flac"))
    assert len(list((here / "in").rglob("*.flac"))) == 2


def test_odd_names_are_told_on_one_line(here: Path, run: Transcribe) -> None:
    odd = [b"two\nlines.flac", *([b"caf\xe9.flac"] if os.name == "posix" else [])]
    for number, name in enumerate(odd):
        try:
            shutil.copy(CLIPS[number + 2], os.fsencode(here / "in") + b"/" + name)
        except OSError:
            pytest.skip("this disk takes no such name")
    code, err = run()
    assert code == 0
    assert "two\\nlines.flac: 0:0" in err
    summary = json.loads((here / "out" / ".stt" / "summary.json").read_bytes().decode("utf-8"))
    assert {"two\nlines", "caf\ufffd"} >= {f["name"] for f in summary["files"]} - {"a", "deep/b"}


def test_watching_needs_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(here / "in" / "a.flac")
    assert main(["transcribe", name, "-m", str(DIGITS), "-o", str(here / "out"), "--watch"]) == 2
    assert "--watch needs a folder" in capsys.readouterr().err
