"""What is meant by options of other programs, and what the shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stt.cli import main
from stt.cli import stt as command_line
from stt.settings.schema import KEYS, choices_of
from support.paths import SAMPLES


def message(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
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
    line = message(capsys, *command, option, *([] if "=" in option else ["de"]))
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
    assert cure in message(capsys, "transcribe", "x.wav", option, "1")


def test_a_recording_in_the_place_of_a_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my talk.mp3").write_bytes(b"ID3")
    clip = SAMPLES / "train.flac"
    assert f"to transcribe it: stt transcribe {clip} -f srt" in message(capsys, clip, "-f", "srt")
    assert "stt transcribe 'my talk.mp3'" in message(capsys, "my talk.mp3")
    assert f"stt transcribe {SAMPLES}" in message(capsys, SAMPLES)


@pytest.mark.parametrize("name", ["nosuch.flac", "no/such", "my talk.mp3"])
def test_what_is_not_there_is_told_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = message(capsys, name, "-f", "srt")
    assert line.startswith(f"stt: {name}: no such file; check the path and its spelling")
    Path("empty.wav").touch()
    assert "empty.wav: the file is empty" in message(capsys, "empty.wav")


@pytest.mark.parametrize("address", ["https://example.org/a.mp3", "rtsp://cam/1"])
def test_an_address_in_the_place_of_a_command(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    line = message(capsys, address)
    assert "is an address, and stt fetches nothing" in line
    assert line.endswith(f"curl -L {address} | stt transcribe -")


def test_a_command_misspelt_is_no_recording(capsys: pytest.CaptureFixture[str]) -> None:
    line = message(capsys, "transcirbe", "a.wav")
    assert "No such command 'transcirbe'" in line
    assert "Did you mean" in line


def test_an_option_before_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "goes behind its command: stt transcribe -f" in message(capsys, "-f", "srt", "a.wav")
    assert "stt live --save" in message(capsys, "--save", "a.txt")


@pytest.mark.parametrize("address", ["https://example.org/talk.mp3?x=1&y=2", "rtsp://cam/1"])
def test_an_address_is_told_apart_from_a_missing_file(
    capsys: pytest.CaptureFixture[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.transcriber.load_with", lambda *_, **__: pytest.fail("loaded"))
    assert main(["transcribe", address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is an address, and stt fetches nothing" in line
    assert "curl -L" in line


STT = Path(sys.executable).parent / "stt"


@pytest.fixture
def home(tmp_path: Path, no_variables: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed model, as far as its name goes, and no settings of anybody's."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    (tmp_path / "stt_config.json").write_text('{"models_dir": "models"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completed(line: str) -> list[str]:
    """What is offered for the last word of a command line."""
    from click.shell_completion import ShellComplete

    words = line.split(" ")
    complete = ShellComplete(command_line, {}, "stt", "_STT_COMPLETE")
    return [item.value for item in complete.get_completions(words[1:-1], words[-1])]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stt tr", ["transcribe"]),
        ("stt transcribe -f s", ["srt"]),
        (
            "stt transcribe -f srt,",
            ["srt,txt", "srt,srt", "srt,vtt", "srt,ass", "srt,json", "srt,tsv"],
        ),
        ("stt transcribe -p fp", ["fp16", "fp32"]),
        ("stt transcribe --provider cu", ["cuda"]),
        ("stt transcribe -m ", ["auto", "mine", "starter"]),
        ("stt live -m m", ["mine"]),
        ("stt bench -m s", ["starter"]),
        ("stt setup parakeet-", ["parakeet-ultra", "parakeet-v2"]),
        ("stt transcribe --channel ", ["left", "right", "each"]),
        ("stt transcribe --track a", ["all"]),
        ("stt transcribe --jobs a", ["auto"]),
        ("stt setup --precision fp", ["fp16", "fp32"]),
        ("stt setup --precision fp16,i", ["fp16,int8"]),
        ("stt bench --against ", ["onnx-asr", "sherpa-onnx"]),
        ("stt bench --against onnx-asr,s", ["onnx-asr,sherpa-onnx"]),
        ("stt models remove m", ["mine"]),
        ("stt config get vad", ["vad", "vad_threshold"]),
        ("stt config set prec", ["precision"]),
        ("stt config set precision fp", ["fp16", "fp32"]),
        ("stt config set vad ", ["true", "false"]),
        ("stt config set formats v", ["vtt"]),
        ("stt config set model mi", ["mine"]),
        ("stt config unset jo", ["jobs"]),
    ],
)
def test_what_is_offered(home: Path, line: str, expected: list[str]) -> None:
    found = completed(line)
    assert [item for item in found if item in expected] == expected
    if line.rsplit(" ", maxsplit=1)[-1]:
        assert set(found) == set(expected)


def test_only_what_is_installed_can_be_removed(home: Path) -> None:
    assert "mine" in completed("stt models remove ")
    assert not {"auto", "parakeet"} & set(completed("stt models remove "))


def test_files_are_left_to_the_shell(home: Path) -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(command_line, {}, "stt", "_STT_COMPLETE")
    (item,) = complete.get_completions(["transcribe"], "ta")
    assert (item.type, item.value) == ("file", "ta")


def test_a_broken_settings_file_breaks_no_completion(home: Path) -> None:
    (home / "stt_config.json").write_text("{")
    assert completed("stt live -m s") == ["starter"]


def test_every_setting_that_is_a_choice_offers_its_values() -> None:
    assert choices_of("provider")[:2] == ["auto", "cpu"]
    assert choices_of("jobs") == ["auto"]
    assert choices_of("lines") == []
    assert choices_of("nothing") == []
    assert all(isinstance(value, str) for key in KEYS for value in choices_of(key))


def installed(variables: dict[str, str]) -> str:
    done = subprocess.run(
        [STT], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("shell", "variables", "answer"),
    [
        ("bash", {"COMP_WORDS": "stt config set provider cu", "COMP_CWORD": "4"}, "plain,cuda"),
        ("zsh", {"COMP_WORDS": "stt transcribe -p in", "COMP_CWORD": "3"}, "plain\nint8\n_"),
        ("fish", {"COMP_WORDS": "stt setup star", "COMP_CWORD": "star"}, "plain,starter"),
    ],
)
def test_the_installed_command_answers_each_shell(
    home: Path, shell: str, variables: dict[str, str], answer: str
) -> None:
    assert "stt" in installed({"_STT_COMPLETE": f"{shell}_source"})
    assert answer in installed({"_STT_COMPLETE": f"{shell}_complete", **variables}).strip()


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_line_of_the_readme_works_in_bash(home: Path) -> None:
    script = (
        'eval "$(_STT_COMPLETE=bash_source stt)"\n'
        "COMP_WORDS=(stt transcribe -m mi) COMP_CWORD=3\n"
        '_stt_completion stt\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{STT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout == "mine\n", done.stderr
