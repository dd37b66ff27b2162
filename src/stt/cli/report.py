"""One line on stderr for an error; its traceback only under STT_DEBUG=1."""

from __future__ import annotations

import os

import click


def report(message: object, error: BaseException | None = None) -> None:
    """Print `stt: message` on stderr."""
    if error is not None and os.environ.get("STT_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    click.echo(f"stt: {message}", err=True)
