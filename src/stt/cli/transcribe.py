"""`stt transcribe`: recordings in, text out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.inputs import Input, collect
from stt.cli.progress import RecordingProgress, StageProgress, clock
from stt.errors import OutputError, SttError, UsageError

if TYPE_CHECKING:
    from stt.settings import LoadedSettings, Settings
    from stt.transcriber import Transcriber
    from stt.transcript import Transcript

FORMAT_NAMES = ("txt", "srt", "vtt", "json", "tsv")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "--output-dir", metavar="DIR", help="Write one file per recording and format.")
@click.option(
    "-f",
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMAT_NAMES),
    help="What to write; may be given several times.  [default: txt]",
)
@click.option("-m", "--model", metavar="NAME|DIR", help="auto, an installed model, or a folder.")
@click.option(
    "-p", "--precision", type=click.Choice(("auto", "fp16", "fp32", "int8")), help="Weights to run."
)
@click.option(
    "--provider",
    type=click.Choice(("auto", "cpu", "cuda", "tensorrt", "directml", "coreml")),
    help="Where to run.",
)
@click.option("--strict/--no-strict", default=None, help="Make a fallback of -p an error.")
@click.option("--recursive", is_flag=True, help="Search folders in folders.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
def transcribe(
    paths: tuple[str, ...], config: Path | None, recursive: bool, quiet: bool, **flags: Any
) -> int:
    """Transcribe recordings and videos.

    PATH is a file, a folder, or - for standard input. Without -o the text is printed; everything
    else goes to stderr. Defaults come from stt_config.json and STT_* variables: see `stt config`.
    """
    from stt.settings import load_settings

    given = {key: value for key, value in flags.items() if value not in (None, ())}
    loaded = load_settings(config, given)
    settings = loaded.settings
    inputs, failures = collect(paths, recursive=recursive)
    for error in failures:
        click.echo(f"stt: {error}", err=True)
    if not inputs:
        return failures[0].exit_code
    target = Path(settings.output_dir) if settings.output_dir else None
    _check_output(target, settings, inputs)
    transcriber = _load(loaded, quiet=quiet)
    failed = len(failures)
    done: list[Transcript] = []
    for item in inputs:
        try:
            done.append(
                _one(transcriber, item, target, settings, several=len(inputs) > 1, quiet=quiet)
            )
        except SttError as error:
            failed += 1
            click.echo(f"stt: {error}", err=True)
    if not quiet and len(inputs) > 1:
        _summary(done, failed)
    return 1 if failed else 0


def _check_output(target: Path | None, settings: Settings, inputs: list[Input]) -> None:
    """Refuse before any work what could not be delivered after it."""
    if target is None:
        if len(settings.formats) > 1:
            raise UsageError("several formats need a folder to write to: add -o DIR")
        if len(inputs) > 1 and settings.formats[0] == "json":
            raise UsageError("json of several recordings needs a folder to write to: add -o DIR")
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise OutputError(
            f"{target}: cannot write there ({error.strerror}); choose another folder with -o"
        ) from error


def _load(loaded: LoadedSettings, *, quiet: bool) -> Transcriber:
    from stt.models.catalog import PARAKEET_V3, STARTER
    from stt.transcriber import load_with

    progress = StageProgress(quiet=quiet)
    try:
        transcriber = load_with(loaded, progress)
    finally:
        progress.close()
    if quiet:
        return transcriber
    if transcriber.model == STARTER:
        click.echo(
            "stt: using the built-in starter model (Whisper tiny.en): English only, small, and "
            "less accurate than Parakeet.\n"
            f"stt: for Parakeet ({PARAKEET_V3.size / 1e9:.1f} GB, 25 languages, word times) run: "
            "stt setup",
            err=True,
        )
    choice = transcriber.choice
    click.echo(
        f"stt: model {transcriber.model}, precision {choice.precision}, provider "
        f"{choice.provider} ({choice.reason})",
        err=True,
    )
    return transcriber


def _one(
    transcriber: Transcriber,
    item: Input,
    target: Path | None,
    settings: Settings,
    *,
    several: bool,
    quiet: bool,
) -> Transcript:
    """Transcribe one recording and deliver it."""
    from stt.writers import FORMATS, write_text

    with RecordingProgress(item.source, quiet=quiet) as progress:
        transcript = transcriber.transcribe(item.source, on_step=progress.on_step)
    if target is None:
        text = FORMATS[settings.formats[0]](transcript)
        click.echo(
            f"==> {item.source} <==\n{text}" if several else text, nl=not text.endswith("\n")
        )
    else:
        for name in settings.formats:
            path = target / item.stem.with_name(f"{item.stem.name}.{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, FORMATS[name](transcript))
    if not quiet:
        told = "" if transcript.text else "; no speech found"
        click.echo(
            f"stt: {item.source}: {clock(transcript.duration)} of audio in "
            f"{transcript.elapsed:.1f} s ({transcript.rtfx:.1f}x real time){told}",
            err=True,
        )
    return transcript


def _summary(done: list[Transcript], failed: int) -> None:
    audio = sum(transcript.duration for transcript in done)
    elapsed = sum(transcript.elapsed for transcript in done)
    speed = f" ({audio / elapsed:.1f}x real time)" if elapsed else ""
    click.echo(
        f"stt: {len(done)} done, {failed} failed; {clock(audio)} of audio in {elapsed:.1f} s"
        f"{speed}",
        err=True,
    )
