"""A lock between processes whose file is gone when nobody needs it any more."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PAUSE_S = 0.2
"""Between two tries on Windows, which does not wait for longer than 10 s by itself."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock named `path`, waiting for whoever has it; then delete its file.

    The system lets go of the lock when a process dies, so that only a kill leaves the file.

    Raises:
        OSError: the file cannot be written.
    """
    while True:
        with path.open("ab") as file:
            _take(file)
            if not _is_file(path, file):  # whoever had it has deleted it: another may be there
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows deletes no open file
                    path.unlink()
        if sys.platform == "win32":
            with suppress(OSError):  # another process has it open
                path.unlink()
        return


def _take(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            file.seek(0)
            with suppress(OSError):
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return
            time.sleep(_PAUSE_S)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_file(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one that has the name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
