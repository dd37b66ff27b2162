"""Standard streams as programs are really started: closed, redirected, narrow, full, cut off."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from stt.cli import main, outcomes
from support.paths import DIGITS

CLIP = DIGITS / "clips" / "two-digits.flac"
PYTHON = f"'{sys.executable}'"
STT = f"{PYTHON} -m stt"
WORD = "два"
TEXT = f"one {WORD}"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's redirections"),
]


SLOW = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def russian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model with a Russian word."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips"))
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text("utf-8").replace("▁two", f"▁{WORD}"), "utf-8")
    return folder


def shell(
    line: str, here: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line whose `stt` is this one; returns what came out as bytes."""
    return subprocess.run(
        ["bash", "-c", line.replace("stt ", f"{STT} ", 1)],
        cwd=here,
        env=os.environ | {"STT_MODEL": str(DIGITS)} | (environment or {}),
        capture_output=True,
        timeout=120,
        check=False,
    )


ENCODINGS = pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, b"one ???"),
        ({"PYTHONIOENCODING": "latin-1:strict"}, b"one ???"),
        ({"PYTHONIOENCODING": "cp1251"}, f"one {WORD}".encode("cp1251")),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            f"one {WORD}".encode(),
        ),
        ({"PYTHONIOENCODING": ":strict"}, f"one {WORD}".encode()),
    ],
)


@ENCODINGS
def test_a_letter_that_an_encoding_lacks_ends_nothing(
    tmp_path: Path, environment: dict[str, str], said: bytes
) -> None:
    code = f"from stt.cli import click, outcomes; outcomes.prepare_streams(); click.echo({TEXT!a})"
    done = shell(f'{PYTHON} -c "{code}"', tmp_path, environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip() == said


@pytest.mark.slow
@ENCODINGS
def test_a_word_that_an_encoding_lacks_ends_nothing(
    tmp_path: Path, russian: Path, environment: dict[str, str], said: bytes
) -> None:
    done = shell(f"stt transcribe -q -m '{russian}' '{CLIP}'", tmp_path, environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip() == said


@pytest.mark.parametrize("encoding", ["cp1252", SLOW("ascii")])
def test_names_and_documents_in_a_narrow_encoding(tmp_path: Path, encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding}
    odd = os.fsdecode(b"caf\xe9 \xd0\xb4\xd0\xb2\xd0\xb0.flac")
    try:
        shutil.copy(CLIP, tmp_path / odd)
        shutil.copy(CLIP, tmp_path / "dwa ł.flac")
    except OSError:
        pytest.skip("this disk takes no such name")
    done = shell("stt transcribe . nie-ma-ł.wav", tmp_path, environment)
    assert (done.returncode, done.stdout.count(b"one two")) == (1, 2), done.stderr
    assert b"no such file" in done.stderr
    (tmp_path / "stt_config.json").write_text('{"output_dir": "wyniki ł"}', "utf-8")
    for line in ("stt config", "stt config --json"):
        done = shell(line, tmp_path, environment)
        assert done.returncode == 0, done.stderr
        assert b"wyniki" in done.stdout
    assert json.loads(done.stdout.decode("utf-8" if encoding == "ascii" else encoding))


@pytest.mark.parametrize("closed", [SLOW("2>&-"), SLOW(">&-"), "<&- >&- 2>&-", SLOW("2>/dev/full")])
def test_results_in_a_folder_need_no_stream(
    tmp_path: Path, closed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = shell(f"stt transcribe -o out -f txt -f json '{CLIP}' {closed}", tmp_path)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "out" / "two-digits.txt").read_text().strip() == "one two"
    out = str(tmp_path / "out")
    assert main(["transcribe", "-m", str(DIGITS), "-o", out, "-f", "srt", str(CLIP)]) == 0
    assert "done before" in capsys.readouterr().err, "the journal is whole"


@pytest.mark.parametrize("closed", ["2>&-", SLOW("<&-"), SLOW("2>/dev/full")])
def test_text_is_printed_whatever_becomes_of_the_other_streams(tmp_path: Path, closed: str) -> None:
    done = shell(f"stt transcribe '{CLIP}' {closed}", tmp_path)
    assert (done.returncode, done.stdout) == (0, b"one two\n")


def test_news_that_nobody_reads_any_more_end_nothing(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(CLIP, tmp_path / f"{name}.flac")
    done = shell("stt transcribe a.flac b.flac c.flac 2> >(exec true)", tmp_path)
    assert (done.returncode, done.stdout.count(b"one two")) == (0, 3)


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        (f"stt transcribe '{CLIP}' >&-", b"add -o DIR"),
        ("stt config >&-", b"> FILE"),
        ("stt --help >&-", b"> FILE"),
        ("stt live >&-", b"--save FILE"),
        (f"stt transcribe '{CLIP}' >/dev/full", b"free some space"),
        ("stt config >/dev/full", b"free some space"),
        ("stt transcribe - <&-", b"nothing is piped in"),
        ("stt live --push-to-talk <&-", b"needs a terminal"),
    ],
)
def test_what_cannot_be_printed_is_told_in_one_line(tmp_path: Path, line: str, cure: bytes) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == (2 if "push" in line else 1)
    message = done.stderr.splitlines()[-1]
    assert cure in message
    assert b"internal error" not in done.stderr
    assert len([part for part in done.stderr.splitlines() if b"model parakeet" not in part]) == 1


def test_a_setting_is_written_though_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "stt_config.json").write_text("{}")
    done = shell("stt config set precision fp32 >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / "stt_config.json").read_text()) == {"precision": "fp32"}


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "a.flac")
    done = shell(f"stt transcribe -q '{CLIP}' a.flac | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout.strip() in (b"1", b"0"), "0 where true had not ended yet"
    assert done.stderr == b""


def test_standard_error_takes_everything() -> None:
    read, write = os.pipe()
    patient = io.TextIOWrapper(
        outcomes._buffer(outcomes._Patient(write)), "utf-8", write_through=True
    )
    patient.write("told\n")
    assert os.read(read, 10) == b"told\n"
    os.close(read)
    patient.write("nobody hears this\n")
    os.close(write)
    patient.write("nor this\n")
