"""`stt config`: show the settings and where each comes from; change one in the file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from stt.cli import outcomes
from stt.cli.output import columns
from stt.cli.parsing import setting_values, settings_keys
from stt.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from stt.settings.loading import LoadedSettings
    from stt.settings.places import Places

FILE_OPTION = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Settings file.  [default: $STT_CONFIG, ./stt_config.json, the user's]",
)
BYTE_ORDER_MARK = "\ufeff"


@click.group(invoke_without_command=True)
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def config(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Show the settings in force and where each comes from.

    \b
    stt config get precision             print one value
    stt config set precision fp32        change a setting in the file
    stt config set formats txt,srt
    stt config unset precision           back to the default
    """
    if context.invoked_subcommand is None:
        _show(file, as_json)


@config.command("show", short_help="Show all settings, as `stt config` does.")
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def show_command(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Show the settings in force and where each comes from, as `stt config` alone does.

    \b
    stt config show --json
    """
    assert context.parent is not None
    _show(named_file(context, file), as_json or context.parent.params["as_json"])


@config.command("get", short_help="Print one setting's value.")
@click.argument("key", shell_complete=settings_keys)
@FILE_OPTION
@click.pass_context
def get_command(context: click.Context, key: str, file: Path | None) -> None:
    """Print the value of KEY that is in force, as `stt config set` takes it.

    \b
    stt config get precision
    """
    from stt.settings.loading import load_settings, unknown_key

    values = _effective(load_settings(named_file(context, file)))
    if key not in values:
        raise SettingsError(f"{key}: {unknown_key(key)}")
    click.echo(_shown(values[key]))


@config.command(
    "set",
    short_help="Write a setting into the settings file.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("key", shell_complete=settings_keys)
@click.argument("value", shell_complete=setting_values)
@FILE_OPTION
@click.pass_context
def set_command(context: click.Context, key: str, value: str, file: Path | None) -> None:
    """Write KEY = VALUE into the settings file, leaving the rest as it is.

    Lists are given as txt,srt or as JSON; null stands for no folder; a relative folder counts from
    the file's own. The file is made when missing.

    \b
    stt config set precision fp32
    stt config set formats txt,srt
    """
    from stt.settings.loading import parse_value
    from stt.settings.schema import unsecret

    parsed = parse_value(key, value)
    outcomes.drop_stdout_if_closed()
    path = _target(context, file)
    before = _text(path)
    _save(path, before, set_member(before, key, parsed, path))
    click.echo(f"{key} = {_shown(unsecret(key, parsed))} in {path}")
    _warn_of_variable(key)


@config.command("unset", short_help="Take a setting out of the settings file.")
@click.argument("key", shell_complete=settings_keys)
@FILE_OPTION
@click.pass_context
def unset_command(context: click.Context, key: str, file: Path | None) -> None:
    """Take KEY out of the settings file, so that its default holds again.

    \b
    stt config unset precision
    """
    from stt.settings.loading import Settings, parse_config, unknown_key

    outcomes.drop_stdout_if_closed()
    path = _target(context, file)
    before = _text(path)
    if key not in parse_config(before, path):
        if key not in Settings.model_fields:
            raise SettingsError(f"{key}: {unknown_key(key)}")
        click.echo(f"{key} is not set in {path}{_set_below(context, file, key)}")
        return
    _save(path, before, remove_member(before, key, path))
    click.echo(f"{key} removed from {path}{_set_below(context, file, key)}")
    _warn_of_variable(key)


# --- showing ---------------------------------------------------------------------------------


def named_file(context: click.Context, file: Path | None) -> Path | None:
    """The settings file given to a command, else to its group; None where none is."""
    assert context.parent is not None
    named: Path | None = file or context.parent.params["file"]
    return named


def _show(file: Path | None, as_json: bool) -> None:
    from stt.settings.loading import load_settings

    loaded = load_settings(file)
    click.echo(_document(loaded) if as_json else _table(loaded), nl=False)


def _effective(loaded: LoadedSettings) -> dict[str, Any]:
    """Key -> value as JSON, as it may be shown."""
    from stt.settings.schema import plain, unsecret

    values = loaded.settings.model_dump(mode="json")
    return {key: plain(unsecret(key, value)) for key, value in values.items()}


def _table(loaded: LoadedSettings) -> str:
    rows = [("key", "value", "from")]
    rows += [(key, _shown(value), loaded.origins[key]) for key, value in _effective(loaded).items()]
    return "\n".join((*columns(rows), "", places_text(loaded.places)))


def places_text(places: Places) -> str:
    """The folders that models are looked for in, a line each."""
    lines = [f"  {place.folder}  ({place.what})\n" for place in places]
    try:
        new = f"new ones go to {places.new}\n"
    except ModelError as error:
        new = f"{error}\n"
    return f"models are looked for in\n{''.join(lines)}{new}"


def _shown(value: object) -> str:
    """A value as `stt config set` takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _document(loaded: LoadedSettings) -> str:
    document = {
        "config": None if loaded.config_path is None else str(loaded.config_path),
        "settings": {
            key: {"value": value, "from": loaded.origins[key]}
            for key, value in _effective(loaded).items()
        },
        "models": [str(place.folder) for place in loaded.places],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


# --- changing --------------------------------------------------------------------------------


def _target(context: click.Context, file: Path | None) -> Path:
    """The file to change: that of the settings, or the `local` one it names beside it."""
    from stt.settings.loading import local_config

    path = _config_of(context, file)
    return (local_config(path) if path.is_file() else None) or path


def _config_of(context: click.Context, file: Path | None) -> Path:
    """The settings file: the one named, else the one in use, else the user's own, to be made."""
    from stt.settings.loading import find_config, user_config

    named = named_file(context, file)
    if named is None and (variable := os.environ.get("STT_CONFIG")):
        named = Path(variable)
    if (found := named or find_config() or user_config()) is None:
        raise SettingsError("this user has no home folder to keep settings in; add --config FILE")
    return found


def _set_below(context: click.Context, file: Path | None, key: str) -> str:
    """Say that the settings file has a key which its local file has not."""
    from stt.settings.loading import parse_config

    path = _config_of(context, file)
    if _target(context, file) == path or key not in parse_config(_text(path), path):
        return ""
    return f"; {path} sets it"


def _text(path: Path) -> str:
    """The file's text, '' where there is no file yet."""
    from stt.settings.loading import read_config

    return read_config(path) if path.exists() else ""


def _save(path: Path, before: str, after: str) -> None:
    """Replace the file's text; a byte order mark that was there stays."""
    from stt.system.files import os_error_text, replace_file

    if after == before:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        marked = path.exists() and path.read_bytes().startswith(BYTE_ORDER_MARK.encode())
        replace_file(path, BYTE_ORDER_MARK * marked + after)
    except OSError as error:
        raise SettingsError(os_error_text(error, path)) from error


def _warn_of_variable(key: str) -> None:
    if os.environ.get(variable := f"STT_{key.upper()}"):
        click.echo(f"stt: {variable} is set in the environment and still decides", err=True)


# --- one member of a JSON text, all else as it was --------------------------------------------


class _Member(NamedTuple):
    """Where a member of the outermost object stands: offsets into the text."""

    key: str
    start: int
    key_end: int
    value_start: int
    end: int


def set_member(text: str, key: str, value: object, path: Path) -> str:
    """The JSON text with one member of its object changed or added, all else as it was.

    A new member goes last, with the white space the last one had. SettingsError, with `path` in it,
    if the text is not usable.
    """
    from stt.settings.loading import parse_config

    text = text if text.strip() else "{\n}\n"
    values = parse_config(text, path)
    if key in values and (type(values[key]), values[key]) == (type(value), value):
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
    """The JSON text without one member of its object, all else as it was; see `set_member`."""
    from stt.settings.loading import parse_config

    if key not in parse_config(text, path):
        return text
    opening, members, closing = _scan(text)
    index = [member.key for member in members].index(key)
    if len(members) == 1:
        return text[: opening + 1] + text[closing:]
    if index + 1 < len(members):
        return text[: members[index].start] + text[members[index + 1].start :]
    return text[: members[index - 1].end] + text[members[index].end :]


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
    return next(n for n in range(at, len(text)) if text[n] not in " \t\r\n")
