"""Files held against their pins, and put in place only when they are proven."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stt.errors import ModelError
from stt.install.catalog import PinnedFile

ReportBytes = Callable[[str, int, int], None]
"""(stage, bytes done, bytes in all) of one file at a time."""

_BLOCK = 1 << 20
_REPORT_EVERY_S = 0.1
PART = ".part"
"""Ending of what is not proven yet."""
AGAIN = "run `stt setup` again, it goes on where it stopped"


class DiffersError(Exception):
    """A file is not what was pinned; the text says how."""


class FileProof:
    """Sums over the bytes of one file, compared with its pin at the end."""

    def __init__(self, file: PinnedFile) -> None:
        self._file = file
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def add(self, block: bytes) -> None:
        """Take the next bytes into account."""
        self._size += len(block)
        self._sha256.update(block)
        if self._file.git_blob:
            self._git.update(block)

    def verdict(self) -> str:
        """Return the SHA-256 in hex; DiffersError when size or contents are not as pinned."""
        file, sha256, git = self._file, self._sha256.hexdigest(), self._git.hexdigest()
        if self._size != file.size:
            raise DiffersError(f"{self._size:,} bytes where {file.size:,} are pinned")
        if file.sha256 is not None and sha256 != file.sha256:
            raise DiffersError(f"SHA-256 {sha256} where {file.sha256} is pinned")
        if file.git_blob is not None and git != file.git_blob:
            raise DiffersError(f"git's SHA-1 {git} where {file.git_blob} is pinned")
        return sha256


def already_there(files: Sequence[PinnedFile], folder: Path, report: ReportBytes) -> dict[str, str]:
    """The SHA-256 of those files that lie in `folder` under their names and are right."""
    hashes = {}
    for file in files:
        path = folder / file.name
        if path.exists():
            try:
                hashes[file.name] = proven(path, file, report)
            except DiffersError as error:
                report(f"replacing {file.name}, it is damaged ({error})", 0, file.size)
    return hashes


def proven(path: Path, file: PinnedFile, report: ReportBytes) -> str:
    """The SHA-256 of a file on disk; DiffersError when it is not as pinned."""
    size = path.stat().st_size
    if size != file.size:  # known without reading gigabytes
        raise DiffersError(f"{size:,} bytes where {file.size:,} are pinned")
    proof, progress = FileProof(file), Rarely(report, f"checking {file.name}", file.size)
    with path.open("rb") as content:
        for block in blocks(content):
            proof.add(block)
            progress.add(len(block))
    return proof.verdict()


def blocks(content: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes, 1 MiB at a time."""
    while block := content.read(_BLOCK):
        yield block


class Rarely:
    """Reports bytes done ten times a second and at the end, however small the blocks are."""

    def __init__(self, report: ReportBytes, stage: str, total: int, done: int = 0) -> None:
        self._report, self._stage, self._total, self._done = report, stage, total, done
        self._spoke = time.monotonic()
        report(stage, done, total)

    def at(self, done: int) -> None:
        """So many bytes are done."""
        self._done = done
        now = time.monotonic()
        if now - self._spoke >= _REPORT_EVERY_S or done == self._total:
            self._spoke = now
            self._report(self._stage, done, self._total)

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        self.at(self._done + count)


def tidy(folder: Path, files: Sequence[PinnedFile]) -> None:
    """Remove what was received of other versions, and what a killed import left."""
    names = "|".join(re.escape(file.name) for file in files)
    for path in folder.iterdir():
        if re.fullmatch(rf"\.({names})\.\w+{re.escape(PART)}", path.name):
            path.unlink()


def give_name(part: Path, path: Path) -> None:
    """Put a proven file in place so that even a power cut leaves all of it or nothing."""
    with part.open("rb+") as content:
        os.fsync(content.fileno())
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into a line that says what to do."""
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ModelError(
            f"the disk is full in {folder} ({error.strerror}); make room, or choose another disk "
            f"with `models_dir`, and {AGAIN}"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ModelError(
            f"no right to write in {folder} ({error.strerror}); change its rights, or choose a "
            "folder of yours with `models_dir`"
        )
    return ModelError(
        f"cannot write in {folder} ({error.strerror or error}); check the disk, or choose another "
        "folder with `models_dir`"
    )
