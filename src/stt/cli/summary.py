"""What became of the recordings of one run: counted as they end, told in the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.audio.files import printable
from stt.cli.progress import clock
from stt.cli.report import report
from stt.journal import FOLDER

if TYPE_CHECKING:
    from stt.batch import Outcome
    from stt.transcript import Transcript

SUMMARY = f"{FOLDER}/summary.json"
"""Below the folder of results, where no result of a recording can lie."""
_MOST_ROWS = 20
"""Rows of the table at the end; of more recordings only those are in it that need attention."""


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
        """Return how many were done, and how many failed."""
        before = self.states["kept"] + self.states["written"]
        parts = [f"{self.states['done']} done"]
        parts += [f"{before} done before"] if before else []
        copied = self.states["copied"]
        parts += [f"{copied} copied"] if copied else []
        parts += [f"{len(self.partly)} done in part"] if self.partly else []
        return ", ".join((*parts, f"{len(self.failed) + self.unread} failed"))


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
        from stt.writers import write_text

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
        elapsed = time.monotonic() - tally.began
        speed = f" ({tally.audio / elapsed:.1f}x real time)" if tally.audio and elapsed else ""
        report(f"{tally}; {clock(tally.audio)} of audio in {clock(elapsed)}{speed}")
        if tally.failed or tally.partly:
            report("to try again only what failed: --retry-failed")


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


def _row(outcome: Outcome, transcript: Transcript | None) -> tuple[str, ...]:
    coverage = transcript.coverage if transcript else None
    if transcript is None or coverage is None:
        return (printable(outcome.job.name), *[""] * 6, outcome.state)
    skipped = coverage.skipped
    silence = skipped.get("silence", 0.0) + skipped.get("digital zero", 0.0)
    return (
        printable(outcome.job.name),
        clock(transcript.duration),
        clock(coverage.decoded),
        clock(silence),
        clock(skipped.get("non-speech", 0.0)),
        clock(skipped["failed"]) if "failed" in skipped else "",
        f"{len(transcript.text.split()):,}",
        outcome.state,
    )


def _values(outcome: Outcome, transcript: Transcript | None) -> dict[str, Any]:
    from stt.writers import coverage_values, without_surrogates

    return {
        "name": without_surrogates(outcome.job.name),
        "source": without_surrogates(outcome.job.source),
        "state": outcome.state,
        "told": without_surrogates(outcome.told),
        "duration": round(transcript.duration, 3) if transcript else None,
        "elapsed": round(transcript.elapsed, 3) if transcript else None,
        "coverage": coverage_values(transcript.coverage) if transcript else None,
        "written": [without_surrogates(str(path)) for path in outcome.written],
    }
