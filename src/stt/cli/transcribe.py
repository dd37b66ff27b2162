"""`stt transcribe`: recordings in, text out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli import outcomes
from stt.cli.output import report
from stt.cli.parsing import (
    CONFIG_OPTION,
    QUIET_OPTION,
    FormatList,
    HintedCommand,
    flattened,
    model_options,
    one_of,
    subtitle_options,
)
from stt.cli.progress import RecordingProgress, load_model, pace
from stt.errors import OutputError, SttError, UsageError
from stt.transcript import FORMAT_NAMES

if TYPE_CHECKING:
    from stt.audio.selection import Selection
    from stt.cli.folder import FolderOptions, OpenPool
    from stt.cli.inputs import Input
    from stt.cli.output import OutputFile
    from stt.errors import AudioError
    from stt.pipeline import Step
    from stt.settings.loading import LoadedSettings, Settings
    from stt.text.transcript import Transcript
    from stt.transcriber import ModelTranscriber


@click.command(cls=HintedCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option(
    "-o",
    "--output-dir",
    metavar="DIR|FILE",
    type=click.Path(),
    help="Write a file for each recording and format into DIR; of one recording, FILE.srt.",
)
@click.option(
    "-f",
    "--format",
    "formats",
    multiple=True,
    metavar="F[,F...]",
    type=FormatList(FORMAT_NAMES),
    callback=flattened,
    help=f"What to write: {', '.join(FORMAT_NAMES)}.  [default: txt]",
)
@model_options
@click.option("--recursive", is_flag=True, help="Search folders in folders.")
@click.option(
    "--ray",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="With -o: on the nodes of a Ray cluster.",
)
@click.option(
    "--jobs",
    metavar="auto|N",
    shell_complete=one_of("auto"),
    help="Recordings at a time.  [default: auto]",
)
@subtitle_options
@click.option(
    "--track",
    metavar="N|LANG|all",
    shell_complete=one_of("all"),
    help="Sound track to hear.  [default: as players]",
)
@click.option(
    "--channel",
    metavar="left|right|N|each",
    shell_complete=one_of("left", "right", "each"),
    help="Channel to hear.  [default: all, mixed]",
)
@click.option("--start", metavar="T", help="Begin there: seconds or h:m:s.")
@click.option("--end", metavar="T", help="End there: seconds or h:m:s.")
@click.option("--no-vad", "vad", flag_value=False, default=None, help="Decode silence too.")
@click.option("--force", is_flag=True, help="With -o: do again what is done.")
@click.option("--retry-failed", is_flag=True, help="With -o: only what failed before.")
@click.option("--watch", is_flag=True, help="With -o: wait for more recordings, until Ctrl-C.")
@click.option("--move-done", metavar="DIR", help="With -o: move recordings there that are done.")
@CONFIG_OPTION
@QUIET_OPTION
def transcribe(
    paths: tuple[str, ...],
    *,
    config: Path | None,
    recursive: bool,
    force: bool,
    retry_failed: bool,
    watch: bool,
    move_done: str | None,
    ray: str | None,
    track: str | None,
    channel: str | None,
    start: str | None,
    end: str | None,
    quiet: bool,
    **flags: Any,
) -> int:
    """Transcribe recordings and videos.

    PATH is a file, a folder, or - for standard input. Without -o the text is printed; everything
    else goes to stderr. With -o a journal in DIR notes what is done: run the same command again
    after any interruption, and it goes on there. Defaults come from stt_config.json and STT_*
    variables: see `stt config`.

    \b
    stt transcribe talk.mp3              print what was said
    stt transcribe talk.mp3 -o talk.srt  write subtitles
    stt transcribe talks --recursive -o out -f txt,srt,json
    """
    from stt.audio.selection import Selection
    from stt.cli.output import output_file
    from stt.settings.loading import load_settings

    given = {key: value for key, value in flags.items() if value not in (None, ())}
    selection = Selection.of(track, channel, start, end)
    asked = _Asked(paths, load_settings(config, given), selection, recursive, quiet)
    settings = asked.loaded.settings
    named = given.get("output_dir")
    file = output_file(named, given.get("formats", ()), FORMAT_NAMES, paths) if named else None
    if settings.output_dir and file is None:
        from stt.cli.folder import FolderOptions

        options = FolderOptions(retry_failed, watch, Path(move_done) if move_done else None, quiet)
        return _into_folder(asked, Path(settings.output_dir), options, force=force, ray=ray)
    for option, given_it in {
        "--force": force,
        "--retry-failed": retry_failed,
        "--watch": watch,
        "--move-done": bool(move_done),
        "--ray": ray is not None,
    }.items():
        if given_it:
            raise UsageError(f"{option} goes with a folder of results: add -o DIR")
    if file is not None:
        settings = settings.model_copy(update={"formats": (file.form,)})
    return _one_by_one(asked, settings, file)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be heard, and how."""

    paths: tuple[str, ...]
    loaded: LoadedSettings
    selection: Selection
    recursive: bool
    quiet: bool

    def model(self) -> ModelTranscriber:
        """Load the model, and say what it cannot."""
        transcriber = replace(load_model(self.loaded, quiet=self.quiet), selection=self.selection)
        if self.loaded.settings.word_timestamps and not transcriber.recognizer.tells_words:
            name = transcriber.model
            report(f"warning: {name} does not tell when words are said: no word timestamps")
        return transcriber

    def tell_passed_over(self, apart: Path | None = None) -> None:
        """Tell of recordings in folders that are not searched; `apart` is one that never is."""
        from stt.cli.inputs import passed_over

        if not self.recursive and not self.quiet:
            for line in passed_over(self.paths, apart and apart.absolute()):
                report(line)


def _one_by_one(asked: _Asked, settings: Settings, file: OutputFile | None) -> int:
    """Print the text of each recording, or write that of the one there is into `file`."""
    from stt.cli.inputs import collect, readable
    from stt.cli.output import check_folder

    found, failures = collect(asked.paths, recursive=asked.recursive)
    inputs, unreadable = readable(found)
    failures += unreadable
    for error in failures:
        report(error, error)
    asked.tell_passed_over()
    if not inputs:
        return failures[0].exit_code
    _check_output(settings, inputs)
    if file is not None:
        check_folder(file.path.parent, "-o")
    elif outcomes.stdout_is_closed():
        raise OutputError("standard output is closed, so no text can be printed; add -o DIR")
    transcriber, quiet = asked.model(), asked.quiet
    failed = len(failures)
    done: list[Transcript] = []
    for item in inputs:
        apart = "\n" if done else ""
        heading = f"{apart}==> {item.source} <==\n" if len(found) > 1 else ""
        try:
            done.append(_one(transcriber, item, settings, heading=heading, quiet=quiet, file=file))
        except SttError as error:
            failed += 1
            report(error, error)
    partly = sum(bool(one.coverage and one.coverage.failures) for one in done)
    if not quiet and len(found) > 1:
        from stt.cli.summary import counts

        audio, elapsed = sum(t.duration for t in done), sum(t.elapsed for t in done)
        report(f"{counts(len(done) - partly, failed, partly=partly)}; {pace(audio, elapsed)}")
    return 1 if failed or partly else 0


def _into_folder(
    asked: _Asked, target: Path, options: FolderOptions, *, force: bool, ray: str | None
) -> int:
    from stt.audio.files import STDIN
    from stt.batch.folder import Delivery, Job
    from stt.cli.folder import into_folder
    from stt.cli.inputs import all_missing, collect
    from stt.cli.output import check_folder
    from stt.system.files import printable

    def jobs() -> tuple[list[Job], list[AudioError]]:
        waiting = options.watch or options.move_done is not None  # an empty folder is as it should
        inputs, unread = collect(asked.paths, recursive=asked.recursive, waiting=waiting)
        if options.move_done:  # what lies there is done
            done = options.move_done.absolute()
            inputs = [i for i in inputs if done not in Path(i.source).absolute().parents]
        return [Job(item.source, item.stem.as_posix()) for item in inputs], unread

    if ray is not None and STDIN in asked.paths:
        raise UsageError("- does not go with --ray: name a file")
    if options.watch and not any(Path(path).is_dir() for path in asked.paths):
        raise UsageError(f"--watch needs a folder to watch; {printable(asked.paths[0])} is none")
    if not options.watch:
        found, unread = jobs()
        missing = all_missing([job.source for job in found])
        for error in unread + missing:
            report(error, error)
        if not found or missing:
            if not options.quiet and not unread + missing:
                report("no recordings to do")
            return 1 if unread + missing else 0
        asked.tell_passed_over(options.move_done)
    check_folder(target, "-o")
    if options.move_done:
        check_folder(options.move_done, "--move-done")
    settings = asked.loaded.settings
    delivery = Delivery(target, settings.formats, force, settings.subtitle_style)
    return into_folder(_pool(asked, ray), jobs, delivery, options)


def _pool(asked: _Asked, ray: str | None) -> OpenPool:
    """What recordings are transcribed on: the nodes of a cluster, or this machine."""
    if ray is not None:
        from stt.batch.ray_pool import ray_pool

        def note(line: str) -> None:
            if not asked.quiet:
                report(line)

        return lambda on_step: ray_pool(ray, asked.loaded, on_step, note, asked.selection)
    from stt.batch.pool import local_pool

    transcriber = asked.model()
    return lambda on_step: local_pool(transcriber, on_step)


def _check_output(settings: Settings, inputs: list[Input]) -> None:
    """Refuse before any work what could not be printed after it."""
    if len(settings.formats) > 1:
        raise UsageError("several formats need a folder to write to: add -o DIR")
    if len(inputs) > 1 and settings.formats[0] == "json":
        raise UsageError("json of several recordings needs a folder to write to: add -o DIR")


def _one(
    transcriber: ModelTranscriber,
    item: Input,
    settings: Settings,
    *,
    heading: str,
    quiet: bool,
    file: OutputFile | None,
) -> Transcript:
    """Transcribe one recording and print it, text as it comes, or write it into `file`."""
    from stt.cli.output import Printing
    from stt.cli.summary import warnings

    is_text = settings.formats[0] == "txt" and file is None
    as_it_comes = is_text and not transcriber.selection.has_parts  # else by time, in the end
    with (
        Printing(heading) as printing,
        RecordingProgress(item.source, quiet=quiet, text_on_stdout=as_it_comes) as progress,
    ):

        def on_step(step: Step, duration: float | None) -> None:
            if step.fallback and not quiet:
                printing.tell(f"{item.source}: {step.fallback}")
            if as_it_comes:
                printing.take(step.segments)
            progress.on_step(step, duration)

        transcript = transcriber.transcribe(item.source, on_step=on_step)
        progress.close()  # what is printed now would stand behind the bar
        if is_text:
            printing.take(() if as_it_comes else transcript.segments)
            printing.show("")  # the heading, where nothing was said
        elif file is None:
            printing.show(transcript.to(settings.formats[0], settings.subtitle_style))
    saved = file.write(transcript, settings) if file else ""
    if not quiet:
        nothing = "" if transcript.text else "; no speech found"
        report(f"{item.source}: {pace(transcript.duration, transcript.elapsed)}{nothing}")
        if saved:
            report(saved)
    for line in warnings(transcript.coverage, quiet=quiet):
        report(f"{item.source}: {line}")
    return transcript
