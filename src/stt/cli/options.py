"""What commands that recognise have in common: their options, and loading the model in sight."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stt.cli.outcomes import drop_stdout_if_closed, stdout_is_closed
from stt.cli.output import check_folder, report
from stt.cli.parsing import models
from stt.cli.progress import StageProgress
from stt.errors import OutputError, UsageError
from stt.transcript import FORMAT_NAMES

if TYPE_CHECKING:
    from stt.settings.loading import LoadedSettings
    from stt.transcriber import ModelTranscriber


Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "-m",
        "--model",
        metavar="NAME|DIR",
        shell_complete=models,
        help="auto, an installed model, or a folder.",
    ),
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
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def subtitle_options(command: Command) -> Command:
    """Add the options that say how subtitles are made; they come as settings' names."""
    for option in reversed(_SUBTITLE_OPTIONS):
        command = option(command)
    return command


def load_model(loaded: LoadedSettings, *, quiet: bool, live: bool = False) -> ModelTranscriber:
    """Load what the settings name, and say on stderr what it is and why, unless `quiet`.

    `live`: see `stt.load`.

    Raises:
        SttError: with the cure in the text.
    """
    from stt.transcriber import load_with

    with StageProgress(quiet=quiet) as progress:
        transcriber = load_with(loaded, progress, live=live)
    if not quiet:
        _announce(transcriber, loaded.settings.precision)
    return transcriber


def _introduce_starter(folder: Path) -> None:
    """Say what the starter is: all of it once, later in a short line."""
    from stt.install.catalog import PARAKEET_V3

    introduced = folder / ".introduced"
    if introduced.exists():
        report("starter model: English only; `stt setup` brings Parakeet, 25 languages")
        return
    report(
        "using the built-in starter model (Whisper tiny.en): English only, small, and less "
        "accurate than Parakeet"
    )
    report(
        f"for Parakeet ({PARAKEET_V3.size / 1e9:.1f} GB, 25 languages, word times) run: stt setup"
    )
    with suppress(OSError):  # a folder that others own: then it is said each time
        introduced.touch()


def _announce(transcriber: ModelTranscriber, requested: str) -> None:
    from stt.engine.folder import STARTER

    if transcriber.model == STARTER:
        _introduce_starter(transcriber.folder.path)
    choice = transcriber.choice
    if requested not in ("auto", choice.precision):
        report(f"warning: precision {requested} was asked for, {choice.precision} runs")
    report(
        f"model {transcriber.model}, precision {choice.precision}, provider {choice.provider} "
        f"({choice.reason})"
    )


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """How a folder is gone about."""

    retry_failed: bool = False
    """Only what failed before."""
    watch: bool = False
    """Wait for more, until Ctrl-C."""
    move_done: Path | None = None
    """Where recordings go that are done."""
    quiet: bool = False
    """Only errors on stderr."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The options of one call."""

    device: str | None
    input_: Path | None
    fast: bool
    save: Path | None
    record: Path | None
    duration: float | None
    push_to_talk: bool
    plain: bool
    type_to: str | None
    command: str | None
    quiet: bool

    @property
    def lines(self) -> bool:
        """Whether text goes out line by line rather than on a screen."""
        return self.plain or self.type_to is not None or not sys.stdout.isatty()


def check(options: LiveOptions) -> None:
    """Refuse before anything is heard what could not be done after it."""
    _check_input(options)
    if stdout_is_closed() and options.save is None and options.command is None:
        raise OutputError("standard output is closed, so no text can be shown; add --save FILE")
    drop_stdout_if_closed()
    if options.push_to_talk and (sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError("--push-to-talk needs a terminal to press keys in")
    if options.save is None:
        return
    if options.save.suffix.lower().removeprefix(".") not in FORMAT_NAMES:
        raise UsageError(
            f"{options.save}: --save takes a name that ends in {', '.join(FORMAT_NAMES)}"
        )
    if options.save.exists():
        raise OutputError(f"{options.save}: is there already; give another name, or move it away")
    if not options.save.parent.is_dir():
        raise OutputError(
            f"{options.save}: the folder {options.save.parent} does not exist; make it first"
        )
    check_folder(options.save.parent, "--save")


def _check_input(options: LiveOptions) -> None:
    """Refuse what does not go with a recording, or without one, and a recording that is none."""
    if options.input_ is None:
        if options.fast:
            raise UsageError("--fast goes with a recording: add --input FILE")
        return
    for option, given in {
        "--device": options.device is not None,
        "--record": options.record is not None,
        "--push-to-talk with --fast": options.push_to_talk and options.fast,
    }.items():
        if given:
            raise UsageError(f"{option} does not go with --input FILE, which is the sound; drop it")
    from stt.audio.files import STDIN, check_there

    if str(options.input_) == STDIN:
        raise UsageError(
            "--input takes a file that ends; for sound that goes on make a virtual microphone, see "
            "docs/live.md"
        )
    check_there(options.input_)
