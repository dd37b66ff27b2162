"""Every setting: its default, what it may be, what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from stt.transcript import Format, SubtitleStyle

ENV_PREFIX = "STT_"
NonEmpty = Annotated[str, Field(min_length=1)]


def _as_formats(value: object) -> object:
    """Lists and repeats are fine: each format is written once, in the order first named."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(name for index, name in enumerate(value) if name not in value[:index])


def _as_precision(value: object) -> object:
    """`mixed`, FP16 with parts in FP32, was a name of its own until 2026-11-27."""
    return "fp16" if value == "mixed" else value


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
        "an installed one, or the path of a folder.",
    )
    models_dir: NonEmpty | None = Field(
        None,
        description="Folder of the models, looked in first and given new ones. `null`: `models` "
        "beside the config file, and new ones go to your data folder.",
    )
    precision: Annotated[
        Literal["auto", "fp16", "fp32", "int8"], BeforeValidator(_as_precision)
    ] = Field("auto", description="Precision of the model; `auto` takes the best for the provider.")
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
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=128)] = Field(
        "auto",
        description="Utterances handed to the model at a time, at most. `auto`: 4 on a CPU, 64 on "
        "a card.",
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

    host: NonEmpty = Field("127.0.0.1", description="Server: the address it listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Server: its port; 0: any that is free.")
    wyoming: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Server: the port for Wyoming, usually 10300. `null`: it is not spoken."
    )
    api_key: NonEmpty | None = Field(
        None,
        repr=False,
        description="Server: what clients must know. `null`: nothing, on this machine alone.",
    )
    api_key_file: NonEmpty | None = Field(
        None, description="Server: a file that holds the key alone."
    )
    max_upload_mb: float = Field(
        2000,
        ge=0.001,
        le=1_000_000,
        description="Server: largest file taken, in millions of bytes.",
    )
    max_audio_h: float = Field(
        12, ge=0.001, le=1000, description="Server: longest recording taken, in hours."
    )
    queue_s: float = Field(
        600,
        ge=0,
        le=86_400,
        description="Server: what would have to wait longer than so many seconds is refused.",
    )
    idle_unload: Annotated[float, Field(ge=0.01, le=10_000)] | None = Field(
        None,
        description="Server: minutes without a request after which the model's memory is given "
        "back. `null`: never.",
    )
    grace_s: float = Field(
        30,
        ge=1,
        le=3600,
        description="Server: seconds that what is under way may take when it is told to end.",
    )
    tls_cert: NonEmpty | None = Field(
        None, description="Server: certificate, a PEM file, for HTTPS; with `tls_key`."
    )
    tls_key: NonEmpty | None = Field(None, description="Server: the certificate's key, a PEM file.")

    def utterances(self, provider: str) -> int:
        """How many utterances a provider is handed at a time, at most."""
        if self.batch_size != "auto":
            return self.batch_size
        return 4 if provider == "cpu" else 64

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


KEYS: tuple[str, ...] = tuple(Settings.model_fields)


# --- said to people ----------------------------------------------------------------------------

_SECRETS = frozenset({"api_key"})
HIDDEN = "(hidden)"


def unsecret(key: str, value: Any) -> Any:
    """A setting's value as it may be shown."""
    return HIDDEN if key in _SECRETS and value is not None else value


def plain(value: Any) -> Any:
    """A JSON value with 28.0 as 28, as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def schemas() -> Mapping[str, Mapping[str, Any]]:
    """Key -> JSON schema of its value."""
    return MappingProxyType(Settings.model_json_schema()["properties"])


def nullable(key: str) -> bool:
    """Whether a setting may be null."""
    return {"type": "null"} in schemas()[key].get("anyOf", ())


def allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return ", or ".join(allowed(choice) for choice in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return listed(schema["enum"], "or")
    kinds = {"boolean": "true or false", "null": "null", "string": "a name or a path"}
    if schema["type"] in kinds:
        return kinds[schema["type"]]
    if schema["type"] == "array":
        return f"a list of one or more of {allowed(schema['items'])}"
    number = "a whole number" if schema["type"] == "integer" else "a number"
    return f"{number} from {plain(schema['minimum'])} to {plain(schema['maximum'])}"


def choices_of(key: str) -> list[str]:
    """The values of a setting that can be listed, as `stt config set` takes them."""
    return _choices(schemas()[key]) if key in KEYS else []


def _choices(schema: Mapping[str, Any]) -> list[str]:
    kinds: Mapping[str, list[str]] = {"boolean": ["true", "false"], "null": ["null"]}
    if "anyOf" in schema:
        return [value for choice in schema["anyOf"] for value in _choices(choice)]
    if "items" in schema:
        return _choices(schema["items"])
    if "const" in schema:
        return [str(schema["const"])]
    return [str(value) for value in schema.get("enum", kinds.get(schema["type"], []))]


def listed(names: Sequence[str], last: str) -> str:
    """Return names in a sentence: 'a, b or c'."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}"
