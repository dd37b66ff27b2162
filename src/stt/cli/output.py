"""What a command gives: news on standard error, text on standard output, a file or a folder."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from stt.errors import OutputError, UsageError

if TYPE_CHECKING:
    from stt.settings.loading import Settings
    from stt.text.transcript import Transcript
    from stt.transcript import Segment


_UNBROKEN = "\N{NO-BREAK SPACE}"


def report(message: object, error: BaseException | None = None) -> None:
    """Print `stt: message` on stderr."""
    if error is not None and os.environ.get("STT_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    click.echo(fitted(f"stt: {message}", columns), err=True)


def show_warnings() -> None:
    """Print what the engine warns of while it runs."""
    import logging

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report(f"warning: {record.getMessage()}")

    logging.getLogger("stt").handlers = [Shown()]


def fitted(text: str, columns: int | None) -> str:
    """Return text in lines of at most so many columns, broken at spaces; None: as it is.

    A command between backquotes stays on one line, so that it can be copied.
    """
    if columns is None:
        return text
    kept = re.sub(r"`[^`\n]*`", lambda found: found[0].replace(" ", _UNBROKEN), text)
    lines = (
        wrap(line, columns, break_long_words=False, break_on_hyphens=False) or [""]
        for line in kept.split("\n")
    )
    return "\n".join(piece for made in lines for piece in made).replace(_UNBROKEN, " ")


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Return lines of cells as wide as their columns; `right`: all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right and number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _columns() -> int | None:
    """Columns of the terminal that text is printed on; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Printing:
    """Prints one recording's text; a context manager, which ends its last line."""

    def __init__(self, heading: str) -> None:
        """`heading` waits for the first text, so that none stands over a failure; may be ''."""
        self._heading = heading
        from stt.text.formats import Paragraphs

        self._text = Paragraphs(_columns)

    def __enter__(self) -> Printing:
        return self

    def __exit__(self, *_: object) -> None:
        if end := self._text.end_line():
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
        if sys.stdout.isatty() and (end := self._text.end_line()):
            self.show(end)
        report(line)


_FILE_LIKE = re.compile(r"\.(?=.*[a-z])[a-z0-9]{1,5}", re.IGNORECASE)
"""An ending like a file's: .docx, .mp3; not that of a folder called 2026.11 or `Dr. Who`."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The one file that `-o FILE.srt` names."""

    path: Path

    @property
    def form(self) -> str:
        """The format, by the file's suffix."""
        return self.path.suffix.lower().removeprefix(".")

    def write(self, transcript: Transcript, settings: Settings) -> str:
        """Write the transcript whole, or not at all; returns what to tell.

        What was there and is something else keeps its content under another name.

        Raises:
            OutputError: it cannot be written.
        """
        from stt.batch.folder import put_aside
        from stt.system.files import os_error_text, write_text

        text = transcript.to(self.form, settings.subtitle_style)
        kept = ""
        try:
            if self.path.is_file() and self.path.read_bytes() != text.encode():
                kept = f"; what was there is kept as {put_aside(self.path)[1].name}"
        except OSError as error:
            raise OutputError(os_error_text(error, self.path)) from error
        write_text(self.path, text)
        return f"saved: {self.path}{kept}"


def output_file(
    named: str, asked: Sequence[str], known: Sequence[str], paths: Sequence[str]
) -> OutputFile | None:
    """Return the file that `-o` names, or None where it names a folder.

    A name that ends in a format's suffix, and is no folder, is a file. One that ends like a file
    of another kind, and is no folder yet, is refused: nobody means a folder by talk.docx.

    Args:
        named: what -o was given.
        asked: formats given by -f.
        known: formats there are.
        paths: the recordings named.

    Raises:
        UsageError: several recordings, or other formats, do not go into that file; or no format
            has its suffix.
    """
    from stt.audio.files import STDIN
    from stt.system.files import expanded

    file = OutputFile(expanded(Path(named)))
    if file.path.is_dir() or named.endswith(("/", os.sep)):
        return None
    if file.form not in known:
        if _FILE_LIKE.fullmatch(file.path.suffix):
            raise UsageError(
                f"-o {named}: no format has the ending {file.path.suffix}; give one of "
                f".{', .'.join(known)}, or for a folder of that name -o {named}/"
            )
        return None
    if len(paths) != 1 or (paths[0] != STDIN and Path(paths[0]).is_dir()):
        raise UsageError(f"-o {named} is a file, for one recording; give -o DIR for several")
    if asked and set(asked) != {file.form}:
        raise UsageError(
            f"-o {named} is written as {file.form}, -f says {','.join(asked)}; leave -f out, or "
            "give -o DIR"
        )
    return file


def check_folder(folder: Path, option: str) -> None:
    """Make a folder where it is missing, and see that something can be written there.

    Raises:
        OutputError: it cannot, with the `option` that names another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write there ({error.strerror}); choose another folder with {option}"
        ) from error
