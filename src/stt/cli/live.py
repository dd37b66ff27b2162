"""`stt live`: the microphone in, text out as it is spoken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.output import report
from stt.cli.parsing import CONFIG_OPTION, QUIET_OPTION, HintedCommand, model_options
from stt.cli.progress import StageProgress, clock, load_model
from stt.transcript import FORMAT_NAMES

if TYPE_CHECKING:
    from stt.audio.microphone import Block, Microphone
    from stt.cli.live_controls import LiveOptions
    from stt.cli.screen import Output, Tally
    from stt.events import Event, Problem
    from stt.settings.loading import LoadedSettings
    from stt.streaming.replay import Playback


@click.command(cls=HintedCommand)
@click.option("--device", metavar="NAME|N", help="Microphone: a number or (part of) a name.")
@click.option(
    "--input",
    "input_",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A recording in the microphone's place, at the speed it was spoken.",
)
@click.option("--fast", is_flag=True, help="With --input: as fast as this machine can.")
@click.option("--list", "list_", is_flag=True, help="List the microphones, as `stt devices` does.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Keep the text: {', '.join(f'.{name}' for name in FORMAT_NAMES[:-1])} or "
    f".{FORMAT_NAMES[-1]}; written anew after each utterance.",
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
    stt live --input talk.mp3 --fast     a recording in the microphone's place
    """
    if list_:
        from stt.cli.devices import devices

        click.get_current_context().invoke(devices)
        return 0
    from stt.cli.live_controls import LiveOptions, check

    flags = {key: options.pop(key) for key in ("model", "precision", "provider", "strict")}
    asked = LiveOptions(**options)
    check(asked)
    from stt.settings.loading import load_settings

    given = {key: value for key, value in flags.items() if value is not None}
    loaded = load_settings(config, given)
    return _listen(asked, loaded)


def _prepare(loaded: LoadedSettings, *, quiet: bool) -> None:
    """Have the model's files ready, which may take long, before anybody speaks."""
    from stt.install.locate import locate

    with StageProgress(quiet=quiet) as progress:
        locate(loaded.settings.model, loaded.places, progress)


def _listen(asked: LiveOptions, loaded: LoadedSettings) -> int:
    """Open the microphone first: what is said while the model loads is heard too."""
    from stt.audio.microphone import Microphone
    from stt.system.files import printable

    if asked.input_ is not None:
        return _play(asked, loaded, asked.input_)
    if not asked.quiet:
        _tell_leftovers()
    microphone = Microphone(asked.device, keep=asked.record, limit_s=asked.duration)
    _prepare(loaded, quiet=asked.quiet)
    with _telling_what_is_kept(microphone), microphone:
        name = printable(microphone.device.name)
        if not asked.quiet:
            keys = "space talks, Ctrl-C ends" if asked.push_to_talk else "Ctrl-C ends"
            report(f"listening to '{name}' at {microphone.rate / 1000:g} kHz; {keys}")
        return _session(asked, loaded, microphone, name)


def _play(asked: LiveOptions, loaded: LoadedSettings, path: Path) -> int:
    """Take a file for the microphone; 1 where something of it could not be read."""
    from stt.streaming.replay import Playback

    _prepare(loaded, quiet=asked.quiet)
    with Playback(path, real_time=not asked.fast) as playback:
        name = playback.device.name
        if not asked.quiet:
            speed = "as fast as it can be" if asked.fast else "at the speed it was spoken"
            report(f"hearing '{name}', {speed}; Ctrl-C ends")
        return _session(asked, loaded, playback, name) or int(playback.damaged)


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
    asked: LiveOptions, loaded: LoadedSettings, microphone: Microphone | Playback, device_name: str
) -> int:
    from stt.cli.live_controls import ExecHook, PushToTalk, keys, while_talking
    from stt.cli.screen import Lines, Screen, Tally
    from stt.streaming.replay import replayed
    from stt.streaming.stream import live as events_of
    from stt.streaming.transcript_file import TranscriptFile
    from stt.text.transcript import now

    with _ending(microphone.stop):
        transcriber = load_model(loaded, quiet=asked.quiet, live=True)
        choice, tally = transcriber.choice, Tally()
        talk = PushToTalk() if asked.push_to_talk else None
        output: Output
        if asked.lines:
            output = Lines(bare=asked.type_to is not None, quiet=asked.quiet)
        else:
            about = f"{device_name} | {transcriber.model} {choice.precision} on {choice.provider}"
            output = Screen(tally, about, talking=(lambda: talk.on) if talk else None)
        source_name = str(asked.input_ or f"microphone: {device_name}")
        style = loaded.settings.subtitle_style
        notes = TranscriptFile(
            source_name,
            transcriber.model,
            choice,
            save=asked.save,
            note=output.note,
            style=style,
            language=transcriber.language,
            date=now(),
        )
        rate, source = microphone.rate, _until(microphone, asked.duration)
        if talk:
            source = while_talking(source, talk, rate)
        opened: AbstractContextManager[Iterable[Event]]
        if asked.fast:
            opened = nullcontext(replayed(source, transcriber, rate))
        else:
            opened = events_of(source, transcriber, rate)
        takers = [tally.take, output.take, notes.take]
        with ExitStack() as stack:
            stack.enter_context(keys(talk.press) if talk else nullcontext())
            stack.enter_context(output)
            if asked.command is not None:  # texts that wait are handed on at the end
                hook = ExecHook(asked.command, output.note, output.failed)
                takers.append(stack.enter_context(hook).take)
            for event in stack.enter_context(opened):
                for take in takers:
                    take(event)
            notes.duration = microphone.seconds
            notes.write()
    if not notes.saved and microphone.recording is not None:
        microphone.keep_recording()
        report(f"the recording is kept: {microphone.recording.path}")
    if not asked.quiet:
        _summary(tally, microphone, asked)
    return 0 if notes.saved else 1


def _until(microphone: Microphone | Playback, duration: float | None) -> Iterator[Block | Problem]:
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


def _summary(tally: Tally, microphone: Microphone | Playback, asked: LiveOptions) -> None:
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
    kept = [str(path) for path in (asked.save, asked.record) if path is not None]
    if kept:
        report(f"saved: {', '.join(kept)}")
