"""Shell completion, asked as the shells ask: through the environment of the installed command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stt.cli import stt as command_line
from stt.settings.schema import KEYS, choices_of

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
