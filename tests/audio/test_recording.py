"""The recording on disk: there at once, kept or deleted, and what a full disk leaves."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.audio import recording
from stt.audio.files import open_audio
from stt.audio.recording import Recording, check_target, leftovers
from stt.errors import OutputError, UsageError
from stt.types import Samples


def noise(samples: int) -> Samples:
    return np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)


def read(path: Path) -> Samples:
    values, _ = soundfile.read(path, dtype="float32")
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_it_holds_what_was_written_and_zeros_where_sound_was_lost(
    tmp_path: Path, rate: int
) -> None:
    sound = noise(10_000)
    made = Recording(rate, tmp_path)
    made.write(sound[:7_000])
    made.write_silence(70_000)
    made.write(sound[7_000:])
    assert made.samples == 80_000
    path = made.keep()
    assert soundfile.info(path).samplerate == rate
    whole = np.concatenate([sound[:7_000], np.zeros(70_000, np.float32), sound[7_000:]])
    np.testing.assert_allclose(read(path), whole, atol=1 / 32_768)


def test_beyond_full_scale_is_clipped_not_wrapped(tmp_path: Path) -> None:
    made = Recording(16_000, tmp_path)
    made.write(np.array([1.5, -1.5, 1.0, 1e9], np.float32))
    np.testing.assert_allclose(read(made.keep()), [1, -1, 1, 1], atol=2 / 32_768)


def test_it_is_on_the_disk_while_it_grows(tmp_path: Path) -> None:
    made = Recording(16_000, tmp_path)
    sound = noise(48_000)
    for block in np.array_split(sound, 60):
        made.write(block)
    with open_audio(made.path) as audio:  # as after a kill: nobody has closed it
        left = np.concatenate(list(audio.blocks))
    assert len(left) >= 48_000 - 2 * 4_096
    np.testing.assert_allclose(left, sound[: len(left)], atol=1 / 32_768)
    made.discard()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    made = Recording(16_000, tmp_path)
    if os.name == "posix":
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_two_in_one_second_have_two_names(tmp_path: Path) -> None:
    both = [Recording(16_000, tmp_path / "made"), Recording(16_000, tmp_path / "made")]
    assert both[0].path != both[1].path
    for made in both:
        made.discard()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        Recording(16_000, tmp_path / "file" / "folder")


# --- keeping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [False, True])
def test_kept_under_a_name_it_is_moved_there_and_replaces_nothing(
    tmp_path: Path, taken: bool
) -> None:
    if taken:
        (tmp_path / "talk.flac").write_text("mine")
    made = Recording(16_000, tmp_path / "state")
    made.write(noise(100))
    path = tmp_path / ("talk-2.flac" if taken else "talk.flac")
    assert made.keep(tmp_path / "talk.flac") == path == made.path
    assert list((tmp_path / "state").iterdir()) == []
    assert len(read(path)) == 100
    assert not taken or (tmp_path / "talk.flac").read_text() == "mine"


@pytest.fixture
def two_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in one folder is on two disks."""
    rename = Path.rename

    def on_one_disk(path: Path, to: Path) -> Path:
        if path.parent != to.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", on_one_disk)


@pytest.mark.usefixtures("two_disks")
def test_to_another_disk_it_is_copied(tmp_path: Path) -> None:
    made = Recording(16_000, tmp_path / "state")
    made.write(noise(5_000))
    (tmp_path / "other").mkdir()
    path = made.keep(tmp_path / "other" / "talk.flac")
    assert list((tmp_path / "other").iterdir()) == [path]
    assert list((tmp_path / "state").iterdir()) == []
    assert len(read(path)) == 5_000


@pytest.mark.usefixtures("two_disks")
def test_where_the_other_disk_is_full_it_stays_and_the_text_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recording.shutil, "copyfile", full)
    made = Recording(16_000, tmp_path / "state")
    made.write(noise(5_000))
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputError, match="No space left") as caught:
        made.keep(tmp_path / "other" / "talk.flac")
    assert str(made.path) in str(caught.value)
    assert len(read(made.path)) == 5_000
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("talk.wav", "ends in .flac"),
        ("there.flac", "give another name"),
        ("no/folder.flac", "make it first"),
    ],
)
def test_a_name_it_could_not_have_is_refused_at_the_beginning(
    tmp_path: Path, name: str, cure: str
) -> None:
    (tmp_path / "there.flac").touch()
    with pytest.raises((OutputError, UsageError), match=cure):
        check_target(tmp_path / name)
    check_target(tmp_path / "new.FLAC")


# --- after failures --------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from stt.audio.recording import Recording
from stt.errors import OutputError, UsageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
made, sound = Recording(16_000, Path(sys.argv[1])), np.load(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
refused = 0
for block in np.array_split(sound, 200):
    try:
        made.write(block)
    except OutputError as error:
        refused += 1
        print(error)
assert refused > 100, "it says so each time, and in no other way"
print(made.keep())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the file size is POSIX's")
def test_on_a_full_disk_it_says_so_and_what_was_written_can_be_read(tmp_path: Path) -> None:
    sound = noise(160_000)
    np.save(tmp_path / "sound.npy", sound)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "state"), str(tmp_path / "sound.npy")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    first, *_, last = done.stdout.splitlines()
    assert "the disk may be full; make room" in first
    with open_audio(Path(last)) as audio:
        left = np.concatenate(list(audio.blocks))
    assert len(left) > 40_000  # noise takes two bytes a sample, of 100 kB
    np.testing.assert_allclose(left, sound[: len(left)], atol=1 / 32_768)


def test_leftovers_are_those_of_runs_that_have_ended(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ended = tmp_path / f"2026-01-02-030405-p{child.pid}.flac"
    older = tmp_path / "2025-01-02-030405-2-p999999999.flac"
    own = Recording(16_000, tmp_path)
    named = tmp_path / "2024-a.flac"
    for path in (ended, older, named, tmp_path / "notes.txt"):
        path.touch()
    assert leftovers(tmp_path) == [named, older, ended]
    own.discard()
    assert leftovers(tmp_path / "none") == []
