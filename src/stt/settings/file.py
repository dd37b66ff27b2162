"""The text of a config file: its members, not yet checked as settings, and one of them changed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
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


# --- changing one member, all else as it was ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a member of the outermost object stands: offsets into the text."""

    key: str
    start: int
    key_end: int
    value_start: int
    end: int


def set_member(text: str, key: str, value: object, path: Path) -> str:
    """The JSON text with one member of its object changed or added, all else as it was.

    A new member goes last, with the white space the last one had. `path` is for messages. Raises
    SettingsError if the text is not usable as `parse_config` says.
    """
    text = text if text.strip() else "{\n}\n"
    values = parse_config(text, path)
    if key in values and _same(values[key], value):
        return text
    opening, members, closing = _scan(text)
    if not members:
        line_end = "\r\n" if "\r\n" in text else "\n"
        body = f"{line_end}  {json.dumps(key)}: {_written(value)}{line_end}"
        return text[: opening + 1] + body + text[closing:]
    for member in members:
        if member.key == key:
            new = _written(value, like=text[member.value_start : member.end])
            return text[: member.value_start] + new + text[member.end :]
    last = members[-1]
    before_last = opening if len(members) == 1 else text.index(",", members[-2].end)
    space = text[before_last + 1 : last.start]
    colon = text[last.key_end : last.value_start]
    added = f",{space}{json.dumps(key)}{colon}{_written(value)}"
    return text[: last.end] + added + text[last.end :]


def remove_member(text: str, key: str, path: Path) -> str:
    """The JSON text without one member of its object, all else as it was.

    `path` is for messages. Raises SettingsError if the text is not usable as `parse_config` says.
    """
    if key not in parse_config(text, path):
        return text
    opening, members, closing = _scan(text)
    index = [member.key for member in members].index(key)
    if len(members) == 1:
        return text[: opening + 1] + text[closing:]
    if index + 1 < len(members):
        return text[: members[index].start] + text[members[index + 1].start :]
    return text[: members[index - 1].end] + text[members[index].end :]


def _same(old: object, new: object) -> bool:
    return type(old) is type(new) and old == new


def _written(value: object, like: str = "") -> str:
    """A value as JSON; a list over several lines if the one it replaces is."""
    lines = re.match(r"\[(\s*\n\s*)\S.*?(\s*)\]\Z", like, re.DOTALL)
    if isinstance(value, list) and lines:
        items = f",{lines[1]}".join(json.dumps(item, ensure_ascii=False) for item in value)
        return f"[{lines[1]}{items}{lines[2]}]"
    return json.dumps(value, ensure_ascii=False)


def _scan(text: str) -> tuple[int, Sequence[_Member], int]:
    """Offsets of the opening brace, the members and the closing brace of a valid JSON object."""
    decode = json.JSONDecoder().raw_decode
    opening = text.index("{")
    members = []
    at = _skip(text, opening + 1)
    while text[at] != "}":
        key, key_end = decode(text, at)
        value_start = _skip(text, text.index(":", key_end) + 1)
        end = decode(text, value_start)[1]
        members.append(_Member(key, at, key_end, value_start, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return opening, members, at


def _skip(text: str, at: int) -> int:
    """The offset of the next character that is not JSON's white space."""
    while text[at] in " \t\r\n":
        at += 1
    return at
