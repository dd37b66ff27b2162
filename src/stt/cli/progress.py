"""What a person sees on stderr while work goes on: a live line on a terminal, plain lines else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from stt.pipeline import Step

PLAIN_EVERY_S = 10.0
_LONGEST_NAME = 24


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 12:40 or 1:02:05."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _short(name: str) -> str:
    """The file's name without its folders, at most 24 characters of it."""
    last = Path(name).name
    return last if len(last) <= _LONGEST_NAME else f"{last[: _LONGEST_NAME - 1]}…"


class RecordingProgress:
    """Progress of one recording: audio time done, RTFx and time left. A context manager."""

    def __init__(self, name: str, *, quiet: bool, text_on_stdout: bool = False) -> None:
        """Show nothing when `quiet`; `text_on_stdout`: text is printed meanwhile."""
        self._name = _short(name)
        self._text_on_stdout = text_on_stdout
        self._quiet = quiet
        self._began = self._spoke = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> RecordingProgress:
        # text that appears on the same terminal is progress enough, and a bar would disturb it
        text_is_seen = self._text_on_stdout and sys.stdout.isatty()
        if not self._quiet and not text_is_seen and sys.stderr.isatty():
            self._bar = bar()
            self._task = self._bar.add_task(self._name, total=None, told="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def on_step(self, step: Step, duration: float | None) -> None:
        """Show a step; `duration` is the recording's length in seconds, where known."""
        if self._quiet:
            return
        now = time.monotonic()
        told = self._told(step.heard, duration, now - self._began)
        if self._bar:
            self._bar.update(self._task, completed=step.heard, total=duration, told=told)
        elif now - self._spoke >= PLAIN_EVERY_S and not sys.stderr.isatty():
            self._spoke = now
            click.echo(f"stt: {self._name}: {told}", err=True)

    @staticmethod
    def _told(heard: float, duration: float | None, elapsed: float) -> str:
        speed = heard / elapsed if elapsed > 0 else 0.0
        of = f" of {clock(duration)}" if duration else ""
        left = ""
        if not heard:
            return f"{clock(heard)}{of}"
        if duration:
            left = f", {clock(max(duration - heard, 0) / speed)} left"
        return f"{clock(heard)}{of}, {speed:.1f}x{left}"


class StageProgress:
    """Progress of preparing a model: (stage, done, total) calls, ended by `close`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of a stage are done."""
        if self._quiet:
            return
        if not sys.stderr.isatty():
            if stage != self._stage:
                click.echo(f"stt: preparing the model: {stage}", err=True)
            self._stage = stage
            return
        if self._bar is None:
            self._bar = bar()
            self._bar.start()
        if stage != self._stage or self._task is None:
            self._task = self._bar.add_task(stage, total=total, told="")
            self._stage = stage
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
            self._bar = None


_BYTES = 1_000_000
"""Totals from here on are bytes: set-up counts nothing else so high."""


class SetupProgress:
    """Progress of set-up: a bar with rate and time left on a terminal, else lines; and news."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._began = self._spoke = time.monotonic()
        self._from = 0

    def note(self, line: str) -> None:
        """Print one line of news."""
        self.close()
        if not self._quiet:
            click.echo(f"stt: {line}", err=True)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes, or of what else a stage counts, are done."""
        if self._quiet:
            return
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._began, self._spoke, self._from = stage, now, now, done
            if not self._live:
                click.echo(f"stt: {stage}", err=True)
        told = self._told(done, total, now - self._began)
        if self._live:
            if self._bar is None:
                self._bar = bar()
                self._bar.start()
                self._task = self._bar.add_task(stage, total=total, told="")
            assert self._task is not None
            self._bar.update(self._task, completed=done, total=total, told=told)
        elif now - self._spoke >= PLAIN_EVERY_S:
            self._spoke = now
            click.echo(f"stt: {stage}: {told or f'{done} of {total}'}", err=True)

    def _told(self, done: int, total: int, elapsed: float) -> str:
        """Bytes, rate and time left, where bytes are counted."""
        if total < _BYTES:
            return ""
        rate = (done - self._from) / elapsed if elapsed > 0 else 0.0
        left = f", {clock((total - done) / rate)} left" if rate else ""
        return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s{left}"

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
            self._bar, self._stage = None, ""


def bar() -> Progress:
    """Return a bar for stderr: what is done, how far, and `told`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # rich would carry the text to stderr
    )
