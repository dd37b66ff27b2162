"""What a person sees on stderr while work goes on: a live line on a terminal, plain lines else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from stt.pipeline import Step

_PLAIN_EVERY_S = 10.0


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 12:40 or 1:02:05."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class RecordingProgress:
    """Progress of one recording: audio time done, RTFx and time left. A context manager."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._quiet = quiet
        self._began = self._spoke = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> RecordingProgress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _bar()
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
        elif now - self._spoke >= _PLAIN_EVERY_S:
            self._spoke = now
            click.echo(f"{self._name}: {told}", err=True)

    @staticmethod
    def _told(heard: float, duration: float | None, elapsed: float) -> str:
        speed = heard / elapsed if elapsed > 0 else 0.0
        of = f" of {clock(duration)}" if duration else ""
        left = ""
        if duration and speed > 0:
            left = f", {clock(max(duration - heard, 0) / speed)} left"
        return f"{clock(heard)}{of}, {speed:.1f}x real time{left}"


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
            self._bar = _bar()
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


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        console=Console(stderr=True),
        transient=True,
    )
