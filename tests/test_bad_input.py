"""The command on everything that can be wrong: one line each, the rest still done.

It runs in this process but where a process's own streams or signals are the subject.

Every bad recording is given between two good ones, and the model is a tiny one (tiny_tdt).
"""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.cli import main
from support import tiny_tdt
from support.media import silent_video

Command = Callable[..., "subprocess.CompletedProcess[str]"]
RATE = 16_000
pytestmark = pytest.mark.usefixtures("no_variables")
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tdt.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def here(tmp_path: Path, samples_dir: Path) -> Path:
    """A folder with two good recordings, good1.wav and good2.flac, of 2 s."""
    samples, rate = soundfile.read(samples_dir / "weather.flac", dtype="float32")
    soundfile.write(tmp_path / "good1.wav", samples[: 2 * rate], rate)
    soundfile.write(tmp_path / "good2.flac", samples[: 2 * rate], rate)
    return tmp_path


@pytest.fixture
def stt(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run `stt transcribe -m MODEL ...` in that folder."""
    monkeypatch.chdir(here)

    def run(
        *arguments: str, stdin: bytes = b"", use: Path = model, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = ["transcribe", "-m", str(use), *arguments]
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in variables.items():
                patched.setenv(name, value)
            code = main(command)
        return subprocess.CompletedProcess(command, code, *capfd.readouterr())

    return run


def assert_the_others_are_done(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Both good recordings printed, and one line on stderr for the bad one: with -q, no other."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert all(part in lines[0] for part in ("stt: ", "; ", *parts)), lines[0]
    headings = [line for line in done.stdout.splitlines() if line.startswith("==>")]
    part = [f"==> {parts[0]} <=="] if parts[1] in ("truncated", "damaged") else []
    assert headings == ["==> good1.wav <==", *part, "==> good2.flac <=="]  # part of it is read
    assert done.stdout.count("go") >= 2


# --- recordings ---------------------------------------------------------------------------------

NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, 4 * RATE)


def text(path: Path) -> None:
    path.write_text("Milk, eggs, bread.\n" * 100)


def half(path: Path) -> None:
    soundfile.write(path, NOISE, RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def corrupt(path: Path) -> None:
    soundfile.write(path, NOISE, RATE)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(5000) + content[middle + 5000 :])


def noise_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(2).bytes(100_000))


def no_numbers(path: Path) -> None:
    soundfile.write(path, np.full(4 * RATE, np.nan, np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("missing.wav", None, "no such file"),
        ("empty.wav", Path.touch, "0 bytes"),
        ("empty_folder", Path.mkdir, "no recordings"),
        ("truncated.wav", half, "truncated"),
        ("truncated.flac", half, "truncated"),
        ("truncated.ogg", half, "truncated"),
        ("truncated.mp3", half, "truncated"),
        ("corrupt.flac", corrupt, "damaged"),
        ("noise.mp3", noise_bytes, "not a recording"),
        ("noise.m4a", noise_bytes, "not a recording"),
        ("text.wav", text, "not a recording"),
        ("video.mp4", silent_video, "no sound track"),
        ("zero.wav", lambda path: soundfile.write(path, np.zeros(0), RATE), "no audio"),
        ("nan.wav", no_numbers, "NaN"),
    ],
)
def test_one_bad_recording(
    here: Path, stt: Command, name: str, spoil: Callable[[Path], object] | None, message: str
) -> None:
    if spoil:
        spoil(here / name)
    done = stt("-q", "good1.wav", name, "good2.flac")
    assert_the_others_are_done(done, name, message)


def test_many_bad_recordings_in_files(here: Path, stt: Command) -> None:
    """Without -q, with -o: the results of the good ones, the reasons of the bad, a count."""
    text(here / "a.wav")
    half(here / "z.flac")
    done = stt("-o", "out", "-f", "txt", "-f", "json", ".")
    assert done.returncode == 1
    assert done.stdout == ""
    found = sorted(path.name for path in (here / "out").iterdir())
    good = ["good1.json", "good1.txt", "good2.json", "good2.txt"]
    assert found == [".stt", *good, "z.json", "z.txt"]
    assert "2 done, 1 done in part, 1 failed" in done.stderr
    assert "Traceback" not in done.stderr


@POSIX
def test_names_that_are_no_text(here: Path, stt: Command) -> None:
    odd = os.fsdecode(b"odd\xff.wav")
    try:
        (here / odd).write_bytes((here / "good1.wav").read_bytes())
        text(here / "two\nlines.wav")
    except OSError:
        pytest.skip("this disk takes no such name")
    done = stt("-q", "-o", "out", "good1.wav", odd, "two\nlines.wav", "good2.flac")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "two\\nlines.wav" in done.stderr
    assert len(list((here / "out").glob("*.txt"))) == 3


def test_no_traceback_but_under_debug(stt: Command) -> None:
    assert "Traceback" not in stt("-q", "-m", "missing", "good1.wav").stderr
    done = stt("-q", "-m", "missing", "good1.wav", STT_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_silence_and_noise_are_no_error(here: Path, stt: Command, kind: str) -> None:
    level = {"silence": 0.0, "noise": 0.1}[kind]
    samples = np.random.default_rng(3).normal(0, 1, 8 * RATE) * level
    soundfile.write(here / "nothing.wav", samples, RATE)
    done = stt("-q", "nothing.wav")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    done = stt("-q", "-o", "out", "-f", "txt", "-f", "srt", "-f", "json", "nothing.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "out" / "nothing.txt").read_text().strip() == ""


# --- standard input -----------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"text\n" * 99, "not a rec")])
def test_standard_input(here: Path, stt: Command, content: bytes, message: str) -> None:
    done = stt("-q", "-", stdin=(here / "good2.flac").read_bytes())
    assert (done.returncode, done.stderr) == (0, "")
    assert "go" in done.stdout
    done = stt("-q", "good1.wav", "-", "good2.flac", stdin=content)
    assert_the_others_are_done(done, "-: ", message)


# --- output -------------------------------------------------------------------------------------


def test_an_output_folder_that_is_a_file(here: Path, stt: Command) -> None:
    (here / "out").write_text("mine")
    done = stt("-q", "-o", "out", "good1.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "out" in done.stderr
    assert (here / "out").read_text() == "mine"


@POSIX
def test_a_read_only_output_folder(here: Path, stt: Command) -> None:
    out = here / "out"
    out.mkdir()
    out.chmod(0o555)
    target = "out" if not os.access(out, os.W_OK) else "/proc/out"  # root may write anywhere else
    if target != "out" and not Path("/proc/self").exists():
        pytest.skip("this user may write everywhere, and there is no /proc")
    done = stt("-q", "-o", target, "good1.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert target in done.stderr
    assert "; " in done.stderr


@pytest.fixture
def full_disk(here: Path) -> Iterator[Path]:
    """A disk of 16 kB with no room left, mounted for the test where that is allowed."""
    place = here / "full"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with pytest.raises(OSError), (place / "ballast").open("wb", 0) as ballast:
            while True:
                ballast.write(bytes(4096))
        yield place
    finally:
        gc.collect()  # a journal that could not be opened keeps its file until then
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(full_disk: Path, stt: Command) -> None:
    done = stt("-q", "-o", "full", "good1.wav", "good2.flac")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2
    assert all("full" in line and "; " in line for line in lines), done.stderr
    assert {path.name for path in full_disk.iterdir()} <= {"ballast", ".stt"}


@pytest.mark.e2e
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_on_a_full_disk(here: Path, model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "stt", "transcribe", "-q", "-m", model, "good1.wav"],
            cwd=here,
            env=os.environ | {"PYTHONUTF8": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- models -------------------------------------------------------------------------------------


ENCODER, DECODER = "encoder-model.onnx", "decoder_joint-model.onnx"


def has_the_wrong_size(folder: Path) -> None:
    path = folder / ENCODER
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    (folder / "manifest.json").write_text(f'{{"files": {{"{path.name}": {{"size": {size}}}}}}}')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / DECODER).unlink(), f"{DECODER} is missing"),
        (lambda folder: (folder / "vocab.txt").unlink(), "vocab.txt is missing"),
        (lambda folder: (folder / ENCODER).write_text("<html>403 Forbidden</html>" * 20), ENCODER),
        (has_the_wrong_size, "bytes"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    ],
)
def test_a_bad_model_folder(
    tmp_path: Path, stt: Command, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tiny_tdt.build(tmp_path / "spoilt")
    spoil(folder)
    done = stt("-q", "good1.wav", use=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert str(folder) in done.stderr


# --- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--nonsense", "good1.wav"),
        ("-f", "docx", "good1.wav"),
        ("-f", "json", "good1.wav", "good2.flac"),
        ("--config", "missing.json", "good1.wav"),
    ],
)
def test_wrong_usage(stt: Command, arguments: tuple[str, ...]) -> None:
    done = stt(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
