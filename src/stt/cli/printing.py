"""A recording's text on standard output, as it comes; on a terminal it is wrapped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from stt.cli.report import report
from stt.text.paragraphs import Paragraphs

if TYPE_CHECKING:
    from stt.transcript import Segment


def _columns() -> int | None:
    """Columns of the terminal that text is printed on; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Printing:
    """Prints one recording's text; a context manager, which ends its last line."""

    def __init__(self, heading: str) -> None:
        """`heading` waits for the first text, so that none stands over a failure; may be ''."""
        self._heading = heading
        self._text = Paragraphs(_columns)

    def __enter__(self) -> Printing:
        return self

    def __exit__(self, *_: object) -> None:
        if end := self._text.finish():
            self.show(end)

    def take(self, segments: Iterable[Segment]) -> None:
        """Print segments behind what was printed."""
        if text := self._text.take(segments):
            self.show(text)

    def show(self, text: str) -> None:
        """Print a text as it is."""
        click.echo(self._heading + text, nl=False)
        sys.stdout.flush()
        self._heading = ""

    def tell(self, line: str) -> None:
        """Print news on stderr; on a terminal not in the midst of a line of text."""
        if sys.stdout.isatty() and (end := self._text.interrupted()):
            self.show(end)
        report(line)
