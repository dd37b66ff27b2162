"""The settings: defaults < stt_config.json < STT_* environment < flags, each source checked."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from stt.config_file import parse_config, read_config
from stt.errors import SettingsError
from stt.subtitles import SubtitleStyle

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "CONFIG_NAME",
    "OTHER_VARIABLES",
    "LoadedSettings",
    "Settings",
    "find_config",
    "load_settings",
    "parse_value",
    "plain",
    "settings_table",
    "unknown_key",
    "user_config",
]

CONFIG_NAME = "stt_config.json"
ENV_PREFIX = "STT_"
OTHER_VARIABLES = frozenset({"STT_CONFIG", "STT_DEBUG"})
"""STT_* variables that are no settings."""

TYPO_LIKENESS = 0.75
"""difflib's ratio above which an unknown STT_* variable is taken for a setting misspelt."""

APP_NAME = "stt"

Format = Literal["txt", "srt", "vtt", "ass", "json", "tsv"]
NonEmpty = Annotated[str, Field(min_length=1)]


def _as_formats(value: object) -> object:
    """Lists and repeats are fine: each format is written once, in the order first named."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(name for index, name in enumerate(value) if name not in value[:index])


class Settings(BaseSettings):
    """Every setting, its default and what it may be.

    `Settings(...)` reads neither file nor environment: `load_settings` does.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    model: NonEmpty = Field(
        "auto",
        description="Which model: `auto` (the installed Parakeet, else the starter), the name of "
        "a folder in `models_dir`, or the path of a folder.",
    )
    models_dir: NonEmpty | None = Field(
        None,
        description="Folder of the models. `null`: `models` beside the config file; the user's "
        "data folder where there is none or it is the user's own.",
    )
    precision: Literal["auto", "fp16", "mixed", "fp32", "int8"] = Field(
        "auto", description="Precision of the model; `auto` takes the best for the provider."
    )
    auto_int8: bool = Field(
        False,
        description="Let `auto` take int8 on the CPU where it was proven and measured faster; it "
        "may lose words.",
    )
    strict: bool = Field(
        False,
        description="A precision asked for by name must be met: stop rather than fall back.",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt", "directml", "coreml"] = Field(
        "auto", description="What computes: ONNX Runtime's execution provider."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of the CPU provider; 0: ONNX Runtime decides."
    )
    jobs: Literal["auto"] | Annotated[int, Field(ge=1, le=128)] = Field(
        "auto",
        description="Recordings worked on at a time; on a CPU each with its share of the threads. "
        "`auto`: as many as was fastest.",
    )
    batch_size: int = Field(
        4, ge=1, le=128, description="Utterances handed to the model at a time, at most."
    )
    max_segment_s: float = Field(
        28.0, ge=5, le=400, description="Longest utterance handed to the model, in seconds."
    )
    vad: bool = Field(
        True, description="Leave out what is certainly no speech; `false`: everything is decoded."
    )
    vad_threshold: float = Field(
        0.5, ge=0.05, le=0.95, description="Probability above which a moment counts as speech."
    )
    formats: Annotated[tuple[Format, ...], NoDecode, BeforeValidator(_as_formats)] = Field(
        ("txt",), min_length=1, description="What is written for each recording."
    )
    line_chars: int = Field(
        42, ge=10, le=200, description="Subtitles: characters in a line, at most."
    )
    lines: int = Field(2, ge=1, le=4, description="Subtitles: lines at a time, at most.")
    chars_per_second: float = Field(
        17.0, ge=5, le=100, description="Subtitles: reading speed a text is given time for."
    )
    cue_min_s: float = Field(
        0.5, ge=0.1, le=3, description="Subtitles: seconds one stays at least."
    )
    cue_max_s: float = Field(7.0, ge=3, le=60, description="Subtitles: seconds one stays at most.")
    cue_gap_s: float = Field(
        0.08, ge=0, le=1, description="Subtitles: seconds between two that follow one another."
    )
    word_timestamps: bool = Field(
        False, description="Subtitles: vtt and ass tell when each word is said (karaoke)."
    )
    output_dir: NonEmpty | None = Field(
        None, description="Folder the results go to. `null`: they are printed."
    )

    @property
    def job_count(self) -> int:
        """Recordings worked on at a time; 0: as many as was fastest."""
        return 0 if self.jobs == "auto" else self.jobs

    @property
    def subtitle_style(self) -> SubtitleStyle:
        """How subtitles are made."""
        return SubtitleStyle(
            max_chars=self.line_chars,
            max_lines=self.lines,
            min_duration=self.cue_min_s,
            max_duration=self.cue_max_s,
            chars_per_second=self.chars_per_second,
            min_gap=self.cue_gap_s,
            word_timestamps=self.word_timestamps,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the call gives: merged by pydantic, a value would not tell where it is from."""
        return (init_settings,)


class _FileSettings(Settings):
    """As in a file, where "4" is no number; texts from a shell have nothing but texts."""

    model_config = SettingsConfigDict(strict=True)


KEYS: tuple[str, ...] = tuple(Settings.model_fields)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings and where they came from."""

    settings: Settings
    config_path: Path | None
    """The file that was read, if any."""
    origins: Mapping[str, str]
    """Key -> 'default', the file's path, 'environment STT_...' or 'flag'."""

    @property
    def models_dir(self) -> Path:
        """The folder of the models, `models_dir`'s null resolved."""
        if self.settings.models_dir is not None:
            return Path(self.settings.models_dir)
        if self.config_path is not None and self.config_path != user_config():
            return self.config_path.absolute().parent / "models"
        return platformdirs.user_data_path(APP_NAME, appauthor=False) / "models"


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
        layers = {str(path): _file_layer(path)} | layers
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
    return next((path for path in usual if path.is_file()), None)


def user_config() -> Path:
    """Where the user's own config file is, or would be."""
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / CONFIG_NAME


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
            return [self._problem(detail) for detail in details if detail["loc"] not in lists]
        return []

    def _problem(self, detail: ErrorDetails) -> str:
        key, *inside = (str(part) for part in detail["loc"])
        begin = f"{self.prefix}{self.name(key)}: "
        if detail["type"] == "extra_forbidden":
            return begin + unknown_key(key, self.name)
        schema = _schemas()[key]
        if inside and "items" in schema:  # one element of a list
            schema = schema["items"]
        return f"{begin}{_shown(detail['input'])} is not allowed; choose {_allowed(schema)}"


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper()


def _flag(key: str) -> str:
    return "--format" if key == "formats" else f"--{key.replace('_', '-')}"


def _file_layer(path: Path) -> _Layer:
    values = _from_folder(parse_config(read_config(path), path), path.absolute().parent)
    return _Layer(values, f"{path}: ", kind=_FileSettings)


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
    for key in ("model", "models_dir", "output_dir"):
        value = values.get(key)
        is_path = isinstance(value, str) and (key != "model" or "/" in value or os.sep in value)
        if is_path and value:
            resolved[key] = str(folder / Path(value).expanduser())
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
    value = None if text == "null" and _nullable(key) else _decoded(key, text)
    if problems := _Layer({key: value}, source).problems():
        raise SettingsError("\n".join(problems))
    return plain(Settings.model_validate({key: value}).model_dump(mode="json")[key])


# --- messages --------------------------------------------------------------------------------


def unknown_key(key: str, name: Callable[[str], str] = str) -> str:
    """What to say of a key that does not exist; `name` is how a source writes a key."""
    if likely := _similar(key):
        return f"unknown key; did you mean {name(likely)}?"
    return f"unknown key; the keys are {_listed([name(known) for known in KEYS], 'and')}"


def _similar(key: str) -> str | None:
    return next(iter(difflib.get_close_matches(key.lower(), KEYS, 1, TYPO_LIKENESS)), None)


def _shown(value: object) -> str:
    """A value as one line: texts in quotes, others as JSON where they can be."""
    if isinstance(value, str):
        return repr(value)
    return json.dumps(value, default=repr)


def plain(value: Any) -> Any:
    """A JSON value with 28.0 as 28, as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _schemas() -> Mapping[str, Mapping[str, Any]]:
    """Key -> JSON schema of its value."""
    return MappingProxyType(Settings.model_json_schema()["properties"])


def _nullable(key: str) -> bool:
    return {"type": "null"} in _schemas()[key].get("anyOf", ())


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return ", or ".join(_allowed(choice) for choice in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return _listed(schema["enum"], "or")
    kinds = {"boolean": "true or false", "null": "null", "string": "a name or a path"}
    if schema["type"] in kinds:
        return kinds[schema["type"]]
    if schema["type"] == "array":
        return f"a list of one or more of {_allowed(schema['items'])}"
    number = "a whole number" if schema["type"] == "integer" else "a number"
    return f"{number} from {plain(schema['minimum'])} to {plain(schema['maximum'])}"


def _listed(names: Sequence[str], last: str) -> str:
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def settings_table() -> str:
    """README's table of settings, in Markdown; tested to be the one there."""
    return "\n".join(_table_rows()) + "\n"


def _table_rows() -> Iterator[str]:
    yield "| key | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for key, field in Settings.model_fields.items():
        schema = _schemas()[key]
        default = json.dumps(plain(schema["default"]))
        yield f"| `{key}` | `{default}` | {_allowed(schema)} | {field.description} |"
