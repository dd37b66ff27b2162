"""`stt devices`: the microphones there are, and how loud one is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stt.audio.devices import Device
    from stt.audio.microphone import Microphone
    from stt.audio.sound_check import Level

_DEFAULT = ""
"""What `--meter` without a device gives."""
_NAME, _API = 25, 11
"""Widths of the table's columns for text: 79 with the others."""
_BAR = 40
_PER_SECOND = 10
_HOLD_S = 2.0
"""Seconds the highest peak stays on show."""


@click.command()
@click.option(
    "--meter",
    metavar="[DEVICE]",
    is_flag=False,
    flag_value=_DEFAULT,
    help="Show how loud the default input is, or the one with this number or (part of) a name.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="End the meter after this time.  [default: Ctrl-C ends it]",
)
def devices(meter: str | None, seconds: float | None) -> None:
    """List the microphones; `*` is the default. With --meter, show how loud one is.

    \b
    stt devices                          list the inputs
    stt devices --meter                  level of the default input, until Ctrl-C
    stt devices --meter headset          level of the input called headset
    """
    if meter is not None:
        _meter(meter or None, seconds)
        return
    if seconds is not None:
        raise click.UsageError("--seconds goes with --meter")
    from stt.audio.devices import inputs

    there = inputs()
    if not there:
        click.echo("stt: no microphone is there; connect one or allow access to it", err=True)
    else:
        click.echo(table(there), nl=False)


def table(there: list[Device]) -> str:
    """Lines of at most 79 characters, one for each input, below a heading."""
    head = f"    # {'name':{_NAME}} {'host API':{_API}}  ch   kHz  accepts kHz\n"
    return head + "".join(_row(device) for device in there)


def _row(device: Device) -> str:
    from stt.system.files import printable

    name = _cut(printable(device.name), _NAME)
    api = _cut(device.host_api.removeprefix("Windows "), _API)
    accepted = " ".join(map(_khz, device.accepted_rates)) or "busy"
    return (
        f"{'*' if device.is_default else ' '} {device.index:3} {name:{_NAME}} {api:{_API}} "
        f"{device.max_channels:3} {_khz(device.default_rate):>5}  {accepted}\n"
    )


def _khz(rate: int) -> str:
    return f"{rate / 1000:.4g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# --- the meter ---------------------------------------------------------------------------------


def _meter(device: str | None, seconds: float | None) -> None:
    """Show the level ten times a second on a terminal, once a second elsewhere."""
    from stt.audio.microphone import Microphone

    live = sys.stdout.isatty()
    with Microphone(device, record=False) as microphone:
        click.echo(f"stt: {_source(microphone)}; Ctrl-C ends", err=True)
        try:
            with _stopped_after(microphone, seconds):
                _show(microphone, live)
        except KeyboardInterrupt:  # the ordinary end
            pass
        finally:
            if live:
                click.echo()


def _source(microphone: Microphone) -> str:
    from stt.system.files import printable

    used = microphone.format
    channels = "mono" if used.channels == 1 else f"{used.channels} channels"
    name = printable(microphone.device.name)
    return f"listening to '{name}' at {_khz(used.rate)} kHz, {channels}, {used.dtype}"


@contextmanager
def _stopped_after(microphone: Microphone, seconds: float | None) -> Iterator[None]:
    """End the microphone's blocks after a time, even when it gives none; None: never."""
    timer = threading.Timer(seconds or 0.0, microphone.stop)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show(microphone: Microphone, live: bool) -> None:
    from stt.events import Problem

    began = time.monotonic()
    spoke = began - 0.5  # the first line comes soon
    held_db, held_at = -200.0, began
    for item in microphone.blocks():
        now = time.monotonic()
        if isinstance(item, Problem):
            click.echo(f"{chr(10) * live}stt: {item.message}", err=True)
            continue
        level = microphone.level
        if level.peak_db >= held_db or now - held_at > _HOLD_S:
            held_db, held_at = level.peak_db, now
        if now - spoke >= (1 / _PER_SECOND if live else 1.0):
            spoke = now
            line = meter_line(level, held_db)
            click.echo(f"\r{line}" if live else line, nl=not live)


def meter_line(level: Level, held_db: float) -> str:
    """One line of 78 characters: a bar of the RMS level, `|` the peak held, and the figures."""
    from stt.cli.screen import level_bar

    bar = level_bar(level.rms_db, held_db, _BAR)
    return f"[{bar}] {level.rms_db:6.1f} dB  peak {held_db:6.1f} dB{_verdict(held_db)}"


def _verdict(peak_db: float) -> str:
    """What to think of a peak, in seven characters."""
    if peak_db > -1.0:
        return "  LOUD "
    return "  ok   " if peak_db > -45.0 else "  faint"
