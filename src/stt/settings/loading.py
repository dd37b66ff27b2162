"""The settings: defaults < stt_config.json < STT_* environment < flags, each source checked."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsConfigDict

from stt.errors import SettingsError
from stt.settings.places import Places, find_places
from stt.settings.schema import (
    ENV_PREFIX,
    KEYS,
    Settings,
    allowed,
    listed,
    nullable,
    plain,
    schemas,
    unsecret,
)
from stt.system.files import config_folder, expanded

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "CONFIG_NAME",
    "OTHER_VARIABLES",
    "LoadedSettings",
    "Settings",
    "find_config",
    "load_settings",
    "local_config",
    "parse_value",
    "unknown_key",
    "user_config",
]

CONFIG_NAME = "stt_config.json"
LOCAL = "local"
"""Member of a settings file that is no setting: the name of a file beside it that wins over it."""
OTHER_VARIABLES = frozenset({"STT_CONFIG", "STT_DEBUG"})
"""STT_* variables that are no settings."""

TYPO_LIKENESS = 0.75
"""difflib's ratio above which an unknown STT_* variable is taken for a setting misspelt."""


class _FileSettings(Settings):
    """As in a file, where "4" is no number; texts from a shell have nothing but texts."""

    model_config = SettingsConfigDict(strict=True)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings and where they came from."""

    settings: Settings
    config_path: Path | None
    """The file that was read, if any."""
    origins: Mapping[str, str]
    """Key -> 'default', the file's path, 'environment STT_...' or 'flag'."""

    @property
    def places(self) -> Places:
        """Where models are looked for."""
        named, users = self.settings.models_dir, user_config()
        if self.config_path is None or self.config_path == users:
            return find_places(named, None, _models_dir_of(users))
        return find_places(named, self.config_path.absolute().parent, _models_dir_of(users))


def load_settings(
    config: Path | None = None, flags: Mapping[str, object] = MappingProxyType({})
) -> LoadedSettings:
    """Read and check every source.

    `config` is the file named by `--config`; `flags` maps keys to values, None meaning "not given".
    A relative folder in the file is taken from the file's own folder, `~` in it from the home.
    An empty variable counts as unset. Raises SettingsError with a line for each problem.
    """
    path = find_config(config)
    layers = {"environment": _environment_layer(), "flag": _flag_layer(flags)}
    if path is not None:
        layers = _file_layers(path) | layers
    problems = [problem for layer in layers.values() for problem in layer.problems()]
    if problems:
        raise SettingsError("\n".join(problems))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(KEYS, "default")
    for source, layer in layers.items():
        values |= layer.values
        for key in layer.values:
            origins[key] = f"{source} {_variable(key)}" if source == "environment" else source
    return LoadedSettings(Settings(**values), path, MappingProxyType(origins))


def find_config(config: Path | None = None) -> Path | None:
    """The file to read: `config`, $STT_CONFIG, ./stt_config.json, the user's, or none.

    Raises SettingsError if one of the first two is given and does not exist.
    """
    named = [("flag --config", config)]
    if variable := os.environ.get("STT_CONFIG"):
        named.append(("environment: STT_CONFIG", Path(variable)))
    for source, path in named:
        if path is not None:
            if not path.is_file():
                raise SettingsError(f"{source}: {path} is not a file; name one that exists")
            return path
    usual = [Path(CONFIG_NAME), user_config()]
    return next((path for path in usual if path is not None and path.is_file()), None)


def _models_dir_of(path: Path | None) -> str | None:
    """`models_dir` of a settings file that is perhaps not in force; None where it says none."""
    if path is None:
        return None
    try:
        layer = _file_layer(path)
    except SettingsError:  # none there, or of no use: it is told when it is in force
        return None
    value = layer.values.get("models_dir")
    return value if isinstance(value, str) and value else None


def user_config() -> Path | None:
    """Where the user's own config file is, or would be; None for a user without a home."""
    folder = config_folder()
    return None if folder is None else folder / CONFIG_NAME


# --- files ----------------------------------------------------------------------------------


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
    """The members of a config file's text, unchecked; an empty one has none.

    SettingsError, with `path`, for what is not JSON (line and column), is no object, or names a key
    twice.
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


# --- sources ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layer:
    """The values one source gives, and how its messages begin and name a key."""

    values: Mapping[str, Any]
    prefix: str
    name: Callable[[str], str] = str
    kind: type[Settings] = Settings

    def problems(self) -> list[str]:
        """One line for each value that is not allowed."""
        try:
            self.kind.model_validate(dict(self.values))
        except ValidationError as error:
            details = error.errors(include_url=False)
            lists = {detail["loc"][:1] for detail in details if len(detail["loc"]) > 1}
            # A list is not reported again as too short once its wrong elements are left out.
            found = [self._problem(detail) for detail in details if detail["loc"] not in lists]
            return [*dict.fromkeys(found)]  # a choice of two kinds fails as each of them
        return []

    def _problem(self, detail: ErrorDetails) -> str:
        key, *inside = (str(part) for part in detail["loc"])
        begin = f"{self.prefix}{self.name(key)}: "
        if detail["type"] == "extra_forbidden":
            return begin + unknown_key(key, self.name)
        schema = schemas()[key]
        if inside and "items" in schema:  # one element of a list
            schema = schema["items"]
        value = unsecret(key, detail["input"])
        return f"{begin}{_shown(value)} is not allowed; choose {allowed(schema)}"


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper()


def _flag(key: str) -> str:
    return "--format" if key == "formats" else f"--{key.replace('_', '-')}"


def _file_layer(path: Path) -> _Layer:
    values = parse_config(read_config(path), path)
    values.pop(LOCAL, None)
    values = _from_folder(values, path.absolute().parent)
    return _Layer(values, f"{path}: ", kind=_FileSettings)


def _file_layers(path: Path) -> dict[str, _Layer]:
    """The layer of a settings file and, above it, that of the local one it names, if any."""
    local = local_config(path)
    paths = [path] if local is None or not local.is_file() else [path, local]
    return {str(each): _file_layer(each) for each in paths}


def local_config(path: Path) -> Path | None:
    """The file that a settings file's `local` names, be it there or not; None where it names none.

    It lies beside the settings file, its values win, and `stt config set` edits it: so the settings
    file can be one that a repository holds. Raises SettingsError for what is no file name.
    """
    name = parse_config(read_config(path), path).get(LOCAL)
    if name is None:
        return None
    if not isinstance(name, str) or Path(name).name != name or name in ("", path.name):
        raise SettingsError(
            f"{path}: {LOCAL}: {_shown(name)} is not allowed; name another file in the same folder"
        )
    return path.with_name(name)


def _environment_layer() -> _Layer:
    read = EnvSettingsSource(Settings)()
    values = {key: _decoded(key, value) for key, value in read.items()}
    for variable in os.environ:
        key = variable.removeprefix(ENV_PREFIX).lower()
        known = variable in OTHER_VARIABLES or key in KEYS
        if variable.startswith(ENV_PREFIX) and not known and _similar(key):
            values[key] = os.environ[variable]
    return _Layer(values, "environment: ", _variable)


def _flag_layer(flags: Mapping[str, object]) -> _Layer:
    values = {
        key: _decoded(key, os.fspath(value) if isinstance(value, os.PathLike) else value)
        for key, value in flags.items()
        if value is not None
    }
    return _Layer(values, "flag ", _flag)


def _from_folder(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values with relative folders made absolute. A `model` without a slash is a name."""
    resolved = dict(values)
    for key in ("model", "models_dir", "output_dir", "api_key_file", "tls_cert", "tls_key"):
        value = values.get(key)
        is_path = isinstance(value, str) and (key != "model" or "/" in value or os.sep in value)
        if is_path and value:
            resolved[key] = str(folder / expanded(Path(value)))
    return resolved


def _decoded(key: str, value: object) -> object:
    """A text as given by a shell: "txt,srt" and '["txt"]' are lists where lists belong."""
    if key != "formats" or not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return [part.strip() for part in value.split(",")]


def parse_value(key: str, text: str, source: str = "") -> Any:
    """A setting's value from a text, as a JSON value: str, int, float, bool, None or a list.

    `null` is None where the key may be null. Raises SettingsError, each line of it beginning with
    `source`, e.g. 'stt_config.json: '.
    """
    if key not in KEYS:
        raise SettingsError(f"{source}{key}: {unknown_key(key)}")
    value = None if text == "null" and nullable(key) else _decoded(key, text)
    if problems := _Layer({key: value}, source).problems():
        raise SettingsError("\n".join(problems))
    return plain(Settings.model_validate({key: value}).model_dump(mode="json")[key])


# --- messages --------------------------------------------------------------------------------


def unknown_key(key: str, name: Callable[[str], str] = str) -> str:
    """What to say of a key that does not exist; `name` is how a source writes a key."""
    if likely := _similar(key):
        return f"unknown key; did you mean {name(likely)}?"
    return f"unknown key; the keys are {listed([name(known) for known in KEYS], 'and')}"


def _similar(key: str) -> str | None:
    return next(iter(difflib.get_close_matches(key.lower(), KEYS, 1, TYPO_LIKENESS)), None)


def _shown(value: object) -> str:
    """A value as one line: texts in quotes, others as JSON where they can be."""
    if isinstance(value, str):
        return repr(value)
    return json.dumps(value, default=repr)
