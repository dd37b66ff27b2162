"""`stt transcribe -o DIR`: many recordings into a folder, in sight, with a summary at the end."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

    began = time.monotonic()
    outcomes: list[Outcome] = []
    failed = False
    with Journal(delivery.output) as journal:
        jobs, unread = collect()
        jobs = named(jobs, journal)
        if manner.retry_failed:
            jobs = [job for job in jobs if _failed_before(journal.find(job.name))]
        progress = FolderProgress(jobs, quiet=manner.quiet, endless=manner.watch)
        coming = _arriving(collect, journal, manner) if manner.watch else iter(jobs)
        with progress:
            try:
                for outcome in transcribe_all(
                    transcriber, coming, delivery, journal, progress.on_step
                ):
                    progress.ended(outcome)
                    failed |= outcome.state == "failed" or _partly(outcome)
                    if manner.move_done and outcome.state in ("done", "kept", "written"):
                        _move(outcome.job, manner.move_done, journal, progress)
                    if not manner.watch:
                        outcomes.append(outcome)
            except KeyboardInterrupt:
                progress.close()
                if manner.watch:
                    report(f"stopped watching; {progress.counted}")
                    return 1 if failed else 0
                left = len(jobs) - len(outcomes)
                report(f"stopped with {left} to do; run the same command again, it goes on there")
                raise
    elapsed = time.monotonic() - began
    several = len(outcomes) != 1 or bool(unread)
    if several:
        _write_summary(delivery.output, outcomes, elapsed)
    if several and not manner.quiet:
        for line in _table(outcomes):
            click.echo(line, err=True)
        _totals(outcomes, elapsed, len(unread))
    return 1 if failed or unread else 0


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
        if manner.move_done:
            done = manner.move_done.absolute()
            found = [job for job in found if done not in Path(job.source).absolute().parents]
        ready = named(arrivals.ready(found, lambda job: job.source), journal)
        yield from ready
        again = time.monotonic() + (0.0 if ready else POLL_S)
        while time.monotonic() < again:
            yield None  # so that what has ended meanwhile is told
            time.sleep(_LOOK_S)


def _move(job: Job, target: Path, journal: Journal, progress: FolderProgress) -> None:
    """Move a recording that is done; one of the same name there keeps its own."""
    from stt.batch import identity

    source = Path(job.source)
    place = target / Path(job.name).parent / source.name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        numbered = (place.with_stem(f"{place.stem}-{number}") for number in count(2))
        free = next(path for path in chain([place], numbered) if not path.exists())
        shutil.move(source, free)
        journal.moved(job.name, identity(str(free)))
    except OSError as error:
        progress.say(f"{job.source}: could not be moved to {place.parent} ({error.strerror})")


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
        self._ended = self._failed = 0
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
            self._failed += outcome.state == "failed"
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
        return f"{self._ended - self._failed} done, {self._failed} failed"

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
            parts.append(f"{self._failed} failed")
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
        again = f"; done again: {outcome.told}" if outcome.told else ""
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


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table at the end: all recordings, or those of many that need attention."""
    shown = list(outcomes)
    if len(shown) > _MOST_ROWS:
        shown = [one for one in shown if one.state in ("failed", "elsewhere") or _partly(one)]
    shown = [one for one in shown if one.state != "kept"]
    if not shown:
        return []
    rows = [_HEADINGS, *(_row(one) for one in sorted(shown, key=lambda one: one.job.name))]
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


def _totals(outcomes: Sequence[Outcome], elapsed: float, unread: int) -> None:
    states = Counter(outcome.state for outcome in outcomes)
    audio = sum(o.transcript.duration for o in outcomes if o.transcript and o.state == "done")
    kept = states["kept"] + states["written"]
    parts = [f"{states['done']} done"]
    parts += [f"{kept} done before"] if kept else []
    parts += [f"{states['elsewhere']} under way elsewhere"] if states["elsewhere"] else []
    parts.append(f"{states['failed'] + unread} failed")
    speed = f" ({audio / elapsed:.1f}x real time)" if audio and elapsed else ""
    report(f"{', '.join(parts)}; {clock(audio)} of audio in {clock(elapsed)}{speed}")
    if states["failed"]:
        report("to try again what failed: the same command with --retry-failed")


def _write_summary(output: Path, outcomes: Sequence[Outcome], elapsed: float) -> None:
    """Write summary.json: what became of each recording of this run."""
    from stt.writers import write_text

    states = Counter(outcome.state for outcome in outcomes)
    document = {
        "recordings": len(outcomes),
        "states": dict(sorted(states.items())),
        "elapsed": round(elapsed, 3),
        "files": [_values(one) for one in sorted(outcomes, key=lambda one: one.job.name)],
    }
    write_text(output / SUMMARY, json.dumps(document, indent=2) + "\n")


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
