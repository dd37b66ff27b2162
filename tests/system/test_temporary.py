"""Nothing temporary stays, whatever ends the program."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile

from stt.system import temporary
from support.paths import DIGITS

CLIPS = sorted((DIGITS / "clips").glob("*.flac"))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many minutes of digits, a paragraph each: more than is recognised before the signal comes."""
    clips = [soundfile.read(path, dtype="int16")[0] for path in CLIPS]
    parts = [part for clip in clips * 40 for part in (clip, np.zeros(96_000, np.int16))]
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


def started(recording: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Transcribe standard input, up to the first printed text."""
    with recording.open("rb") as content:
        process = subprocess.Popen(
            [sys.executable, "-m", "stt", "transcribe", "-m", str(DIGITS), *more, "-"],
            stdin=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(folder)},
        )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.mark.e2e
@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_nothing_of_standard_input_stays(tmp_path: Path, long_recording: Path, name: str) -> None:
    if name == "SIGKILL" and sys.platform != "linux":
        pytest.skip("swept at the next start there")
    process = started(long_recording, tmp_path)
    number = signal.Signals[name]
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert list(tmp_path.iterdir()) == []
    expected = -signal.SIGKILL if name == "SIGKILL" else 128 + number
    assert process.returncode == expected
    assert b"Traceback" not in err
    if name != "SIGKILL":
        assert err.splitlines()[-1] == b"stt: stopped"


@pytest.mark.e2e
@POSIX
@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, long_recording: Path) -> None:
    line = f"trap '' HUP; exec '{sys.executable}' -m stt transcribe -m '{DIGITS}' -"
    with long_recording.open("rb") as content:
        process = subprocess.Popen(
            ["bash", "-c", line], stdin=content, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline(), "it goes on"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.e2e
@POSIX
@pytest.mark.slow
def test_a_run_into_a_folder_goes_on_after_sigterm(tmp_path: Path, long_recording: Path) -> None:
    arguments = ["-m", str(DIGITS), "-o", str(tmp_path / "out"), str(long_recording)]
    command = [sys.executable, "-m", "stt", "transcribe", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    database = tmp_path / "out" / ".stt" / "journal.sqlite"
    while not database.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"run the same command again, it goes on there" in err
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "out" / "long.txt").exists()


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "_FRESH_S", -1.0)
    return tmp_path


def test_what_a_killed_process_left_is_swept(there: Path) -> None:
    left = there / "stt-input-abc"
    left.mkdir()
    (left / "input").write_bytes(b"a recording")
    (left / ".lock").touch()
    own = there / "stt-notes"
    own.mkdir()
    (own / "talk.txt").write_text("a user's own")
    (there / "stt-file").touch()
    with temporary.temporary_folder("bench") as living:
        temporary.sweep()
        assert living.is_dir()
        assert sorted(path.name for path in there.iterdir()) == sorted(
            [living.name, "stt-file", "stt-notes"]
        )
    assert sorted(path.name for path in there.iterdir()) == ["stt-file", "stt-notes"]


def test_a_folder_that_has_just_been_made_is_let_be(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_FRESH_S", 10.0)
    (there / "stt-input-abc").mkdir()
    (there / "stt-input-abc" / ".lock").touch()
    temporary.sweep()
    assert (there / "stt-input-abc").is_dir()


def test_on_a_disk_without_locks_a_folder_is_lent_and_none_is_swept(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with temporary.temporary_folder("bench") as living:
        (living / ".lock").touch()
        temporary.sweep()
        assert living.is_dir()
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_copy_of_a_pipe_can_be_read_again_and_again(
    there: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    read, write = os.pipe()
    os.write(write, b"0123456789")
    os.close(write)
    with os.fdopen(read, "rb") as pipe, temporary.copied(pipe) as path:
        for _ in range(2):
            with path.open("rb") as file:
                assert file.read(4) == b"0123"
        assert path.stat().st_size == 10
        if platform == "linux" and sys.platform == "linux":
            assert list(there.iterdir()) == []
    assert list(there.iterdir()) == []


def _spools(pid: int, spool: Path) -> bool:
    """Whether a process keeps what comes in: on Linux in a file without a name."""
    held = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            held.append(str(link.readlink()))
    return any(name.startswith(str(spool)) for name in held) or any(spool.glob("stt-input-*"))


@pytest.mark.e2e
@POSIX
def test_ctrl_c_while_standard_input_comes_in(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "stt", "transcribe", "-m", str(DIGITS), "-"],
        env=os.environ | {"TMPDIR": str(spool)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(bytes(100))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not _spools(process.pid, spool) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _spools(process.pid, spool)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert not list(spool.glob("stt-*"))  # ONNX Runtime leaves a file of its own there
