"""Many recordings under way, in sight: one bar for all on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stt.cli.progress import ENOUGH_S, PLAIN_EVERY_S, bar, clock
from stt.cli.report import report
from stt.system.files import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from stt.batch.folder import Job, Outcome
    from stt.cli.summary import Tally
    from stt.pipeline import Step
    from stt.transcript import Coverage

_WORTH_TELLING_S = 1.0
"""Seconds of skipped audio like speech from which on it is told."""


class FolderProgress:
    """One bar for all: recordings, audio, speed, time left and failures; else a line now and then.

    A context manager; `on_step` may be called from several threads.
    """

    def __init__(
        self, jobs: Sequence[Job], tally: Tally, *, quiet: bool, endless: bool = False
    ) -> None:
        """Show what `tally` counts, and nothing but failures when `quiet`.

        `endless`: nobody knows how many will come.
        """
        self._tally = tally
        self._sizes = {} if endless else {job.source: _size(job.source) for job in jobs}
        self._total = sum(self._sizes.values())
        self._jobs = "" if endless else f" of {len(jobs)}"
        self._quiet = quiet
        self._done_bytes = 0
        self._parts: dict[str, tuple[float, float | None]] = {}
        self._lock = threading.Lock()
        self._spoke = time.monotonic()
        self._bar: Progress | None = None
        self._last = ""

    def __enter__(self) -> FolderProgress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = bar(moving=self._now)
            # without a total it swings, as it does until something is done
            self._task = self._bar.add_task("transcribing", total=None, told="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def on_step(self, source: object, step: Step, duration: float | None) -> None:
        """Show a recording's progress."""
        if step.fallback and not self._quiet:
            self.say(f"{printable(str(source))}: {step.fallback}")
        with self._lock:
            self._parts[str(source)] = (step.heard, duration)
            self._show()

    def ended(self, outcome: Outcome) -> None:
        """Tell what became of a recording, which is counted."""
        source = outcome.job.source
        with self._lock:
            self._parts.pop(source, None)
            if outcome.state == "elsewhere":
                self.news(f"{source}: {outcome.detail}; it is waited for")
                return
            self._done_bytes += self._sizes.get(source, 0)
            self._show()
        if outcome.error is not None:
            self.say(outcome.detail, outcome.error)
        else:
            for line in _failures(outcome) if self._quiet else _lines(outcome):
                self.say(line)

    def news(self, line: str) -> None:
        """Print a line, unless quiet."""
        if not self._quiet:
            self.say(printable(line))

    def say(self, line: str, error: BaseException | None = None) -> None:
        """Print a line of news, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(f"stt: {line}", markup=False, highlight=False, soft_wrap=True)
        else:
            report(line, error)

    def _show(self) -> None:
        """Show where things stand; the lock is held."""
        if self._quiet:
            return
        now = time.monotonic()
        partly = sum(
            self._sizes.get(source, 0) * min(1.0, heard / duration)
            for source, (heard, duration) in self._parts.items()
            if duration
        )
        done = self._done_bytes + partly
        if self._bar:
            longest = max((heard for heard, _ in self._parts.values()), default=0.0)
            if not self._sizes or self._tally.count or longest >= ENOUGH_S:
                self._last = self._told(done, now - self._tally.began)
                self._bar.update(self._task, completed=done, total=self._total or None)
        elif now - self._spoke >= PLAIN_EVERY_S and not sys.stderr.isatty():
            self._spoke = now
            report(self._told(done, now - self._tally.began))

    def _now(self) -> str:
        """How far it is; asked at every redraw, for the time that goes by before anything is done.

        Takes no lock: rich holds its own meanwhile.
        """
        elapsed = clock(time.monotonic() - self._tally.began)
        return self._last or f"{self._tally.count}{self._jobs} done, {elapsed} so far"

    def _told(self, done: float, elapsed: float) -> str:
        audio = self._tally.audio + sum(heard for heard, _ in self._parts.values())
        parts = [f"{self._tally.count}{self._jobs} done", f"{clock(audio)} of audio"]
        if audio and elapsed:
            parts.append(f"{audio / elapsed:.1f}x")
        if done and self._total > done:
            parts.append(f"{clock(elapsed * (self._total - done) / done)} left")
        parts += [f"{len(self._tally.partly)} in part"] if self._tally.partly else []
        parts += [f"{len(self._tally.failed)} failed"] if self._tally.failed else []
        return ", ".join(parts)


def _size(source: str) -> int:
    """Bytes of a recording; those that cannot be asked weigh little."""
    try:
        return max(1, Path(source).stat().st_size)
    except (OSError, ValueError):
        return 1


def _lines(outcome: Outcome) -> Iterator[str]:
    """Say what became of a recording that did not fail."""
    source, transcript = printable(outcome.job.source), outcome.transcript
    written = printable(", ".join(map(str, outcome.written)))
    if outcome.state == "kept":
        yield f"{source}: done before"
    elif outcome.state in ("written", "copied"):
        yield f"{source}: {outcome.detail or 'done before'} -> {written}"
    elif transcript is not None:
        again = f"; {outcome.detail}" if outcome.detail else ""
        nothing = "" if transcript.text else "; no speech found"
        told = f"{source}: {clock(transcript.duration)} of audio{nothing} -> {written}{again}"
        yield told
        yield from (f"{source}: {line}" for line in warnings(transcript.coverage))


def _failures(outcome: Outcome) -> Iterator[str]:
    """Say why a recording is done only in part."""
    source = printable(outcome.job.source)
    coverage = outcome.transcript.coverage if outcome.transcript else None
    if outcome.state == "partly":
        yield from (f"{source}: {line}" for line in warnings(coverage, quiet=True))


def warnings(coverage: Coverage | None, *, quiet: bool = False) -> Iterator[str]:
    """Say what of a recording did not become text, though it may be speech.

    `quiet`: only what makes it one that is done in part.
    """
    if coverage is None:
        return
    for failure in coverage.failures:
        yield f"warning: {failure}"
    if quiet:
        return
    yield from (f"note: {line}" for line in coverage.notes)
    if coverage.like_speech >= _WORTH_TELLING_S:
        yield (
            f"warning: {coverage.like_speech:.1f} s that may be speech were left out; --no-vad "
            "decodes everything"
        )
    if coverage.invented:
        yield f"{coverage.invented} words that were made up over silence were left out"
