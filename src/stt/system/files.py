"""Files: their names in messages, text into them without ever half of one, and the user's folders.

A container may run under a number that is in no passwd entry, without HOME: there are no folders of
this user's then, and an error says what to set.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from stt.errors import OutputError, SettingsError

APP_NAME = "stt"
_NO_HOME = (RuntimeError, KeyError, OSError)
"""What platformdirs and pathlib raise for a user without one."""
TEMPORARY = f".stt-{'[0-9a-f]' * 12}.tmp"
"""Pattern of the names of files that are not whole yet; the user's own never fit it by chance."""


def printable(name: str) -> str:
    """Return a file name fit for one line: line breaks, control and broken characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def folded(name: str) -> str:
    """Return a name as disks compare it that ignore letter case or Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8, whole or not at all.

    Raises OutputError, naming the file and the cure, and leaves what was there before.
    """
    try:
        replace_file(path, text)
    except OSError as error:
        raise OutputError(os_error_text(error, path)) from error


def replace_file(path: Path, text: str) -> None:
    """Write a new file beside the old and rename it into place; raises OSError.

    A symbolic link keeps pointing where it did: what it points to is replaced. A device or pipe
    (/dev/stdout) cannot be replaced and is written to. An existing file keeps its permissions, and
    one that may not be written to is not replaced either, though its folder would allow it.
    """
    data = text.encode("utf-8")
    exists = path.exists()
    if exists and not path.is_file():
        path.write_bytes(data)  # raises IsADirectoryError for a folder
        return
    path = path.resolve()
    if exists and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # A name of its own, as a long one with an ending added might exceed what the system allows.
    temporary = path.with_name(f".stt-{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exists:
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def os_error_text(error: OSError, path: Path) -> str:
    """One line: what failed at `path`, and what to do about it."""
    folder = path.parent
    cures = {
        errno.ENOSPC: "the disk is full; make room, or choose a folder on another disk",
        errno.EDQUOT: "your disk quota is used up; make room, or choose a folder elsewhere",
        errno.EROFS: f"the disk of {folder} is read-only; choose another folder",
        errno.ENOENT: f"the folder {folder} does not exist; make it first",
        errno.ENOTDIR: f"{folder} is not a folder; choose another place",
        errno.EISDIR: "is a folder; give the name of a file in it",
        errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
    }
    denied = f"no permission; allow writing to it and to {folder}, or choose another folder"
    cures |= {errno.EACCES: denied, errno.EPERM: denied}
    cure = cures.get(error.errno or 0, f"{error.strerror or error}; choose another place")
    return f"cannot write {path}: {cure}"


def config_folder() -> Path | None:
    """Return the folder of the user's settings; None for a user without a home."""
    with suppress(*_NO_HOME):
        return platformdirs.user_config_path(APP_NAME, appauthor=False)
    return None


def data_folder() -> Path | None:
    """Return the folder of what the user has installed; None for a user without a home."""
    with suppress(*_NO_HOME):
        return platformdirs.user_data_path(APP_NAME, appauthor=False)
    return None


def state_folder() -> Path:
    """Return the folder of what is kept from run to run, e.g. recordings.

    Raises:
        SettingsError: this user has no home.
    """
    return _found(
        lambda: platformdirs.user_state_path(APP_NAME, appauthor=False),
        "recordings need a folder: set HOME to a folder",
    )


def expanded(path: Path) -> Path:
    """Return a path with `~` replaced.

    Raises:
        SettingsError: nobody has that home.
    """
    return _found(path.expanduser, f"~ in {path} stands for one: give the whole path")


def _found(ask: Callable[[], Path], cure: str) -> Path:
    try:
        return ask()
    except _NO_HOME as error:
        raise SettingsError(f"this user has no home folder, and {cure}") from error
