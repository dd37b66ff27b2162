"""`stt live`: the microphone in, text out as it is spoken."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.hints import HintedCommand
from stt.cli.model import CONFIG_OPTION, QUIET_OPTION, load_model, model_options
from stt.cli.progress import StageProgress, clock
from stt.cli.report import report
from stt.errors import OutputError, UsageError

if TYPE_CHECKING:
    from stt.audio.microphone import Block, Microphone
    from stt.cli.screen import Output, Tally
    from stt.cli.talk import Talk
    from stt.events import Event, Problem
    from stt.settings import LoadedSettings

SAVED_AS = ("txt", "srt", "vtt", "ass", "json", "tsv")


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The options of one call."""

    device: str | None
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


@click.command(cls=HintedCommand)
@click.option("--device", metavar="NAME|N", help="Microphone: a number or (part of) a name.")
@click.option("--list", "list_", is_flag=True, help="List the microphones, as `stt devices` does.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the text: .txt, .srt, .vtt, .ass, .json or .tsv; written anew after each utterance.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.flac",
    help="Keep the sound; without it the recording is deleted at a good end.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End after S seconds.  [default: Ctrl-C ends it]",
)
@click.option(
    "--push-to-talk", is_flag=True, help="Hear only while space is held, or between two presses."
)
@click.option("--plain", is_flag=True, help="A line for each utterance; no screen.")
@click.option(
    "--type-to", type=click.Choice(["-"]), help="Nothing but the text on standard output, at once."
)
@click.option(
    "--exec",
    "command",
    metavar="CMD",
    help="Run CMD in the shell for each utterance, its text on standard input.",
)
@model_options
@CONFIG_OPTION
@QUIET_OPTION
def live(list_: bool, config: Path | None, **options: Any) -> int:
    """Transcribe the microphone while you speak.

    Words that stand are shown at once, the draft of those being spoken dimmed; when you pause, the
    text becomes final. Ctrl-C finishes what is being said, prints and saves it, and ends with exit
    code 0; a second Ctrl-C ends at once.

    \b
    stt live                             speak; Ctrl-C ends
    stt live --save talk.txt --record talk.flac
    stt live --type-to - | your-program  each utterance a line
    """
    if list_:
        from stt.cli.devices import devices

        click.get_current_context().invoke(devices)
        return 0
    flags = {key: options.pop(key) for key in ("model", "precision", "provider", "strict")}
    wishes = _Wishes(**options)
    _check(wishes)
    from stt.settings import load_settings

    given = {key: value for key, value in flags.items() if value is not None}
    loaded = load_settings(config, given)
    return _listen(wishes, loaded)


def _check(wishes: _Wishes) -> None:
    """Refuse before anything is heard what could not be done after it."""
    from stt.cli.target import check_folder

    if wishes.push_to_talk and not sys.stdin.isatty():
        raise UsageError("--push-to-talk needs a terminal to press keys in")
    if wishes.save is None:
        return
    if wishes.save.suffix.lower().removeprefix(".") not in SAVED_AS:
        raise UsageError(f"{wishes.save}: --save takes a name that ends in {', '.join(SAVED_AS)}")
    if wishes.save.exists():
        raise OutputError(f"{wishes.save}: is there already; give another name, or move it away")
    if not wishes.save.parent.is_dir():
        raise OutputError(
            f"{wishes.save}: the folder {wishes.save.parent} does not exist; make it first"
        )
    check_folder(wishes.save.parent, "--save")


def _prepare(loaded: LoadedSettings, *, quiet: bool) -> None:
    """Have the model's files ready, which may take long, before anybody speaks."""
    from stt.models.locate import locate

    progress = StageProgress(quiet=quiet)
    try:
        locate(loaded.settings.model, loaded.places, progress)
    finally:
        progress.close()


def _listen(wishes: _Wishes, loaded: LoadedSettings) -> int:
    """Open the microphone first: what is said while the model loads is heard too."""
    from stt.audio.files import printable
    from stt.audio.microphone import Microphone

    if not wishes.quiet:
        _tell_leftovers()
    microphone = Microphone(wishes.device, keep=wishes.record, limit_s=wishes.duration)
    _prepare(loaded, quiet=wishes.quiet)
    with _telling_what_is_kept(microphone), microphone:
        name = printable(microphone.device.name)
        if not wishes.quiet:
            keys = "space talks, Ctrl-C ends" if wishes.push_to_talk else "Ctrl-C ends"
            report(f"listening to '{name}' at {microphone.rate / 1000:g} kHz; {keys}")
        return _session(wishes, loaded, microphone, name)


@contextmanager
def _telling_what_is_kept(microphone: Microphone) -> Iterator[None]:
    """Say where the recording is when anything, Ctrl-C among it, ends the block too early."""
    ended = False
    try:
        yield
        ended = True
    finally:
        recording = microphone.recording
        if not ended and recording is not None and recording.path.exists():
            report(f"the recording is kept: {recording.path}")


def _tell_leftovers() -> None:
    from stt.audio.recording import leftovers

    found = leftovers()
    if found:
        count = "a recording" if len(found) == 1 else f"{len(found)} recordings"
        report(
            f"{count} of earlier runs that did not end well: `stt transcribe {found[-1].parent}`; "
            "delete what you do not need"
        )


def _session(
    wishes: _Wishes, loaded: LoadedSettings, microphone: Microphone, device_name: str
) -> int:
    from stt.cli.screen import Lines, Screen, Tally
    from stt.cli.talk import Talk, keys
    from stt.streaming.notes import Notes
    from stt.streaming.stream import live as events_of

    with _ending(microphone.stop):
        transcriber = load_model(loaded, quiet=wishes.quiet, live=True)
        choice, tally = transcriber.choice, Tally()
        talk = Talk() if wishes.push_to_talk else None
        output: Output
        if wishes.lines:
            output = Lines(bare=wishes.type_to is not None, quiet=wishes.quiet)
        else:
            about = f"{device_name} | {transcriber.model} {choice.precision} on {choice.provider}"
            output = Screen(tally, about, talking=(lambda: talk.on) if talk else None)
        source_name = f"microphone: {device_name}"
        style = loaded.settings.subtitle_style
        notes = Notes(
            source_name,
            transcriber.model,
            choice,
            save=wishes.save,
            note=output.note,
            style=style,
        )
        source = _source(wishes, microphone, talk)
        with (
            keys(talk.press) if talk else nullcontext(),
            output,
            _commands(wishes.command, output) as hand_on,
            events_of(source, transcriber, microphone.rate) as events,
        ):
            for event in events:
                for take in (tally.take, output.take, notes.take, hand_on):
                    take(event)
            notes.duration = microphone.seconds
            notes.write()
    if not notes.saved:
        microphone.keep_recording()
        assert microphone.recording is not None
        report(f"the recording is kept: {microphone.recording.path}")
    if not wishes.quiet:
        _summary(tally, microphone, wishes)
    return 0 if notes.saved else 1


def _source(
    wishes: _Wishes, microphone: Microphone, talk: Talk | None
) -> Iterator[Block | Problem]:
    from stt.cli.talk import while_talking

    items = _until(microphone, wishes.duration)
    return while_talking(items, talk, microphone.rate) if talk else items


def _until(microphone: Microphone, duration: float | None) -> Iterator[Block | Problem]:
    """Yield what the microphone hears, of `duration` seconds where that is given."""
    from stt.audio.microphone import Block

    for item in microphone.blocks():
        if duration is None or not isinstance(item, Block):
            yield item
            continue
        left = round(duration * microphone.rate) - item.start_sample
        if left > 0:
            yield replace(item, samples=item.samples[:left])
        if left <= len(item.samples):
            microphone.stop()
            return


@contextmanager
def _ending(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C, or the system's request to end, stop listening; a second interrupts."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        stop()

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {
        number: signal.signal(number, ask)
        for name in names
        if (number := getattr(signal, name, None)) is not None
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _commands(command: str | None, output: Output) -> Iterator[Callable[[Event], None]]:
    """Give what hands final texts to `command`; those waiting are handed on at the end."""
    if command is None:
        yield lambda _: None
        return
    from stt.cli.commands import Commands

    with Commands(command, output.note, output.failed) as commands:
        yield commands.take


def _summary(tally: Tally, microphone: Microphone, wishes: _Wishes) -> None:
    said = f"{tally.utterances} utterance{'s' * (tally.utterances != 1)}"
    parts = [f"{said} in {clock(microphone.seconds)}"]
    if tally.latencies:
        parts.append(f"final text after {tally.median_s:.2f} s (median)")
    if tally.left_out:
        parts.append(f"{tally.left_out} noises left out")
    if tally.most_behind > 1:
        parts.append(f"at most {tally.most_behind:.1f} s behind")
    if microphone.lost:
        parts.append(f"{microphone.lost / microphone.rate:.1f} s of sound lost")
    report("; ".join(parts))
    kept = [str(path) for path in (wishes.save, wishes.record) if path is not None]
    if kept:
        report(f"saved: {', '.join(kept)}")
