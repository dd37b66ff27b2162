"""`stt transcribe -o DIR`: many recordings into a folder, as they are there or as they arrive."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from stt.cli.folder_progress import FolderProgress
from stt.cli.report import report
from stt.cli.summary import SUMMARY, Summary, Tally

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stt.batch.folder import Delivery, Job, Outcome
    from stt.batch.journal import Entry, Journal
    from stt.batch.pool import OnStep, Pool
    from stt.errors import AudioError
    from stt.text.transcript import Transcript

_LOOK_S = 0.1
"""Seconds between two looks at what has ended, while waiting for recordings."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a folder is gone about."""

    retry_failed: bool = False
    """Only what failed before."""
    watch: bool = False
    """Wait for more, until Ctrl-C."""
    move_done: Path | None = None
    """Where recordings go that are done."""
    quiet: bool = False
    """Only errors on stderr."""


Collect = Callable[[], "tuple[list[Job], list[AudioError]]"]
"""What is there now, and what could not be searched."""


OpenPool = Callable[["OnStep"], "AbstractContextManager[Pool]"]
"""Opens what recordings are transcribed on."""


def into_folder(open_pool: OpenPool, collect: Collect, delivery: Delivery, manner: Manner) -> int:
    """Transcribe into a folder what is not done there; returns the exit code.

    Raises:
        OutputError: the folder's journal cannot be used.
    """
    from stt.batch.journal import Journal

    with Journal(delivery.output) as journal:
        return _Run(open_pool, collect, delivery, manner, journal).go()


class _Run:
    """One run of the command on one folder of results."""

    def __init__(
        self,
        open_pool: OpenPool,
        collect: Collect,
        delivery: Delivery,
        manner: Manner,
        journal: Journal,
    ) -> None:
        self._open_pool, self._collect, self._delivery = open_pool, collect, delivery
        self._manner, self._journal = manner, journal
        self._tally, self._summary = Tally(), None if manner.watch else Summary()

    def go(self) -> int:
        """Do what is there, or what comes; returns the exit code."""
        manner, jobs = self._manner, self._jobs()
        if manner.retry_failed and not jobs:
            report("nothing failed before")
            return self._tally.exit_code
        coming: Iterator[Job | None] = iter(jobs)
        if manner.watch:
            coming = _arriving(self._collect, self._journal, manner)
            if not manner.quiet:
                report("watching for recordings; Ctrl-C ends")
        progress = FolderProgress(jobs, self._tally, quiet=manner.quiet, endless=manner.watch)
        with progress:
            try:
                self._do(coming, progress)
            except KeyboardInterrupt as error:
                progress.close()
                return self._interrupted(len(jobs), error)
        if self._summary is not None:
            _summarise(self._summary, self._tally, self._delivery.output, quiet=manner.quiet)
        return self._tally.exit_code

    def _jobs(self) -> list[Job]:
        """What is there now, and is wanted."""
        from stt.batch.folder import named

        found, unread = self._collect()
        if not self._manner.watch:  # where a folder may come back, and is told of
            self._tally.unread = len(unread)
        jobs = named(found, self._journal)
        if not self._manner.retry_failed:
            return jobs
        return [job for job in jobs if _failed_before(self._journal.find(job.name))]

    def _do(self, jobs: Iterator[Job | None], progress: FolderProgress) -> None:
        from stt.batch.folder import transcribe_all

        journal, target = self._journal, self._manner.move_done
        with self._open_pool(progress.on_step) as pool, _told_at_once(progress):
            for outcome in transcribe_all(pool, jobs, self._delivery, journal):
                self._tally.ended(outcome)
                progress.ended(outcome)
                if target and outcome.state in ("done", "kept", "written", "copied"):
                    _move(outcome.job, target, journal, progress, self._tally)
                if self._summary is not None and outcome.state != "elsewhere":
                    self._summary.add(outcome, _transcript(outcome, journal))

    def _interrupted(self, jobs: int, error: KeyboardInterrupt) -> int:
        """Tell where it stopped; watching ends so, anything else is cut short."""
        if not self._manner.watch:
            left = jobs - self._tally.count
            report(f"stopped with {left} to do; run the same command again, it goes on there")
            return getattr(error, "exit_code", 130)
        if not self._manner.quiet:
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


def _failed_before(entry: Entry | None) -> bool:
    return entry is not None and entry.state in ("failed", "partly")


def _transcript(outcome: Outcome, journal: Journal) -> Transcript | None:
    """What a recording says, be it of this run or before."""
    return journal.transcript(outcome.job.name) if outcome.state == "kept" else outcome.transcript


def _summarise(summary: Summary, tally: Tally, output: Path, *, quiet: bool) -> None:
    """Write summary.json, and tell; of one recording alone enough was told."""
    several = tally.count + tally.unread > 1
    if several or (output / SUMMARY).exists():
        summary.write(output, tally)
    if several and not quiet:
        summary.tell(tally)


def _arriving(collect: Collect, journal: Journal, manner: Manner) -> Iterator[Job | None]:
    """Yield recordings as they arrive and have stopped growing; None while there is none."""
    from stt.batch.folder import named
    from stt.batch.watch import POLL_S, Arrivals

    arrivals = Arrivals()
    told: set[str] = set()
    while True:
        found, unread = collect()
        for error in unread:
            if str(error) not in told and not manner.quiet:
                report(error)  # a share that is away: wait for it
            told.add(str(error))
        ready = named(arrivals.ready(found, lambda job: job.source), journal)
        yield from ready
        again = time.monotonic() + (0.0 if ready else POLL_S)
        while time.monotonic() < again:
            yield None  # so that what has ended meanwhile is told
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
