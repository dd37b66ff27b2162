"""The text of a config file, and its members, not yet checked as settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stt.errors import SettingsError


def read_config(path: Path) -> str:
    """The text of a config file, line ends as they are; SettingsError if there is none to read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: is not UTF-8 text (byte {error.start}); save it so"
        ) from error


def parse_config(text: str, path: Path) -> dict[str, Any]:
    """The members of a config file's text, unchecked; `path` is for messages.

    Raises SettingsError for what is not JSON (with line and column), is no object, or names a key
    twice. An empty file is an empty object.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SettingsError(f"{path}: {place}: not valid JSON: {error.msg}") from error
    except _RepeatedKeyError as error:
        raise SettingsError(f"{path}: {error.args[0]}: is there twice; delete one") from error
    except (ValueError, RecursionError) as error:  # a number or nesting beyond Python's limits
        raise SettingsError(f"{path}: not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError(f'{path}: must hold an object, {{"precision": "auto", ...}}')
    return value


class _RepeatedKeyError(ValueError):
    pass


def _without_repeats(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in members:
        if key in values:
            raise _RepeatedKeyError(key)
        values[key] = value
    return values
