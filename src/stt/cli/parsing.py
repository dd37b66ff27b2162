"""What click is taught: hints for what other programs have, completion, options in common."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from stt.errors import AudioError, SttError, UsageError

if TYPE_CHECKING:
    _Formats = click.ParamType[tuple[str, ...]]
else:  # click before 8.5 has no type parameters
    _Formats = click.ParamType

_LANGUAGE = (
    "Parakeet hears by itself which of its 25 languages is spoken, so leave it out; the starter "
    "knows English alone"
)
_PROVIDER = "what computes is chosen with --provider, e.g. --provider cuda"
_SAME_LANGUAGE = "the text is in the language that is spoken; stt does not translate"
_FORMAT = "formats are chosen with -f, e.g. -f srt,vtt"
_PRECISION = "the precision is chosen with -p, e.g. -p fp16"
OPTION_HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("-l", "--lang", "--language"), _LANGUAGE),
        **dict.fromkeys(("--task", "--translate"), _SAME_LANGUAGE),
        **dict.fromkeys(("--device", "--gpu", "--cuda", "--cpu"), _PROVIDER),
        **dict.fromkeys(
            ("--output-format", "--output_format", "--txt", "--srt", "--vtt", "--json"), _FORMAT
        ),
        **dict.fromkeys(
            ("--compute-type", "--compute_type", "--quantization", "--fp16", "--int8"), _PRECISION
        ),
        **dict.fromkeys(
            ("--output", "--output-file", "--output_file"), "give -o FILE.srt, or -o DIR"
        ),
        "--output_dir": "give -o DIR",
        **dict.fromkeys(("-r", "-R"), "folders in folders are searched with --recursive"),
        "--input": "`stt transcribe FILE` takes recordings as they are; --input is `stt live`'s",
    }
)
"""Options of other programs, and of `stt`'s other commands -> what to do here."""


class HintedCommand(click.Command):
    """A command that knows what is meant by options it does not have."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a UsageError of one line names what to do in place of an unknown option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (hint := _option_hint(error.option_name)) is None:
                raise
            raise UsageError(f"{error.option_name}: {hint}") from error


class HintedGroup(click.Group):
    """Commands; a recording or an option in the place of one is answered with where it belongs."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; UsageError with the right line where a recording stands there."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if not _is_recording(args[0]):
                raise
            _check_is_there(args[0])
            line = shlex.join(["stt", "transcribe", *args])
            raise UsageError(f"{args[0]} is no command; to transcribe it: {line}") from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; UsageError with the right place for an option of a command before the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            owners = [
                name
                for name, command in self.commands.items()
                if any(error.option_name in option.opts for option in command.params)
            ]
            if not owners:
                raise
            owner = "transcribe" if "transcribe" in owners else owners[0]
            raise UsageError(
                f"{error.option_name} goes behind its command: stt {owner} {error.option_name} ..."
            ) from error


def _option_hint(option: str) -> str | None:
    if option in OPTION_HINTS:
        return OPTION_HINTS[option]
    from stt.settings.schema import ENV_PREFIX, KEYS

    key = option.lstrip("-").replace("-", "_")
    if option.startswith("--") and key in KEYS:
        return (
            f"is a setting: `stt config set {key} VALUE`, or {ENV_PREFIX}{key.upper()}=VALUE "
            "before the command"
        )
    return None


def _check_is_there(name: str) -> None:
    """Say the last word at once of what `stt transcribe` would refuse as well.

    Raises:
        UsageError: it is an address, or no such recording is there.
    """
    from stt.audio.files import check_there

    if os.path.isdir(name):  # noqa: PTH112 - never raises
        return
    try:
        check_there(name)
    except AudioError as error:
        then = "" if "://" in name else "; recordings go behind stt transcribe"
        raise UsageError(f"{error}{then}") from error


def _is_recording(name: str) -> bool:
    """Whether a word in a command's place is a path, an address or a recording's name."""
    if "://" in name or os.sep in name or os.path.exists(name):  # noqa: PTH110 - never raises
        return True
    from stt.audio.files import AUDIO_SUFFIXES

    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122


def flattened(_: click.Context, __: click.Parameter, value: Any) -> tuple[str, ...]:
    """Callback of an option that may be given several times, each with several values."""
    return tuple(dict.fromkeys(item for given in value or () for item in given))


# --- shell completion: click asks when `_STT_COMPLETE` is set ---------------------------------


def _those(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class FormatList(_Formats):
    """Formats with commas between them, in either letter case; comes out as a tuple."""

    name = "formats"

    def __init__(self, names: tuple[str, ...]) -> None:
        """`names`: the formats there are."""
        self.choice = click.Choice(names, case_sensitive=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split and check; a format that does not exist is click's own error."""
        parts = str(value).split(",")
        return tuple(self.choice.convert(part.strip(), param, ctx) for part in parts)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the format behind the last comma."""
        before, comma, last = incomplete.rpartition(",")
        found = _those(map(str, self.choice.choices), last.lower())
        return [CompletionItem(f"{before}{comma}{item.value}") for item in found]


_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def one_of(*names: str) -> _Complete:
    """Return what completes an option that takes one of these, among others."""
    return lambda _, __, incomplete: _those(names, incomplete)


def some_of(*names: str) -> _Complete:
    """Return what completes the name behind the last comma."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in _those(names, last)]

    return complete


def installed(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model that can be taken away."""
    return _those(_installed(), incomplete)


def models(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `-m`: what is installed, else a folder."""
    from stt.engine.folder import STARTER

    return _with_folders({"auto", STARTER, *_installed()}, incomplete)


def installable(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete set-up's MODEL: what it knows by name, what is installed, else a folder."""
    from stt.install.catalog import KNOWN

    return _with_folders({*KNOWN, *_installed()}, incomplete)


def _with_folders(names: set[str], incomplete: str) -> list[CompletionItem]:
    found = _those(sorted(names), incomplete)
    return found or [CompletionItem(incomplete, type="dir")]


def _installed() -> list[str]:
    from stt.settings.loading import load_settings

    try:
        return sorted(load_settings().places.installed())
    except SttError:  # a broken settings file: the shell's line is no place to tell
        return []


def settings_keys(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete KEY with the settings there are."""
    from stt.settings.schema import Settings

    return [
        CompletionItem(key, help=(field.description or "").replace("`", ""))
        for key, field in Settings.model_fields.items()
        if key.startswith(incomplete)
    ]


def setting_values(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete VALUE with what the setting KEY may be, where that can be listed."""
    from stt.settings.schema import choices_of

    key = ctx.params.get("key") or ""
    if key == "model":
        return models(ctx, param, incomplete)
    if key in ("models_dir", "output_dir"):
        return [CompletionItem(incomplete, type="dir")]
    return _those(choices_of(key), incomplete)


# --- options of several commands -------------------------------------------------------------

Command = TypeVar("Command", bound=Callable[..., Any])

MODEL_OPTION = click.option(
    "-m",
    "--model",
    metavar="NAME|DIR",
    shell_complete=models,
    help="auto, an installed model, or a folder.",
)
_MODEL_OPTIONS = (
    MODEL_OPTION,
    click.option(
        "-p",
        "--precision",
        type=click.Choice(("auto", "fp16", "fp32", "int8")),
        help="Weights to run.",
    ),
    click.option(
        "--provider",
        type=click.Choice(("auto", "cpu", "cuda", "tensorrt", "directml", "coreml")),
        help="Where to run.",
    ),
    click.option("--strict/--no-strict", default=None, help="Make a fallback of -p an error."),
)
_SUBTITLE_OPTIONS = (
    click.option("--line-chars", metavar="N", help="Subtitles: characters in a line, at most."),
    click.option("--lines", metavar="N", help="Subtitles: lines at a time, at most."),
    click.option("--chars-per-second", metavar="N", help="Subtitles: reading speed to allow for."),
    click.option("--cue-min-s", metavar="S", help="Subtitles: how long one stays at least."),
    click.option("--cue-max-s", metavar="S", help="Subtitles: how long one stays at most."),
    click.option("--cue-gap-s", metavar="S", help="Subtitles: pause between two."),
    click.option(
        "--word-timestamps/--no-word-timestamps",
        default=None,
        help="vtt and ass: when each word is said (karaoke).",
    ),
)
CONFIG_OPTION = click.option(
    "--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file."
)
QUIET_OPTION = click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")


def model_options(command: Command) -> Command:
    """Add the options that choose a model and how it runs; they come as settings' names."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def subtitle_options(command: Command) -> Command:
    """Add the options that say how subtitles are made; they come as settings' names."""
    for option in reversed(_SUBTITLE_OPTIONS):
        command = option(command)
    return command
