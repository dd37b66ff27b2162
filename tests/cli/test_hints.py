"""Habits from other programs: what is meant, and where it goes, is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from stt.cli import main
from support.paths import SAMPLES


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr of a command that was wrong."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize("option", ["-l", "--lang", "--language", "--language=de"])
@pytest.mark.parametrize("command", [["transcribe", "x.wav"], ["live"]])
def test_no_language_is_set(
    capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    line = told(capsys, *command, option, *([] if "=" in option else ["de"]))
    assert "hears by itself which of its 25 languages" in line
    assert "leave it out" in line


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        ("--task", "does not translate"),
        ("--output_format", "-f srt,vtt"),
        ("--output_dir", "-o DIR"),
        ("--device", "--provider cuda"),
        ("--compute_type", "-p fp16"),
        ("--batch-size", "stt config set batch_size VALUE"),
        ("--threads", "STT_THREADS=VALUE"),
        ("-r", "--recursive"),
    ],
)
def test_options_of_other_programs(
    capsys: pytest.CaptureFixture[str], option: str, cure: str
) -> None:
    assert cure in told(capsys, "transcribe", "x.wav", option, "1")


def test_a_recording_in_the_place_of_a_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my talk.mp3").write_bytes(b"ID3")
    clip = SAMPLES / "train.flac"
    assert f"to transcribe it: stt transcribe {clip} -f srt" in told(capsys, clip, "-f", "srt")
    assert "stt transcribe 'my talk.mp3'" in told(capsys, "my talk.mp3")
    assert f"stt transcribe {SAMPLES}" in told(capsys, SAMPLES)


@pytest.mark.parametrize("name", ["nosuch.flac", "no/such", "my talk.mp3"])
def test_what_is_not_there_is_told_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = told(capsys, name, "-f", "srt")
    assert line.startswith(f"stt: {name}: no such file; check the path and its spelling")
    Path("empty.wav").touch()
    assert "empty.wav: the file is empty" in told(capsys, "empty.wav")


@pytest.mark.parametrize("address", ["https://example.org/a.mp3", "rtsp://cam/1"])
def test_an_address_in_the_place_of_a_command(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    line = told(capsys, address)
    assert "is an address, and stt fetches nothing" in line
    assert line.endswith(f"curl -L {address} | stt transcribe -")


def test_a_command_misspelt_is_no_recording(capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, "transcirbe", "a.wav")
    assert "No such command 'transcirbe'" in line
    assert "Did you mean" in line


def test_an_option_before_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "goes behind its command: stt transcribe -f" in told(capsys, "-f", "srt", "a.wav")
    assert "stt live --save" in told(capsys, "--save", "a.txt")


@pytest.mark.parametrize("address", ["https://example.org/talk.mp3?x=1&y=2", "rtsp://cam/1"])
def test_an_address_is_told_apart_from_a_missing_file(
    capsys: pytest.CaptureFixture[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.transcriber.load_with", lambda *_, **__: pytest.fail("loaded"))
    assert main(["transcribe", address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is an address, and stt fetches nothing" in line
    assert "curl -L" in line
