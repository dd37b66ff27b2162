"""`stt transcribe -o DIR`: many recordings into a folder, in sight, with a summary at the end."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.progress import bar, clock
from stt.cli.report import report

if TYPE_CHECKING:
    from rich.progress import Progress

    from stt.batch import Delivery, Job, Outcome
    from stt.errors import AudioError
    from stt.journal import Journal
    from stt.pipeline import Step
    from stt.transcriber import Transcriber

SUMMARY = "summary.json"
_PLAIN_EVERY_S = 10.0
_MOST_ROWS = 20
"""Rows of the table at the end; of more recordings only those are in it that need attention."""
_LOOK_S = 0.1
"""Seconds between two looks at what has ended, while waiting for recordings."""
_WORTH_TELLING_S = 1.0
"""Seconds of skipped audio like speech from which on it is told."""


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

    run = _Run(delivery.output, manner)
    with Journal(delivery.output) as journal:
        jobs, unread = collect()
        jobs = named(jobs, journal)
        if manner.retry_failed:
            jobs = [job for job in jobs if _failed_before(journal.find(job.name))]
            if not jobs:
                report("nothing failed before")
                return 1 if unread else 0
        progress = FolderProgress(jobs, quiet=manner.quiet, endless=manner.watch)
        coming = _arriving(collect, journal, manner) if manner.watch else iter(jobs)
        with progress:
            try:
                for outcome in transcribe_all(
                    transcriber, coming, delivery, journal, progress.on_step
                ):
                    progress.ended(outcome)
                    run.ended(outcome, journal, progress)
            except KeyboardInterrupt:
                progress.close()
                if manner.watch:
                    if not manner.quiet:
                        report(f"stopped watching; {progress.counted}")
                    return 1 if run.failed else 0
                left = len(jobs) - run.count
                report(f"stopped with {left} to do; run the same command again, it goes on there")
                raise
    run.summarise(len(unread))
    return 1 if run.failed or unread else 0


class _Run:
    """What became of the recordings of one run: in few words, as there may be many."""

    def __init__(self, output: Path, manner: Manner) -> None:
        self._output, self._manner = output, manner
        self._began = time.monotonic()
        self._files: list[dict[str, Any]] = []
        self._rows: list[tuple[str, ...]] = []
        self._attention: list[tuple[str, ...]] = []
        self._states: Counter[str] = Counter()
        self._audio = 0.0
        self.failed: set[str] = set()
        """Recordings that failed, or of which a stretch did."""

    @property
    def count(self) -> int:
        """Recordings that ended."""
        return self._states.total()

    def ended(self, outcome: Outcome, journal: Journal, progress: FolderProgress) -> None:
        """Note what became of a recording, and move it where that is wanted."""
        source = outcome.job.source
        self.failed.discard(source)  # cured, where it failed before
        if outcome.state == "failed" or _partly(outcome):
            self.failed.add(source)
        target = self._manner.move_done
        finished = outcome.state in ("done", "kept", "written")
        if target and finished and not _move(outcome.job, target, journal, progress):
            self.failed.add(source)
        self._states[outcome.state] += 1
        if self._manner.watch:
            return
        if outcome.state == "kept":
            outcome = replace(outcome, transcript=journal.transcript(outcome.job.name))
        elif outcome.transcript and outcome.state == "done":
            self._audio += outcome.transcript.duration
        self._files.append(_values(outcome))
        if outcome.state != "kept" and len(self._rows) <= _MOST_ROWS:
            self._rows.append(_row(outcome))
        if outcome.state in ("failed", "elsewhere") or _partly(outcome):
            self._attention.append(_row(outcome))

    def summarise(self, unread: int) -> None:
        """Write summary.json, and print table and totals."""
        several = self.count != 1 or unread > 0
        elapsed = time.monotonic() - self._began
        if several or (self._output / SUMMARY).exists():
            self._write(elapsed)
        if several and not self._manner.quiet:
            rows = self._rows if len(self._rows) <= _MOST_ROWS else self._attention
            for line in _table(rows):
                click.echo(line, err=True)
            _totals(self._states, self._audio, elapsed, unread)

    def _write(self, elapsed: float) -> None:
        from stt.writers import write_text

        document = {
            "recordings": self.count,
            "states": dict(sorted(self._states.items())),
            "elapsed": round(elapsed, 3),
            "files": sorted(self._files, key=lambda file: str(file["name"])),
        }
        write_text(self._output / SUMMARY, json.dumps(document, indent=2) + "\n")


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


def _move(job: Job, target: Path, journal: Journal, progress: FolderProgress) -> bool:
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
        progress.say(f"{job.source}: could not be moved to {place.parent} ({error.strerror})")
        return False
    return True


def _move_across(source: Path, target: Path) -> None:
    """Move a file to another disk; where it cannot be deleted here, no copy stays there."""
    try:
        shutil.copy2(source, target)
        source.unlink()
    except OSError:
        target.unlink(missing_ok=True)
        raise


def _failed_before(entry: Any) -> bool:
    return entry is not None and entry.state == "failed"


def _partly(outcome: Outcome) -> bool:
    """Whether the model made nothing of a stretch."""
    coverage = outcome.transcript.coverage if outcome.transcript else None
    return bool(coverage and coverage.failures)


class FolderProgress:
    """One bar for all: recordings, audio, speed, time left and failures; else a line now and then.

    A context manager; `on_step` may be called from several threads.
    """

    def __init__(self, jobs: Sequence[Job], *, quiet: bool, endless: bool = False) -> None:
        """Show nothing but failures when `quiet`; `endless`: nobody knows how many will come."""
        self._sizes = {} if endless else {job.source: _size(job.source) for job in jobs}
        self._total = sum(self._sizes.values())
        self._jobs = "" if endless else f" of {len(jobs)}"
        self._quiet = quiet
        self._done_bytes = 0
        self._ended = 0
        self._failed: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._audio = 0.0
        self._parts: dict[str, tuple[float, float | None]] = {}
        self._lock = threading.Lock()
        self._began = self._spoke = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> FolderProgress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = bar()
            self._task = self._bar.add_task("transcribing", total=self._total or None, told="")
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
            self.say(f"{source}: {step.fallback}")
        with self._lock:
            self._parts[str(source)] = (step.heard, duration)
            self._show()

    def ended(self, outcome: Outcome) -> None:
        """Count a recording, and tell what became of it."""
        source = outcome.job.source
        with self._lock:
            self._parts.pop(source, None)
            self._done_bytes += self._sizes.get(source, 0)
            self._ended += 1
            self._failed.discard(source)
            if outcome.state == "failed":
                self._failed.add(source)
            self._counts[outcome.state] += 1
            if outcome.transcript and outcome.state == "done":
                self._audio += outcome.transcript.duration
            self._show()
        if outcome.error is not None:
            self.say(outcome.told, outcome.error)
        elif not self._quiet:
            for line in _lines(outcome):
                self.say(line)

    @property
    def counted(self) -> str:
        """How many recordings ended, and failed."""
        before = self._counts["kept"] + self._counts["written"]
        told = f", {before} done before" if before else ""
        return f"{self._counts['done']} done{told}, {len(self._failed)} failed"

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
            told = self._told(done, now - self._began)
            self._bar.update(self._task, completed=done, told=told)
        elif now - self._spoke >= _PLAIN_EVERY_S and not sys.stderr.isatty():
            self._spoke = now
            report(self._told(done, now - self._began))

    def _told(self, done: float, elapsed: float) -> str:
        audio = self._audio + sum(heard for heard, _ in self._parts.values())
        parts = [f"{self._ended}{self._jobs} done", f"{clock(audio)} of audio"]
        if audio and elapsed:
            parts.append(f"{audio / elapsed:.1f}x")
        if done and self._total > done:
            parts.append(f"{clock(elapsed * (self._total - done) / done)} left")
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        return ", ".join(parts)


def _size(source: str) -> int:
    """Bytes of a recording; those that cannot be asked weigh little."""
    try:
        return max(1, Path(source).stat().st_size)
    except (OSError, ValueError):
        return 1


def _lines(outcome: Outcome) -> Iterator[str]:
    """Say what became of a recording that did not fail."""
    source, transcript = outcome.job.source, outcome.transcript
    written = ", ".join(map(str, outcome.written))
    if outcome.state == "kept":
        yield f"{source}: done before"
    elif outcome.state == "elsewhere":
        yield f"{source}: {outcome.told}"
    elif outcome.state == "written":
        yield f"{source}: done before -> {written}"
    elif transcript is not None:
        again = f"; {outcome.told}" if outcome.told else ""
        nothing = "" if transcript.text else "; no speech found"
        told = f"{source}: {clock(transcript.duration)} of audio{nothing} -> {written}{again}"
        yield told
        yield from (f"{source}: {line}" for line in warnings(transcript.coverage))


def warnings(coverage: Any) -> Iterator[str]:
    """Say what of a recording did not become text, though it may be speech."""
    if coverage is None:
        return
    for failure in coverage.failures:
        yield f"warning: {failure}"
    if coverage.like_speech >= _WORTH_TELLING_S:
        yield (
            f"warning: {coverage.like_speech:.1f} s that may be speech were left out; --no-vad "
            "decodes everything"
        )
    if coverage.invented:
        yield f"{coverage.invented} words that were made up over silence were left out"


_HEADINGS = ("recording", "audio", "decoded", "silence", "other", "failed", "words", "state")


def _table(found: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of the table at the end."""
    if not found:
        return []
    rows = [_HEADINGS, *sorted(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(outcome: Outcome) -> tuple[str, ...]:
    transcript = outcome.transcript
    coverage = transcript.coverage if transcript else None
    if transcript is None or coverage is None:
        return (outcome.job.name, *[""] * 6, outcome.state)
    skipped = coverage.skipped
    silence = skipped.get("silence", 0.0) + skipped.get("digital zero", 0.0)
    return (
        outcome.job.name,
        clock(transcript.duration),
        clock(coverage.decoded),
        clock(silence),
        clock(skipped.get("non-speech", 0.0)),
        clock(skipped["failed"]) if "failed" in skipped else "",
        f"{len(transcript.text.split()):,}",
        outcome.state,
    )


def _totals(states: Counter[str], audio: float, elapsed: float, unread: int) -> None:
    kept = states["kept"] + states["written"]
    parts = [f"{states['done']} done"]
    parts += [f"{kept} done before"] if kept else []
    parts += [f"{states['elsewhere']} under way elsewhere"] if states["elsewhere"] else []
    parts.append(f"{states['failed'] + unread} failed")
    speed = f" ({audio / elapsed:.1f}x real time)" if audio and elapsed else ""
    report(f"{', '.join(parts)}; {clock(audio)} of audio in {clock(elapsed)}{speed}")
    if states["failed"]:
        report("to try again only what failed: --retry-failed")


def _values(outcome: Outcome) -> dict[str, Any]:
    from stt.writers import coverage_values

    transcript = outcome.transcript
    return {
        "name": outcome.job.name,
        "source": outcome.job.source,
        "state": outcome.state,
        "told": outcome.told,
        "duration": round(transcript.duration, 3) if transcript else None,
        "elapsed": round(transcript.elapsed, 3) if transcript else None,
        "coverage": coverage_values(transcript.coverage) if transcript else None,
        "written": [str(path) for path in outcome.written],
    }
