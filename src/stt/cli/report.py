"""One line on stderr for an error or news; an error's traceback only under STT_DEBUG=1."""

from __future__ import annotations

import os
import re
import shutil
import sys
from textwrap import wrap

import click

_UNBROKEN = "\N{NO-BREAK SPACE}"


def report(message: object, error: BaseException | None = None) -> None:
    """Print `stt: message` on stderr."""
    if error is not None and os.environ.get("STT_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    click.echo(fitted(f"stt: {message}", columns), err=True)


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
