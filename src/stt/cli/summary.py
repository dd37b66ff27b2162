"""What became of the recordings of one run: counted as they end, listed in the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len, set_cell_size

from stt.batch.journal import FOLDER
from stt.cli.output import report
from stt.cli.progress import clock, pace
from stt.system.files import printable

if TYPE_CHECKING:
    from stt.batch.folder import Outcome
    from stt.text.transcript import Transcript
    from stt.transcript import Coverage

SUMMARY = f"{FOLDER}/summary.json"
"""Below the folder of results, where no result of a recording can lie."""
_MOST_ROWS = 20
"""Rows of the table at the end; of more recordings only those are in it that need attention."""

_WORTH_TELLING_S = 1.0
"""Seconds of skipped audio like speech from which on it is reported."""


def counts(done: int, failed: int, *, before: int = 0, copied: int = 0, partly: int = 0) -> str:
    """Return how many recordings ended how, e.g. `2 done, 1 done in part, 0 failed`."""
    named = {
        "done": done,
        "done before": before,
        "copied": copied,
        "done in part": partly,
        "failed": failed,
    }
    return ", ".join(f"{n} {what}" for what, n in named.items() if n or what in ("done", "failed"))


class Tally:
    """Counts of one run, in few words, as its recordings may be many."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.states: Counter[str] = Counter()
        """State of an Outcome -> how many ended so."""
        self.audio = 0.0
        """Seconds of audio that were transcribed."""
        self.failed: set[str] = set()
        """Recordings that failed, and were not cured since."""
        self.partly: set[str] = set()
        """Recordings of which a stretch could not be read or recognised."""
        self.unread = 0
        """What was named and could not be searched for recordings."""

    def ended(self, outcome: Outcome) -> None:
        """Count a recording, when it has ended."""
        if outcome.state == "elsewhere":
            return
        self.states[outcome.state] += 1
        if outcome.transcript and outcome.state in ("done", "partly"):
            self.audio += outcome.transcript.duration
        for state, sources in (("failed", self.failed), ("partly", self.partly)):
            (sources.add if outcome.state == state else sources.discard)(outcome.job.source)

    @property
    def exit_code(self) -> int:
        """1 if anything failed, also in part."""
        return 1 if self.failed or self.partly or self.unread else 0

    @property
    def count(self) -> int:
        """Recordings that ended."""
        return self.states.total()

    def __str__(self) -> str:
        return counts(
            self.states["done"],
            len(self.failed) + self.unread,
            before=self.states["kept"] + self.states["written"],
            copied=self.states["copied"],
            partly=len(self.partly),
        )


class Summary:
    """Table and summary.json of a run."""

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []
        self._rows: list[tuple[str, ...]] = []
        self._attention: list[tuple[str, ...]] = []

    def add(self, outcome: Outcome, transcript: Transcript | None) -> None:
        """Note a recording, with its transcript where there is one, of this run or before."""
        self._files.append(_values(outcome, transcript))
        if outcome.state != "kept" and len(self._rows) <= _MOST_ROWS:
            self._rows.append(_row(outcome, transcript))
        if outcome.state in ("failed", "partly"):
            self._attention.append(_row(outcome, transcript))

    def write(self, output: Path, tally: Tally) -> None:
        """Write summary.json.

        Raises:
            OutputError: it cannot be written.
        """
        from stt.system.files import write_text

        document = {
            "recordings": tally.count,
            "states": dict(sorted(tally.states.items())),
            "elapsed": round(time.monotonic() - tally.began, 3),
            "files": sorted(self._files, key=lambda file: str(file["name"])),
        }
        write_text(output / SUMMARY, json.dumps(document, ensure_ascii=False, indent=2) + "\n")

    def tell(self, tally: Tally) -> None:
        """Print the table, and the totals of the run."""
        rows = self._rows if len(self._rows) <= _MOST_ROWS else self._attention
        for line in _table(rows):
            click.echo(line, err=True)
        report(f"{tally}; {pace(tally.audio, time.monotonic() - tally.began)}")
        if tally.failed or tally.partly:
            report("to try again only what failed: --retry-failed")


_HEADINGS = ("recording", "length", "heard", "silence", "unread", "words", "result")
_RESULTS = {"partly": "in part", "kept": "done before", "written": "done before"}
"""State of an Outcome -> in a user's words, where they differ."""
_WIDTH = 80
"""Columns of the table; a longer name loses its middle."""


def _table(found: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of the table at the end."""
    if not found:
        return []
    rows = [_HEADINGS, *sorted(found)]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield cells as wide as their columns: the first and last to the left, others to the right."""
    last = len(widths) - 1
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        shown = cell if cell_len(cell) <= width else _without_middle(cell, width)
        space = " " * (width - cell_len(shown))
        yield shown + space if column in (0, last) else space + shown


def _without_middle(name: str, width: int) -> str:
    """Return a name in fewer columns: its beginning and end tell recordings apart."""
    half = (width - 1) // 2
    head, tail = set_cell_size(name, width - 1 - half), set_cell_size(name[::-1], half)[::-1]
    return f"{head}…{tail}"


def _row(outcome: Outcome, transcript: Transcript | None) -> tuple[str, ...]:
    coverage = transcript.coverage if transcript else None
    result = _RESULTS.get(outcome.state, outcome.state)
    if transcript is None or coverage is None:
        return (printable(outcome.job.name), *[""] * 5, result)
    skipped = coverage.skipped
    silence = sum(seconds for reason, seconds in skipped.items() if reason != "failed")
    return (
        printable(outcome.job.name),
        clock(transcript.duration),
        clock(coverage.decoded),
        clock(silence),
        clock(skipped["failed"]) if "failed" in skipped else "",
        f"{len(transcript.text.split()):,}",
        result,
    )


def _values(outcome: Outcome, transcript: Transcript | None) -> dict[str, Any]:
    from stt.text.transcript import coverage_values, without_surrogates

    return {
        "name": without_surrogates(outcome.job.name),
        "source": without_surrogates(outcome.job.source),
        "state": outcome.state,
        "told": without_surrogates(outcome.detail),
        "duration": round(transcript.duration, 3) if transcript else None,
        "elapsed": round(transcript.elapsed, 3) if transcript else None,
        "coverage": coverage_values(transcript.coverage) if transcript else None,
        "written": [without_surrogates(str(path)) for path in outcome.written],
    }


def outcome_lines(outcome: Outcome, *, quiet: bool) -> Iterator[str]:
    """Say what became of a recording that did not fail; `quiet`: only why it is done in part."""
    source, transcript = printable(outcome.job.source), outcome.transcript
    written = printable(", ".join(map(str, outcome.written)))
    if outcome.state == "kept" and not quiet:
        yield f"{source}: done before"
    elif outcome.state in ("written", "copied") and not quiet:
        yield f"{source}: {outcome.detail or 'done before'} -> {written}"
    elif transcript is not None and outcome.state in ("done", "partly"):
        if not quiet:
            again = f"; {outcome.detail}" if outcome.detail else ""
            nothing = "" if transcript.text else "; no speech found"
            yield f"{source}: {clock(transcript.duration)} of audio{nothing} -> {written}{again}"
        yield from (f"{source}: {line}" for line in warnings(transcript.coverage, quiet=quiet))


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
        words = "1 word was" if coverage.invented == 1 else f"{coverage.invented} words were"
        yield f"{words} left out: made up over silence or noise"
