"""How a run meets the system and how it ends: standard streams, requests to stop, failures.

Standard input, output and error are taken as programs are really started: closed, redirected, cut
off. Text is UTF-8 unless a person sees it or the user named an encoding; a letter that cannot be
written becomes `?`. What cannot be written to standard error is dropped: the work does not need it.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from stt.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_NEVER_FAIL = frozenset(
    {"replace", "ignore", "backslashreplace", "xmlcharrefreplace", "namereplace"}
)
"""Ways to deal with a letter that cannot be encoded, none of which is an exception (`codecs`)."""


def prepare_streams() -> None:
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


def stdout_is_closed() -> bool:
    """Whether standard output was closed when the program began."""
    return isinstance(getattr(sys.stdout, "buffer", None), _Closed)


def drop_stdout_if_closed() -> None:
    """Have what a closed standard output would refuse dropped: where it is no more than news."""
    if stdout_is_closed():
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


# --- requests to stop -------------------------------------------------------------------------
# Left alone, SIGTERM and SIGHUP end a program on the spot: temporary files stay, unreported.


class Stopped(KeyboardInterrupt):
    """The system asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As shells give it: 143 for SIGTERM, 129 for SIGHUP."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped where the system asks to end; asked again, the program ends at once.

    A signal that is ignored (nohup) or dealt with elsewhere stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    found = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    ours = [n for n in found if n is not None and signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


# --- failures ---------------------------------------------------------------------------------
# Whoever calls a library gives its exceptions a line where it knows what was being done; this is
# the net below. What is in neither is a bug.

_SETUP_AGAIN = "run `stt setup MODEL --check`, or `stt setup MODEL` again"
_NETWORK = "check the connection and proxy, or import the files with `stt setup --from DIR`"
_RECORDING = "convert the recording with `ffmpeg -i FILE out.wav` and transcribe that"
_LIBRARIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "onnxruntime": ("ONNX Runtime cannot run this model", _SETUP_AGAIN),
        "onnx": ("this model cannot be converted", "set it up again, or use it as it is: -p fp32"),
        "google": ("this model's graph cannot be read or is too large", _SETUP_AGAIN),
        "onnx_asr": ("this model cannot be loaded", _SETUP_AGAIN),
        "av": ("FFmpeg cannot read this", _RECORDING),
        "soundfile": ("libsndfile cannot read this", _RECORDING),
        "sounddevice": ("the sound system failed", "see `stt devices`, connect the device again"),
        "sqlite3": (
            "the journal of the folder of results cannot be used",
            "move its .stt away to begin anew, or choose another folder with -o",
        ),
        "filelock": (
            "a lock file cannot be had",
            "wait for the other stt, or use a folder on a local disk",
        ),
        "psutil": ("the system does not tell about its processes", "allow reading /proc"),
        "huggingface_hub": ("the model hub cannot be used", _NETWORK),
        "httpx": ("the model hub cannot be reached", _NETWORK),
        "httpcore": ("the model hub cannot be reached", _NETWORK),
        "requests": ("the model hub cannot be reached", _NETWORK),
        "ray": ("the Ray cluster failed", "see docs/cluster.md, or leave --ray out"),
    }
)
"""Library -> what is wrong, and what to do."""
_SYSTEM: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space: your quota is used up",
        errno.EMFILE: "too many files are open: allow more with `ulimit -n 4096`, or use --jobs 1",
        errno.ENFILE: "close other programs",
        errno.ENOMEM: "close other programs, or use --jobs 1",
        errno.EIO: "the disk or its connection fails: use another",
        errno.EROFS: "the disk is read-only: choose another folder",
    }
)
_LONGEST = 300


def message(error: BaseException) -> str | None:
    """Return one line that says what to do; None for what is a bug."""
    if isinstance(error, MemoryError):
        return (
            "not enough memory; close other programs, use --jobs 1, or set batch_size or "
            "max_segment_s lower"
        )
    if isinstance(error, OSError):
        cure = _SYSTEM.get(error.errno or 0, "check the path and its rights")
        return f"{error.filename or 'output'}: {error.strerror or _line(error)}; {cure}"
    for kind in type(error).__mro__:
        if known := _LIBRARIES.get(kind.__module__.partition(".")[0]):
            wrong, cure = known
            return f"{wrong} ({_line(error)}); {cure}"
    if isinstance(error, UnicodeError):
        return f"not UTF-8 ({_line(error)}); rename the file, or save its text as UTF-8"
    return None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
