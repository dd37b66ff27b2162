"""What the system and libraries raise over a recording: as errors that name it and its cure."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from stt.errors import AudioError

Samples = npt.NDArray[np.float32]

_LIBRARIES = {"av": "FFmpegError", "soundfile": "SoundFileError"}
"""Library -> the base of its exceptions."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Read or open a recording that messages call `name`.

    Raises:
        AudioError: in place of the system's and the libraries' exceptions.
    """
    try:
        yield
    except MemoryError as error:
        raise AudioError(
            f"{name}: not enough memory to read it; close other programs, or convert it to wav"
        ) from error
    except _raised() as error:
        raise AudioError(f"{name}: cannot be read ({_told(error)}); {_cure(error)}") from error


def blocks_read(blocks: Iterable[Samples], name: str) -> Iterator[Samples]:
    """Yield the blocks of a recording.

    Raises:
        AudioError: as of `reading`.
    """
    found = iter(blocks)
    while True:
        with reading(name):
            block = next(found, None)
        if block is None:
            return
        yield block


def _raised() -> tuple[type[Exception], ...]:
    """What may be raised: of the libraries, those that are imported."""
    found = [(sys.modules[name], base) for name, base in _LIBRARIES.items() if name in sys.modules]
    return (OSError, EOFError, *(getattr(module, base) for module, base in found))


def _told(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(told).split()).rstrip(".") or type(error).__name__


def _cure(error: Exception) -> str:
    cures = {
        errno.EIO: "its disk or connection fails: copy it elsewhere and try again",
        errno.ESTALE: "its disk is gone: connect it again",
        errno.ENODEV: "its disk is gone: connect it again",
        errno.EMFILE: "too many files are open: allow more with `ulimit -n 4096`",
        errno.ENFILE: "too many files are open on this machine: close other programs",
        errno.EACCES: "check its rights and those of its folder",
        errno.EPERM: "check its rights and those of its folder",
        errno.ENOENT: "it was moved or deleted meanwhile: name it where it is",
    }
    return cures.get(getattr(error, "errno", None) or 0, "copy or export it again")
