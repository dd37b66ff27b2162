"""`stt transcribe -o DIR`: many recordings into a folder, as they are there or as they arrive."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from stt.cli.folder_progress import FolderProgress
from stt.cli.report import report
from stt.cli.summary import SUMMARY, Summary, Tally

if TYPE_CHECKING:
    from stt.batch import Delivery, Job, Outcome
    from stt.errors import AudioError
    from stt.journal import Entry, Journal
    from stt.transcriber import Transcriber
    from stt.transcript import Transcript

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


def into_folder(
    transcriber: Transcriber, collect: Collect, delivery: Delivery, manner: Manner
) -> int:
    """Transcribe into a folder what is not done there; returns the exit code.

    Raises:
        OutputError: the folder's journal cannot be used.
    """
    from stt.batch import named, transcribe_all
    from stt.journal import Journal

    tally, summary = Tally(), None if manner.watch else Summary()
    with Journal(delivery.output) as journal:
        jobs, unread = collect()
        tally.failed |= {str(error) for error in unread}
        jobs = named(jobs, journal)
        if manner.retry_failed:
            jobs = [job for job in jobs if _failed_before(journal.find(job.name))]
            if not jobs:
                report("nothing failed before")
                return tally.exit_code
        progress = FolderProgress(jobs, tally, quiet=manner.quiet, endless=manner.watch)
        coming = _arriving(collect, journal, manner) if manner.watch else iter(jobs)
        with progress:
            try:
                for outcome in transcribe_all(
                    transcriber, coming, delivery, journal, progress.on_step
                ):
                    tally.ended(outcome)
                    progress.ended(outcome)
                    if manner.move_done and outcome.state in ("done", "kept", "written"):
                        _move(outcome.job, manner.move_done, journal, progress, tally)
                    if summary is not None:
                        summary.add(outcome, _transcript(outcome, journal))
            except KeyboardInterrupt:
                progress.close()
                if manner.watch:
                    if not manner.quiet:
                        report(f"stopped watching; {tally}")
                    return tally.exit_code
                left = len(jobs) - tally.count
                report(f"stopped with {left} to do; run the same command again, it goes on there")
                raise
    if summary is not None:
        _summarise(summary, tally, delivery.output, quiet=manner.quiet)
    return tally.exit_code


def _failed_before(entry: Entry | None) -> bool:
    return entry is not None and entry.state in ("failed", "partly")


def _transcript(outcome: Outcome, journal: Journal) -> Transcript | None:
    """What a recording says, be it of this run or before."""
    return journal.transcript(outcome.job.name) if outcome.state == "kept" else outcome.transcript


def _summarise(summary: Summary, tally: Tally, output: Path, *, quiet: bool) -> None:
    """Write summary.json, and tell; of one recording alone enough was told."""
    several = tally.count + len(tally.failed) > 1
    if several or (output / SUMMARY).exists():
        summary.write(output, tally)
    if several and not quiet:
        summary.tell(tally)


def _arriving(collect: Collect, journal: Journal, manner: Manner) -> Iterator[Job | None]:
    """Yield recordings as they arrive and have stopped growing; None while there is none."""
    from stt.batch import named
    from stt.watch import POLL_S, Arrivals

    arrivals = Arrivals()
    told: set[str] = set()
    while True:
        found, unread = collect()
        for error in unread:
            if str(error) not in told and not manner.quiet:
                report(error)  # a folder that is empty, or a share that is away: wait for it
            told.add(str(error))
        ready = named(arrivals.ready(found, lambda job: job.source), journal)
        yield from ready
        again = time.monotonic() + (0.0 if ready else POLL_S)
        while time.monotonic() < again:
            yield None  # so that what has ended meanwhile is told
            time.sleep(_LOOK_S)


def _move(job: Job, target: Path, journal: Journal, progress: FolderProgress, tally: Tally) -> None:
    """Move a recording that is done, whole or not at all; one of the same name keeps its own."""
    from stt.batch import identity

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
