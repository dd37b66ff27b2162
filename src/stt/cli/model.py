"""What commands that recognise have in common: their options, and loading the model in sight."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stt.cli.completion import models
from stt.cli.progress import StageProgress
from stt.cli.report import report

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
        type=click.Choice(("auto", "fp16", "mixed", "fp32", "int8")),
        help="Weights to run.",
    ),
    click.option(
        "--provider",
        type=click.Choice(("auto", "cpu", "cuda", "tensorrt", "directml", "coreml")),
        help="Where to run.",
    ),
    click.option("--strict/--no-strict", default=None, help="Make a fallback of -p an error."),
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


def load_model(loaded: LoadedSettings, *, quiet: bool, live: bool = False) -> ModelTranscriber:
    """Load what the settings name, and say on stderr what it is and why, unless `quiet`.

    `live`: see `stt.load`.

    Raises:
        SttError: with the cure in the text.
    """
    from stt.transcriber import load_with

    progress = StageProgress(quiet=quiet)
    try:
        transcriber = load_with(loaded, progress, live=live)
    finally:
        progress.close()
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
