"""Standard input, output and error as programs are really started: closed, redirected, cut off.

Text is UTF-8 unless a person sees it or the user named an encoding; a letter that cannot be written
becomes `?`. What cannot be told on standard error is dropped, as the work does not depend on it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from stt.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NEVER_FAIL = frozenset(
    {"replace", "ignore", "backslashreplace", "xmlcharrefreplace", "namereplace"}
)
"""Ways to deal with a letter that cannot be encoded, none of which is an exception (`codecs`)."""


def prepare() -> None:
    """Make the standard streams safe to write to; called before any file is opened."""
    _occupy()
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_buffer(_Closed()), "utf-8", "replace", write_through=True)
    elif sys.stdout is sys.__stdout__:
        _widen(sys.stdout)
    if sys.stderr is None:
        sys.stderr = _nowhere()
    elif sys.stderr is sys.__stderr__ and not (sys.platform == "win32" and sys.stderr.isatty()):
        sys.stderr = _patient(sys.stderr)


def _occupy() -> None:
    """Open nothing in the place of a descriptor that is closed.

    The next file opened would get its number, and what a library prints would land in that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _buffer(raw: io.RawIOBase) -> BinaryIO:
    """A raw stream, typed as TextIOWrapper asks for; with `write_through` it needs no more."""
    return cast("BinaryIO", raw)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: PTH123


class _Closed(io.RawIOBase):
    """Stands for a standard output that is closed: what is to be printed is refused."""

    def writable(self) -> bool:
        """True: what is written is met with an error that says what to do."""
        return True

    def write(self, _: ReadableBuffer) -> int:
        """Raise OutputError."""
        raise OutputError(
            "standard output is closed, so nothing can be printed; send it to a file with > FILE"
        )


def is_closed() -> bool:
    """Whether standard output was closed when the program began."""
    return isinstance(getattr(sys.stdout, "buffer", None), _Closed)


def drop_if_closed() -> None:
    """Have what a closed standard output would refuse dropped: where it is no more than news."""
    if is_closed():
        sys.stdout = _nowhere()


def _widen(stream: Any) -> None:
    if not isinstance(stream, io.TextIOWrapper):
        return
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    stream.reconfigure(
        encoding=None if encoding or stream.isatty() else "utf-8",
        errors=errors if errors in _NEVER_FAIL else "replace",
    )


class _Patient(io.RawIOBase):
    """A descriptor that takes everything: what cannot be written is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written; returns the number of bytes given."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        with suppress(OSError):  # the reader has gone, the terminal was closed, the disk is full
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        return size


def _patient(stream: Any) -> TextIO:
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (OSError, ValueError):
        return cast("TextIO", stream)
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    return io.TextIOWrapper(
        _buffer(_Patient(descriptor)),
        stream.encoding if encoding or stream.isatty() else "utf-8",
        "backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def abandon_stdout() -> None:
    """Forget what standard output does not take, so that the end of the program is quiet."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, OutputError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
