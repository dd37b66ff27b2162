"""What a person sees of a live session: a screen on a terminal, a line for each utterance else."""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from stt.cli.output import report
from stt.events import Committed, Draft, Event, Final, Level, Problem, State
from stt.text.subtitles import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

_BEHIND_S = 1.0
"""Seconds that a final text may be late before it is said."""
_REFRESH_S, _IDLE_REFRESH_S = 0.1, 0.25
"""Seconds between two drawings, while somebody speaks and while nobody does."""
_BAR, _FLOOR_DB = 24, -60.0
_SETTLED = "…"
_REMEMBERED = 200
"""Final texts that are shown again in a window made narrower."""


def stamp(seconds: float) -> str:
    """Return seconds as 0:03.2 or 1:02:03.4."""
    tenths = round(seconds * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    tail = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"


def span(final: Final) -> tuple[float, float]:
    """Return the seconds in which an utterance was spoken."""
    if not final.segments:
        return final.start, final.end
    return final.segments[0].start, final.segments[-1].end


@dataclass
class Tally:
    """Figures of a session."""

    utterances: int = 0
    left_out: int = 0
    """Texts taken for noise."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from each endpoint to its final text; seams are none."""
    most_behind: float = 0.0

    def take(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Level):
            self.most_behind = max(self.most_behind, event.lag_s)
        elif isinstance(event, Final):
            self.utterances += bool(event.text)
            self.left_out += bool(event.suppressed)
            if not event.seam:
                self.latencies.append(event.latency_s)

    @property
    def median_s(self) -> float:
        """Median of the latencies; there must be one."""
        return statistics.median(self.latencies)


class Lines:
    """One line on standard output for each final text, at once; news on stderr."""

    def __init__(self, *, bare: bool, quiet: bool) -> None:
        """`bare`: text without times; `quiet`: no news."""
        self._bare, self._quiet = bare, quiet
        self._behind = False

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def take(self, event: Event) -> None:
        """Print a final's text, tell a problem."""
        if isinstance(event, Final) and event.text:
            start, end = span(event)
            times = "" if self._bare else f"[{stamp(start)} - {stamp(end)}] "
            click.echo(times + one_line(event.text))
            sys.stdout.flush()
        elif isinstance(event, Problem):
            report(event.message)
        elif isinstance(event, Level):
            self._tell_lag(event.lag_s)

    def _tell_lag(self, lag_s: float) -> None:
        if lag_s > _BEHIND_S and not self._behind:
            self.note(f"{lag_s:.1f} s behind; no text is lost, drafts are left out meanwhile")
        self._behind = lag_s > (0 if self._behind else _BEHIND_S)

    def note(self, line: str) -> None:
        """Print a line on stderr."""
        if not self._quiet:
            report(line)

    def failed(self, line: str) -> None:
        """Print a line on stderr, however quiet."""
        report(line)


class Screen:
    """Final texts scroll by; below them the utterance being spoken, the level and the figures."""

    def __init__(
        self,
        tally: Tally,
        about: str,
        *,
        talking: Callable[[], bool] | None = None,
        console: Console | None = None,
    ) -> None:
        """`about`: device and model; `talking`: whether the push-to-talk key is down."""
        from rich.console import Console

        self._console = console or Console(highlight=False)
        self._tally, self._about, self._talking = tally, about, talking
        self._state = "listening"
        self._level: Level | None = None
        self._committed = self._draft = ""
        self._drawn = 0.0
        self._width = self._console.width
        self._finals: deque[Final] = deque(maxlen=_REMEMBERED)

    def __enter__(self) -> Screen:
        from rich.live import Live

        self._live = Live(
            self.render(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def take(self, event: Event) -> None:
        """Show an event; levels are drawn when it is time, all else at once."""
        self._refit()
        if isinstance(event, Level):
            self._level = event
            due = _IDLE_REFRESH_S if self._state == "listening" else _REFRESH_S
            if time.monotonic() - self._drawn < due:
                return
        elif isinstance(event, State):
            self._state = event.name
        elif isinstance(event, Committed):
            self._committed = f"{self._committed} {event.text}".strip()
        elif isinstance(event, Draft):
            self._committed, self._draft = event.committed, event.text
        elif isinstance(event, Final):
            self._settle(event)
        else:
            self.note(event.message)
        self._drawn = time.monotonic()
        self._live.update(self.render(), refresh=True)

    def _refit(self) -> None:
        """Draw anew in a window that has become narrower.

        The terminal has wrapped the lines that were there, so nobody knows where they stand.
        """
        before, self._width = self._width, self._console.width
        if self._width < before:
            from rich.control import Control

            self._console.control(Control.clear(), Control.home())
            for final in list(self._finals)[-self._console.height :]:
                self._print(final)

    def _settle(self, final: Final) -> None:
        self._committed, self._draft = final.carried, ""
        self._finals.append(final)
        self._print(final)

    def _print(self, final: Final) -> None:
        from rich.table import Table
        from rich.text import Text

        if final.text:
            line = Table.grid(padding=(0, 1))
            line.add_column(no_wrap=True, style="dim")
            line.add_column()
            line.add_row(stamp(span(final)[0]), Text(final.text))
            self._console.print(line)

    def note(self, line: str) -> None:
        """Print a line above the screen."""
        from rich.text import Text

        self._console.print(Text(f"stt: {line}", style="yellow"))

    def failed(self, line: str) -> None:
        """Print a line above the screen."""
        self.note(line)

    def render(self) -> RenderableType:
        """Return the part of the screen that changes."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        if self._committed or self._draft:
            spoken = Text(self._committed)
            spoken.append(f"{' ' * bool(self._committed)}{_SETTLED} ")
            spoken.append(self._draft, style="dim italic")
            parts.append(spoken)
        for line in (self._now(), self._figures()):
            parts.append(Text(line, style="cyan", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _now(self) -> str:
        state = self._state
        if self._talking is not None and not self._talking():
            state = "space = talk" if state == "listening" else state
        level = self._level
        rms_db, peak_db = (level.rms_db, level.peak_db) if level else (-100.0, -100.0)
        bar = level_bar(rms_db, peak_db, _BAR)
        return f"{state:12} [{bar}] {max(rms_db, -99.9):5.1f} dB{self._behind()}"

    def _behind(self) -> str:
        lag_s = self._level.lag_s if self._level else 0.0
        return f"  {lag_s:.1f} s behind" if lag_s > _BEHIND_S else ""

    def _figures(self) -> str:
        if not self._tally.latencies:
            return f"{self._about} | Ctrl-C ends"
        last = self._tally.latencies[-1]
        return f"text after {last:.2f} s, median {self._tally.median_s:.2f} s | {self._about}"


Output = Lines | Screen


def level_bar(rms_db: float, peak_db: float, width: int) -> str:
    """Return a bar of the RMS level from -60 to 0 dB, `|` the peak."""

    def columns(db: float) -> int:
        return round(width * min(1.0, max(0.0, (db - _FLOOR_DB) / -_FLOOR_DB)))

    bar = "#" * columns(rms_db) + "-" * (width - columns(rms_db))
    peak = columns(peak_db)
    return f"{bar[: peak - 1]}|{bar[peak:]}" if peak else bar
