"""Temporary files and folders that go with the process, however it ends.

A folder holds a lock file for as long as its process lives; `sweep` deletes those of processes that
were killed. On Linux a copied pipe has no name at all.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX = "stt-"
_LOCK = ".lock"
_FRESH_S = 10.0
"""A folder younger than this may be one whose process has not taken its lock yet."""
_PIECE = 1 << 20
"""Bytes copied at a time."""


@contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """Make a folder in the system's temporary one, `what` in its name; deleted in the end."""
    from filelock import FileLock

    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{what}-"))
        with suppress(NotImplementedError):  # a disk without locks: it is never swept
            stack.enter_context(FileLock(Path(name, _LOCK)))
        yield Path(name)


@contextmanager
def copied(pipe: BinaryIO) -> Iterator[Path]:
    """Copy what comes through a pipe to a temporary file, which can be read by the path given.

    Raises:
        OSError: there is no room for it.
    """
    if sys.platform == "linux":
        with tempfile.TemporaryFile() as file:
            path = Path(f"/proc/self/fd/{file.fileno()}")
            if path.exists():
                shutil.copyfileobj(pipe, file, _PIECE)
                file.flush()
                yield path
                return
    with temporary_folder("input") as folder:
        path = folder / "input"
        with path.open("wb") as named:
            shutil.copyfileobj(pipe, named, _PIECE)
        yield path


def sweep() -> None:
    """Delete the folders of processes of this user that were killed."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if (folder / _LOCK).exists() and _is_ours(folder) and not _lives(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that this user made a while ago."""
    stat = folder.lstat()
    mine = not hasattr(os, "getuid") or stat.st_uid == os.getuid()
    return mine and not folder.is_symlink() and time.time() - stat.st_mtime > _FRESH_S


def _lives(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except (Timeout, NotImplementedError):  # the second: a disk without locks, nobody can tell
        return True
