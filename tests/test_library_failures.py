"""What libraries and the system raise, each where it can arise: one line, with what to do next."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import av
import filelock
import onnx
import psutil
import pytest
import soundfile
from google.protobuf.message import DecodeError
from huggingface_hub.errors import HFValidationError
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from stt.audio import recording, stream
from stt.cli import main, outcomes
from stt.errors import AudioError
from stt.models import transducer
from support.paths import DIGITS

CLIP = DIGITS / "clips" / "two-digits.flac"

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Transcribe quietly; returns exit code, what is printed, and the lines on stderr."""

    def call(*arguments: object, model: Path = DIGITS) -> tuple[int, str, list[str]]:
        code = main(["transcribe", "-q", "-m", str(model), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return call


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


# --- the model -------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the digits model."""
    folder = tmp_path / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips"))
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features_size", 80),
        ("features_size", None),
        ("features_size", "128"),
        ("subsampling_factor", "8"),
        ("subsampling_factor", 0),
        ("subsampling_factor", None),
        ("subsampling_factor", True),
        ("max_audio_s", 0),
        ("max_audio_s", -1),
        ("max_audio_s", "long"),
        ("max_audio_s", [81]),
        ("model_type", 3),
    ],
)
def test_config_json_that_does_not_fit_is_named(
    run: Run, model: Path, key: str, value: object
) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {key: value}))
    code, out, err = run(CLIP, model=model)
    assert (code, out, len(err)) == (1, "", 1)
    assert "config.json" in err[0]
    assert key in err[0]
    assert "internal error" not in err[0]


def test_features_size_that_is_missing_is_named_too(run: Run, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    del config["features_size"]
    (model / "config.json").write_text(json.dumps(config))
    code, _, err = run(CLIP, model=model)
    assert (code, len(err)) == (1, 1)
    assert (
        "config.json says features_size 80 (80 where it says nothing), but the model takes 128"
        in err[0]
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<blk> 0\n\n", "line 2 is not a token and its number"),
        (b"<blk> 0\nabc\n", "line 2 is not a token and its number"),
        (b"<blk> x\n", "line 1 is not a token and its number"),
        (b"<blk> 0\n\xe9 1\n", "not UTF-8 text (byte 8)"),
        (b"\0" * 64, "line 1 is not a token and its number"),
    ],
)
def test_a_vocabulary_that_is_none_is_named(
    run: Run, model: Path, content: bytes, expected: str
) -> None:
    (model / "vocab.txt").write_bytes(content)
    code, _, err = run(CLIP, model=model)
    assert (code, len(err)) == (1, 1)
    assert "vocab.txt" in err[0]
    assert expected in err[0]
    assert "run `stt setup`" in err[0]


def test_weights_cut_short_are_told_in_one_line(run: Run, model: Path) -> None:
    weights = model / "encoder-model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = run(CLIP, model=model)
    assert (code, len(err)) == (1, 1)
    assert "fp32: did not load" in err[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ort.InvalidArgument(
                "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions\n index: 1"
            ),
            r"the model cannot run \(Got invalid dimensions index: 1\).* run `stt setup`",
        ),
        (ort.Fail("[ONNXRuntimeError] : 1 : FAIL : CUBLAS failure 13"), "cannot run .CUBLAS"),
        (
            ort.RuntimeException(
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for "
                "requested buffer of size 4294967296"
            ),
            "not enough memory .* --jobs 1",
        ),
        (ort.EPFail("BFCArena: CUDA out of memory"), "not enough memory"),
        (MemoryError(), "not enough memory .* --jobs 1"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_what_a_graph_raises_while_it_runs(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
    expected: str,
    folder: bool,
) -> None:
    monkeypatch.setattr(transducer, "encoding", raising(error))
    code, out, err = run(CLIP, *(["-o", tmp_path / "out"] if folder else []))
    assert (code, out, len(err)) == (1, "", 1)
    assert re.search(expected, err[0])
    assert "internal error" not in err[0]


# --- the recording ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error.; its disk or connection"),
        (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle.; its disk is gone"),
        (soundfile.SoundFileRuntimeError("psf_fread failed."), "psf_fread failed.; copy or export"),
        (MemoryError(), "not enough memory to read it"),
        (EOFError(), "EOFError.; copy or export"),
    ],
)
def test_one_recording_that_cannot_be_read_leaves_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, expected: str
) -> None:
    bad = Path(shutil.copy(CLIP, tmp_path / "bad.flac"))
    good = Path(shutil.copy(CLIP, tmp_path / "good.flac"))
    read = soundfile.SoundFile.read

    def fail(self: soundfile.SoundFile, *arguments: Any, **options: Any) -> Any:
        if b"bad" in self.name:
            raise error
        return read(self, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    for more in ([], ["-o", tmp_path / "out"]):
        code, out, err = run(bad, good, *more)
        assert (code, len(err)) == (1, 1), err
        assert "bad.flac: " in err[0]
        assert expected in err[0].replace(")", ".")
        assert "one two" in (out or (tmp_path / "out" / "good.txt").read_text())


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "Too many open files"), av.error.FFmpegError(5, "Input/output error")],
)
def test_what_opening_a_container_raises(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    path = tmp_path / "talk.mp3"
    path.write_bytes(b"ID3" + bytes(400))
    monkeypatch.setattr(av, "open", raising(error))
    code, _, err = run(path)
    assert (code, len(err)) == (1, 1)
    assert "talk.mp3: " in err[0]
    assert "internal error" not in err[0]


def test_what_a_container_raises_in_its_midst() -> None:
    def blocks() -> Iterator[Any]:
        yield 1
        raise av.error.FFmpegError(5, "Input/output error")

    read = stream.blocks_read(blocks(), "talk.m4a")
    assert next(read) == 1
    with pytest.raises(AudioError, match=r"^talk.m4a: cannot be read \(.*Input/output error"):
        next(read)


# --- the folder of results -------------------------------------------------------------------


@pytest.mark.parametrize("column", ["outputs", "recipe", "source", "transcript"])
@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_a_journal_that_nobody_wrote_so(run: Run, tmp_path: Path, column: str, text: str) -> None:
    assert run(CLIP, "-o", tmp_path)[0] == 0
    database = sqlite3.connect(tmp_path / ".stt" / "journal.sqlite")
    with database:
        database.execute(f"UPDATE recordings SET {column} = ?", (text,))
    database.close()
    code, _, err = run(CLIP, "-o", tmp_path, "-f", "srt")
    assert all("internal error" not in line for line in err), err
    if code:
        assert len(err) == 1
        assert "the journal of this folder cannot be used" in err[0]


def test_a_disk_without_locks(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = NotImplementedError("FileSystem does not appear to support flock")
    monkeypatch.setattr(filelock.FileLock, "acquire", raising(refused))
    code, _, err = run(CLIP, "-o", tmp_path / "out")
    assert (code, len(err)) == (1, 1)
    assert "choose another folder with -o" in err[0]


# --- the rest --------------------------------------------------------------------------------


def test_recordings_of_processes_that_cannot_be(tmp_path: Path) -> None:
    for number in (2**31, 10**30):
        (tmp_path / f"2026-01-01-000000-p{number}.flac").touch()
    assert len(recording.leftovers(tmp_path)) == 2


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (MemoryError(), "--jobs 1"),
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), "a.txt: .*free some space"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "another folder"),
        (OSError("odd"), "output: odd; check the path"),
        (ort.NoSuchFile("[ONNXRuntimeError] : 3 : NO_SUCHFILE"), "stt setup MODEL"),
        (onnx.checker.ValidationError("No opset\nimport"), "No opset import.*-p fp32"),
        (DecodeError("Error parsing message"), "stt setup MODEL"),
        (av.error.InvalidDataError(1, "Invalid data found"), "ffmpeg -i|check the path"),
        (soundfile.LibsndfileError(1), "ffmpeg -i"),
        (sqlite3.DatabaseError("disk image is malformed"), "another folder with -o"),
        (filelock.Timeout("a.lock"), "check the path|lock"),
        (psutil.AccessDenied(1), "/proc"),
        (HFValidationError("Repo id must"), "--from DIR|hub"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "UTF-8"),
    ],
)
def test_the_net_below(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, cure: str
) -> None:
    monkeypatch.setattr("stt.cli.inputs.collect", raising(error))
    code, _, err = run(CLIP)
    assert (code, len(err)) == (1, 1)
    assert re.search(cure, err[0])
    assert "internal error" not in err[0]


def test_a_bug_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.cli.inputs.collect", raising(AssertionError("a\nb")))
    code, _, err = run(CLIP)
    assert (code, len(err)) == (1, 1)
    assert "internal error: AssertionError: a b; this is a bug" in err[0]
    assert outcomes.message(AssertionError("a")) is None
