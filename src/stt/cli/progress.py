"""What a person sees on stderr while work goes on: a live line on a terminal, plain lines else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TypeVar

import click
from typing_extensions import Self

from stt.cli.output import report, show_warnings

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

    from stt.pipeline import Step
    from stt.settings.loading import LoadedSettings
    from stt.transcriber import ModelTranscriber

PLAIN_EVERY_S = 10.0
_LONGEST_NAME = 24
ENOUGH_S = 10.0
"""Seconds done with from which on a share says something: fewer may be silence at the beginning."""


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 12:40 or 1:02:05."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def pace(audio: float, elapsed: float) -> str:
    """Say in how many seconds how many of audio were transcribed."""
    spent = f"{elapsed:.1f} s" if elapsed < 60 else clock(elapsed)
    speed = f" ({audio / elapsed:.1f}x real time)" if audio and elapsed else ""
    return f"{clock(audio)} of audio in {spent}{speed}"


def _short(name: str) -> str:
    """The file's name without its folders, at most 24 characters of it."""
    last = Path(name).name
    return last if len(last) <= _LONGEST_NAME else f"{last[: _LONGEST_NAME - 1]}…"


Own = TypeVar("Own", bound="Shown")


class Shown:
    """What has a bar on stderr; a context manager, which takes it away."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
            self._bar = None


class RecordingProgress(Shown):
    """Progress of one recording: audio time done, RTFx and time left."""

    def __init__(self, name: str, *, quiet: bool, text_on_stdout: bool = False) -> None:
        """Show nothing when `quiet`; `text_on_stdout`: text is printed meanwhile."""
        self._name = _short(name)
        self._text_on_stdout = text_on_stdout
        self._quiet = quiet
        self._began = self._spoke = time.monotonic()
        self._heard, self._at = 0.0, self._began
        self._duration: float | None = None
        self._is_moving = False

    def __enter__(self) -> RecordingProgress:
        # text that appears on the same terminal is progress enough, and a bar would disturb it
        text_is_seen = self._text_on_stdout and sys.stdout.isatty()
        if not self._quiet and not text_is_seen and sys.stderr.isatty():
            self._bar = bar(moving=self._now)
            self._task = self._bar.add_task(self._name, total=None, status="")
            self._bar.start()
        return self

    def on_step(self, step: Step, duration: float | None) -> None:
        """Show a step; `duration` is the recording's length in seconds, where known."""
        if self._quiet:
            return
        self._heard, self._duration, self._at = step.heard, duration, time.monotonic()
        self._is_moving |= bool(step.segments) or step.heard >= ENOUGH_S
        if self._bar:  # without a total it swings, as it does until the first batch is decoded
            total = duration if self._is_moving or step.coverage else None
            self._bar.update(self._task, completed=step.heard, total=total)
        elif self._at - self._spoke >= PLAIN_EVERY_S and not sys.stderr.isatty():
            self._spoke = self._at
            click.echo(f"stt: {self._name}: {self._now()}", err=True)

    def _now(self) -> str:
        """How far it is, with the time left, which counts down, or else the time it has taken."""
        now, spent = time.monotonic(), self._at - self._began
        text = clock(self._heard) + (f" of {clock(self._duration)}" if self._duration else "")
        left = 0.0
        if self._is_moving and self._heard and spent > 0:
            text += f", {self._heard / spent:.1f}x"
            rest = max((self._duration or 0.0) - self._heard, 0.0)
            left = rest * spent / self._heard - (now - self._at)
        return (
            f"{text}, {clock(left)} left"
            if left >= 1
            else f"{text}, {clock(now - self._began)} so far"
        )


class StageProgress(Shown):
    """Progress of preparing a model: (stage, done, total) calls."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
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
            self._task = self._bar.add_task(stage, total=total, status="")
            self._stage = stage
        self._bar.update(self._task, completed=done, total=total)


def load_model(loaded: LoadedSettings, *, quiet: bool, live: bool = False) -> ModelTranscriber:
    """Load what the settings name, and say on stderr what it is and why, unless `quiet`.

    `live`: see `stt.load`.

    Raises:
        SttError: with the cure in the text.
    """
    from stt.transcriber import load_with

    with StageProgress(quiet=quiet) as progress:
        show_warnings()
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


_BYTES = 1_000_000
"""Totals from here on are bytes: set-up counts nothing else so high."""


class SetupProgress(Shown):
    """Progress of set-up: a bar with the time left on a terminal, else a line now and then; news.

    A thread shows it, so that it moves while one step of the work takes long.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._task: TaskID | None = None
        self._stage = ""
        self._began = time.monotonic()
        self._spoke: float | None = None
        self._from = self._done = self._total = 0
        self._left: float | None = None
        self._left_at = 0.0
        self._lock = Lock()
        self._ended = Event()
        self._teller: Thread | None = None

    def note(self, line: str) -> None:
        """Print one line of news."""
        with self._lock:
            self._close_bar()
            if not self._quiet:
                report(line)

    def say(self, text: str) -> None:
        """Print text on stdout, where no bar stands any more."""
        with self._lock:
            self._close_bar()
        click.echo(text)

    def left(self, seconds: float) -> None:
        """Take the seconds that are left of everything; they count down until the next."""
        self._left, self._left_at = seconds, time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes, or of what else a stage counts, are done."""
        if self._quiet:
            return
        with self._lock:
            if stage != self._stage:
                self._close_bar()
                self._stage, self._began, self._from = stage, time.monotonic(), done
                self._spoke = None
            self._done, self._total = done, total
            if self._live:
                self._show()
        if not self._live and self._teller is None:
            self._ended.clear()
            self._teller = Thread(target=self._tell, daemon=True)
            self._teller.start()

    def _show(self) -> None:
        if self._bar is None:
            self._bar = bar(moving=self._text)
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=self._total, status="")
        assert self._task is not None
        self._bar.update(self._task, completed=self._done, total=self._total)

    def _tell(self) -> None:
        """Print a line where a stage takes over a second, and another each 10 s."""
        while not self._ended.wait(0.5):
            with self._lock:
                now = time.monotonic()
                due = self._began + 1 if self._spoke is None else self._spoke + PLAIN_EVERY_S
                if self._stage and now >= due:
                    self._spoke = now
                    click.echo(f"stt: {self._stage}: {self._text()}", err=True)

    def _text(self) -> str:
        """What is done of the stage, with rate and time left where bytes are counted; all left."""
        elapsed = time.monotonic() - self._began
        if self._total < _BYTES:
            text = f"{self._done} of {self._total}" if self._total > 1 else f"{elapsed:.0f} s"
            return f"{text}{self._all_left(', ')}"
        rate = (self._done - self._from) / elapsed if elapsed > 0 else 0.0
        left = f", {clock((self._total - self._done) / rate)} left" if rate else ""
        return (
            f"{self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s"
            f"{self._all_left(', ') or left}"
        )

    def _all_left(self, before: str) -> str:
        """The time left of everything, where it is known."""
        if self._left is None:
            return ""
        seconds = self._left - (time.monotonic() - self._left_at)
        return f"{before}about {clock(seconds)} left in all" if seconds >= 1 else ""

    def _close_bar(self) -> None:
        super().close()
        self._stage = ""

    def close(self) -> None:
        """Leave the terminal as it was; nothing more is shown."""
        self._ended.set()
        if self._teller:
            self._teller.join()
            self._teller = None
        with self._lock:
            self._close_bar()


def bar(moving: Callable[[], str] | None = None) -> Progress:
    """Return a bar for stderr: what is done, how far, and the task's `status`.

    Args:
        moving: asked for the text at every redraw instead.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
    from rich.text import Text

    class Moving(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(moving() if moving else task.fields["status"])

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TaskProgressColumn(),
        Moving(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # rich would carry the text to stderr
    )
