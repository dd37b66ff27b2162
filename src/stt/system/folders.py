"""The user's folders for settings, data and state, for users that have no home as well.

A container may run under a number that is in no passwd entry, without HOME: there is no such folder
then, and an error says what to set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from stt.errors import SettingsError

APP_NAME = "stt"


def config_folder() -> Path | None:
    """Return the folder of the user's settings; None for a user without a home."""
    try:
        return platformdirs.user_config_path(APP_NAME, appauthor=False)
    except (RuntimeError, KeyError, OSError):  # as platformdirs and pathlib have it
        return None


def data_folder() -> Path | None:
    """Return the folder of what the user has installed; None for a user without a home."""
    try:
        return platformdirs.user_data_path(APP_NAME, appauthor=False)
    except (RuntimeError, KeyError, OSError):
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
    except (RuntimeError, KeyError, OSError) as error:
        raise SettingsError(f"this user has no home folder, and {cure}") from error
