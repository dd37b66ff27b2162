"""What to do instead, for commands and options that other programs have and `stt` has not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from stt.errors import AudioError, UsageError

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
