"""What the microphone heard, on disk before anything else is done with it.

The file is FLAC, 16 bits. libsndfile hands each FLAC frame (4,096 samples) to the system as soon as
it is full, so after a kill all but the last frame can be read; its header then names no length.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from stt.errors import OutputError, UsageError
from stt.system.files import os_error_text, state_folder
from stt.types import Samples

SUFFIX = ".flac"
_CHUNK = 1 << 15


def recordings_dir() -> Path:
    """Return the folder of recordings that nobody has named yet."""
    return state_folder() / "recordings"


def leftovers(folder: Path | None = None) -> list[Path]:
    """Return recordings that were kept, or left by a run that was killed, oldest first.

    `folder` None: `recordings_dir()`. Those of runs still going on are left out.
    """
    found = (folder or recordings_dir()).glob(f"*{SUFFIX}")
    return sorted(path for path in found if not psutil.pid_exists(_process(path)))


def _process(path: Path) -> int:
    last = path.stem.split("-")[-1].removeprefix("p")
    number = int(last) if last.isdecimal() else -1
    return number if number < 1 << 31 else -1  # beyond, psutil raises OverflowError


def check_target(path: Path) -> None:
    """Refuse a name that `Recording.keep` could not give the recording.

    Raises:
        UsageError: not .flac.
        OutputError: there already, or its folder is missing.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"{path}: recordings are FLAC; give a name that ends in {SUFFIX}")
    if path.exists():
        raise OutputError(f"{path}: is there already; give another name, or move it away")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")


class Recording:
    """A FLAC file that grows; temporary until `keep`. Not for several threads at once."""

    def __init__(self, rate: int, folder: Path | None = None) -> None:
        """Start a recording at `rate` Hz in `folder`, by default `recordings_dir()`.

        Raises:
            OutputError: the file cannot be made.
        """
        import soundfile

        folder = folder or recordings_dir()
        # the process's number tells a run that is going on from one that was killed
        date, own = time.strftime("%Y-%m-%d-%H%M%S"), f"p{os.getpid()}{SUFFIX}"
        self.path = folder / f"{date}-{own}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = _free(self.path, lambda n: f"{date}-{n}-{own}")
            self.path.touch(0o600, exist_ok=False)
        except OSError as error:
            raise OutputError(os_error_text(error, self.path)) from error
        native = os.fsencode(self.path) if os.name == "posix" else str(self.path)
        try:
            self._file = soundfile.SoundFile(native, "w", rate, 1, "PCM_16", format="FLAC")
        except soundfile.LibsndfileError as error:
            raise OutputError(f"{self.path}: {error.error_string.strip()}") from error
        self._whole = 0  # bytes of the file when the last write had gone well
        self.samples = 0
        """How many were written."""

    def write(self, samples: Samples) -> None:
        """Append float32 [n] mono; what is beyond ±1 is clipped.

        Raises:
            OutputError: the disk is full or fails; what was written before can be read, and
                nothing more can be written.
        """
        import soundfile

        try:
            self._file.write(samples)
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            # soundfile itself asserts that all was written
            self._cut_torn_frame()
            raise OutputError(
                f"{self.path}: the recording cannot go on, the disk may be full; make room"
            ) from error
        self._whole = self.path.stat().st_size
        self.samples += len(samples)

    def _cut_torn_frame(self) -> None:
        """End the file where it was whole: readers take half a frame at the end for damage."""
        if not self._file.closed:
            self.close()
            with suppress(OSError):
                os.truncate(self.path, self._whole)

    def write_silence(self, count: int) -> None:
        """Append `count` zeros, in the place of samples that were lost."""
        for start in range(0, count, _CHUNK):
            self.write(np.zeros(min(_CHUNK, count - start), np.float32))

    def close(self) -> None:
        """Write the header and close; may be called twice.

        Where the disk refuses the header the file reads like one left by a kill, and no error is
        raised: `write` has raised one for what was lost.
        """
        import soundfile

        with suppress(soundfile.SoundFileError):
            self._file.close()

    def keep(self, to: Path | None = None) -> Path:
        """Close the file and keep it, under the name `to` if one is given; return where it is.

        A file that is there already is not replaced: a number is added to the name.

        Raises:
            OutputError: it cannot be moved; it stays where it was, and the text says where.
        """
        self.close()
        if to is None:
            return self.path
        try:
            stem, suffix = to.stem, to.suffix
            to = _free(to, lambda n: f"{stem}-{n}{suffix}")
            _move(self.path, to)
        except OSError as error:
            raise OutputError(
                f"{to}: {error.strerror or error}; the recording is kept as {self.path}"
            ) from error
        self.path = to
        return to

    def discard(self) -> None:
        """Close the file and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)


def _move(path: Path, to: Path) -> None:
    """Move a file, also to another disk; `to` appears when it is whole."""
    try:
        path.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = to.with_name(f".{to.name}.part")
        try:
            shutil.copyfile(path, part)
            part.rename(to)
        finally:
            part.unlink(missing_ok=True)
        path.unlink()


def _free(path: Path, name: Callable[[int], str]) -> Path:
    """Return `path`, or where that is there already the first free of name(2), name(3), ..."""
    if not path.exists():
        return path
    return next(free for n in itertools.count(2) if not (free := path.with_name(name(n))).exists())
