"""Writing a file does no harm: it is there whole or not at all, and a failure names its cure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stt.errors import OutputError
from stt.system.files import write_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # as long as names may be
    write_text(path, "old\n")
    write_text(path, "naïve\n")
    assert path.read_bytes() == "naïve\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (OSError(errno.ENOSPC, "full"), "disk is full"),
        (OSError(errno.EROFS, "read-only"), "read-only"),
        (OSError(errno.EACCES, "denied"), "no permission"),
        (OSError(errno.EIO, "fault"), "choose another place"),
        (KeyboardInterrupt("stop"), "stop"),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, cure: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((OutputError, KeyboardInterrupt), match=cure) as caught:
        write_text(path, "new")
    if isinstance(error, OSError):
        assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_full_device() -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write_text(Path("/dev/full"), "text")


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, cure in (
        (tmp_path / "missing" / "a.txt", "make it first"),
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "a.txt", "is not a folder"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(OutputError, match=cure):
            write_text(path, "text")


@pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="permissions do not bind here",
)
def test_a_read_only_folder_and_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="no permission"):
        write_text(path, "new")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="no permission"):
            write_text(tmp_path / "b.txt", "new")
    finally:
        tmp_path.chmod(0o755)


def test_a_file_that_may_not_be_written_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission"):
        write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")
def test_links_and_modes_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
