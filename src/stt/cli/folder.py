"""`stt transcribe -o DIR`: many recordings into a folder, as they are there or as they arrive."""

from __future__ import annotations

import errno
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from stt.cli.output import report
from stt.cli.progress import ENOUGH_S, PLAIN_EVERY_S, Shown, bar, clock
from stt.cli.summary import SUMMARY, Summary, Tally, outcome_lines
from stt.system.files import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stt.batch.folder import Delivery, Job, Outcome
    from stt.batch.journal import Journal
    from stt.batch.pool import OnStep, Pool
    from stt.errors import AudioError
    from stt.pipeline import Step

_LOOK_S = 0.1
"""Seconds between two looks at what has ended, while waiting for recordings."""


Collect = Callable[[], "tuple[list[Job], list[AudioError]]"]
"""What is there now, and what could not be searched."""


OpenPool = Callable[["OnStep"], "AbstractContextManager[Pool]"]
"""Opens what recordings are transcribed on."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """How a folder is gone about."""

    retry_failed: bool = False
    """Only what failed before."""
    watch: bool = False
    """Wait for more, until Ctrl-C."""
    move_done: Path | None = None
    """Where recordings go that are done."""
    quiet: bool = False
    """Only errors on stderr."""


def into_folder(
    open_pool: OpenPool, collect: Collect, delivery: Delivery, options: FolderOptions
) -> int:
    """Transcribe into a folder what is not done there; returns the exit code.

    Raises:
        OutputError: the folder's journal cannot be used.
    """
    from stt.batch.journal import Journal

    with Journal(delivery.output) as journal:
        summary = None if options.watch else Summary()
        return _Run(open_pool, collect, delivery, options, journal, Tally(), summary).go()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the command on one folder of results."""

    _open_pool: OpenPool
    _collect: Collect
    _delivery: Delivery
    _options: FolderOptions
    _journal: Journal
    _tally: Tally
    _summary: Summary | None

    def go(self) -> int:
        """Do what is there, or what comes; returns the exit code."""
        options, jobs = self._options, self._jobs()
        if options.retry_failed and not jobs:
            report("nothing failed before")
            return self._tally.exit_code
        coming: Iterator[Job | None] = iter(jobs)
        if options.watch:
            coming = _arriving(self._collect, self._journal, options)
            if not options.quiet:
                report("watching for recordings; Ctrl-C ends")
        progress = FolderProgress(jobs, self._tally, quiet=options.quiet, endless=options.watch)
        with progress:
            try:
                self._do(coming, progress)
            except KeyboardInterrupt as error:
                progress.close()
                return self._interrupted(len(jobs), error)
        if self._summary is not None:
            _summarise(self._summary, self._tally, self._delivery.output, quiet=options.quiet)
        return self._tally.exit_code

    def _jobs(self) -> list[Job]:
        """What is there now, and is wanted."""
        from stt.batch.folder import named

        found, unread = self._collect()
        if not self._options.watch:  # where a folder may come back, and is reported
            self._tally.unread = len(unread)
        jobs = named(found, self._journal)
        if not self._options.retry_failed:
            return jobs
        before = [self._journal.find(job.name) for job in jobs]
        failed = ("failed", "partly")
        return [j for j, e in zip(jobs, before, strict=True) if e and e.state in failed]

    def _do(self, jobs: Iterator[Job | None], progress: FolderProgress) -> None:
        from stt.batch.folder import transcribe_all

        journal, target = self._journal, self._options.move_done
        with self._open_pool(progress.on_step) as pool, _told_at_once(progress):
            for outcome in transcribe_all(pool, jobs, self._delivery, journal):
                self._tally.ended(outcome)
                progress.ended(outcome)
                if target and outcome.state in ("done", "kept", "written", "copied"):
                    _move(outcome.job, target, journal, progress, self._tally)
                if self._summary is not None and outcome.state != "elsewhere":
                    kept = outcome.state == "kept"
                    said = journal.transcript(outcome.job.name) if kept else outcome.transcript
                    self._summary.add(outcome, said)

    def _interrupted(self, jobs: int, error: KeyboardInterrupt) -> int:
        """Tell where it stopped; watching ends so, anything else is cut short."""
        if not self._options.watch:
            left = jobs - self._tally.count
            report(f"stopped with {left} to do; run the same command again, it goes on there")
            return getattr(error, "exit_code", 130)
        if not self._options.quiet:
            report(f"stopped watching; {self._tally}")
        return self._tally.exit_code


@contextmanager
def _told_at_once(progress: FolderProgress) -> Iterator[None]:
    """Answer Ctrl-C before what is under way is waited for."""
    try:
        yield
    except KeyboardInterrupt:
        progress.say("stopping, when the utterances under way are done")
        raise


def _summarise(summary: Summary, tally: Tally, output: Path, *, quiet: bool) -> None:
    """Write summary.json, and print; of one recording alone enough was printed."""
    several = tally.count + tally.unread > 1
    if several or (output / SUMMARY).exists():
        summary.write(output, tally)
    if several and not quiet:
        summary.tell(tally)


def _arriving(collect: Collect, journal: Journal, options: FolderOptions) -> Iterator[Job | None]:
    """Yield recordings as they arrive and have stopped growing; None while there is none."""
    from stt.batch.folder import POLL_S, Arrivals, named

    arrivals = Arrivals()
    reported: set[str] = set()
    while True:
        found, unread = collect()
        for error in unread:
            if str(error) not in reported and not options.quiet:
                report(error)  # a share that is away: wait for it
            reported.add(str(error))
        ready = named(arrivals.ready(found, lambda job: job.source), journal)
        yield from ready
        again = time.monotonic() + (0.0 if ready else POLL_S)
        while time.monotonic() < again:
            yield None  # so that what has ended meanwhile is reported
            time.sleep(_LOOK_S)


def _move(job: Job, target: Path, journal: Journal, progress: FolderProgress, tally: Tally) -> None:
    """Move a recording that is done, whole or not at all; one of the same name keeps its own."""
    from stt.batch.folder import identity

    source = Path(job.source)
    place = target / Path(job.name).parent / source.name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        numbered = (place.with_stem(f"{place.stem}-{number}") for number in count(2))
        free = next(path for path in chain([place], numbered) if not path.exists())
        try:
            source.rename(free)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_across(source, free)
        journal.moved(job.name, identity(str(free)))
        progress.news(f"{job.source}: moved to {free}")
    except OSError as error:
        at = error.filename or place.parent
        progress.say(f"{job.source}: could not be moved to {place.parent} ({at}: {error.strerror})")
        tally.failed.add(job.source)


def _move_across(source: Path, target: Path) -> None:
    """Move a file to another disk; where it cannot be deleted here, no copy stays there."""
    try:
        shutil.copy2(source, target)
        source.unlink()
    except OSError:
        target.unlink(missing_ok=True)
        raise


class FolderProgress(Shown):
    """One bar for all: recordings, audio, speed, time left and failures; else a line now and then.

    `on_step` may be called from several threads.
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
        self._last = ""

    def __enter__(self) -> FolderProgress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = bar(moving=self._now)
            # without a total it swings, as it does until something is done
            self._task = self._bar.add_task("transcribing", total=None, status="")
            self._bar.start()
        return self

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
            for line in outcome_lines(outcome, quiet=self._quiet):
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
