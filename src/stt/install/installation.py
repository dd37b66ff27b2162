"""A model's folder while set-up works on it: its files, manifest and lock, and the time left."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stt.engine.folder import ModelFolder
from stt.engine.manifest import Manifest, sha256_of
from stt.errors import ModelError
from stt.models import inspect
from stt.types import ReportProgress

AGAIN = "run `stt setup` again, it goes on where it stopped"
_REPORT_EVERY_S = 0.1
_MAKER = 1
"""Raised when conversions change, so that older ones are made again."""


@dataclass(frozen=True, slots=True)
class Events:
    """Where set-up tells what it does."""

    progress: ReportProgress
    note: Callable[[str], None]
    """One line of news."""
    left: Callable[[float], None] = lambda _: None
    """Seconds left of everything, whenever they are known better."""
    installed: Callable[[Path], None] = lambda _: None
    """The folder of a model that can be used from now on, while set-up goes on."""


class Installation:
    """See the module."""

    def __init__(self, folder: Path, events: Events) -> None:
        """Read the manifest that is there, if any."""
        self.folder, self.events = folder, events
        self.manifest = Manifest.read(folder)

    @property
    def model(self) -> ModelFolder:
        """The folder as it is now."""
        return inspect(self.folder)

    def gigabytes(self, precision: str) -> float:
        """Size of a precision's graphs and weights as the manifest has them; 0 for none."""
        names = self.model.family.graphs(precision)
        files = (self.manifest.files.get(part) for n in names for part in (n, f"{n}.data"))
        total: int = sum(entry["size"] for entry in files if entry)
        return total / 1e9

    def save(self) -> None:
        """Write the manifest."""
        self.manifest.save(self.folder)

    def hash(self, name: str) -> str:
        """Return a file's SHA-256."""
        path = self.folder / name
        size = path.stat().st_size
        return sha256_of(path, lambda done: self.events.progress(f"checking {name}", done, size))

    def made_from(self, name: str) -> dict[str, Any]:
        """What a conversion depends on: the contents of its source and our own version."""
        parts = sorted(n for n in self.manifest.files if n == name or n.startswith(f"{name}.data"))
        return {"maker": _MAKER, "sha256": [self.manifest.files[n]["sha256"] for n in parts]}

    def is_right(self, name: str, origin: dict[str, Any] | None = None) -> bool:
        """Whether a converted file is the one the manifest describes, from that origin."""
        for part in (name, f"{name}.data"):
            entry = self.manifest.files.get(part)
            if entry is None and part != name:
                continue
            path = self.folder / part
            if entry is None or not path.is_file() or path.stat().st_size != entry["size"]:
                return False
            if origin and part == name and entry.get("made_from") != origin:
                return False
            if self.hash(part) != entry["sha256"]:
                self.events.note(f"{part} is damaged and is replaced")
                return False
        return True

    def written(self, name: str, done: dict[str, Any]) -> None:
        """Note a graph that was written, and its data beside it; `done`: how."""
        for part in (name, f"{name}.data"):
            path = self.folder / part
            if path.exists():
                entry = {"size": path.stat().st_size, "sha256": self.hash(part)}
                self.manifest.files[part] = entry | (done if part == name else {})
        self.save()

    def drop_outdated(self) -> None:
        """Delete what older versions made and this one does not use.

        INT8's decoder in parts, as it decodes better whole; files of `mixed`, which is FP16
        now; copies packed for this processor, and what was measured on it with them, as the load
        times were theirs.
        """
        if self.manifest.splits.pop("int8", None) is not None:
            self.delete(self.model.family.parts("int8"))
        self.delete(sorted(path.name for path in self.folder.glob("*.mixed.onnx")))
        for copy in (*self.folder.glob("packed-*"), *self.folder.glob(".packed-*.partial")):
            shutil.rmtree(copy)
        packed = [name for name in self.manifest.files if name.startswith("packed-")]
        for name in packed:
            del self.manifest.files[name]
        if packed:
            rows = self.manifest.measurements
            self.manifest.measurements = [row for row in rows if row["provider"] != "cpu"]
        if self.manifest.files:
            self.save()

    def delete(self, names: Sequence[str]) -> None:
        """Delete graphs and the data beside them, and forget them."""
        for name in names:
            for part in (name, f"{name}.data"):
                (self.folder / part).unlink(missing_ok=True)
                self.manifest.files.pop(part, None)


class Rarely:
    """Reports bytes done ten times a second and at the end, however small the blocks are."""

    def __init__(self, report: ReportProgress, stage: str, total: int, done: int = 0) -> None:
        self._report, self._stage, self._total, self._done = report, stage, total, done
        self._spoke = time.monotonic()
        report(stage, done, total)

    def at(self, done: int) -> None:
        """So many bytes are done."""
        self._done = done
        now = time.monotonic()
        if now - self._spoke >= _REPORT_EVERY_S or done == self._total:
            self._spoke = now
            self._report(self._stage, done, self._total)

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        self.at(self._done + count)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into a line that says what to do."""
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ModelError(
            f"the disk is full in {folder} ({error.strerror}); make room, or choose another disk "
            f"with `models_dir`, and {AGAIN}"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ModelError(
            f"no right to write in {folder} ({error.strerror}); change its rights, or choose a "
            "folder of yours with `models_dir`"
        )
    return ModelError(
        f"cannot write in {folder} ({error.strerror or error}); check the disk, or choose another "
        "folder with `models_dir`"
    )


# --- the lock -----------------------------------------------------------------------------------

_PAUSE_S = 0.2
"""Between two tries on Windows, which does not wait for longer than 10 s by itself."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock named `path`, waiting for whoever has it; then delete its file.

    The system lets go of the lock when a process dies, so that only a kill leaves the file.

    Raises:
        OSError: the file cannot be written.
    """
    while True:
        with path.open("ab") as file:
            _take(file)
            if not _is_file(path, file):  # whoever had it has deleted it: another may be there
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows deletes no open file
                    path.unlink()
        if sys.platform == "win32":
            with suppress(OSError):  # another process has it open
                path.unlink()
        return


def _take(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            file.seek(0)
            with suppress(OSError):
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return
            time.sleep(_PAUSE_S)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_file(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one that has the name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


# --- how long it will go on ---------------------------------------------------------------------

_USUAL = {"read": 1.0, "convert": 4.0, "load": 2.0, "speech": 0.06, "decode": 0.1}
"""Seconds for a unit of work before any was measured, on two cores: a gigabyte hashed, converted or
loaded, a second of speech encoded for each gigabyte of FP32, a second of speech decoded."""

Work = Mapping[str, float]
"""Kind of work -> units of it, see `_USUAL`."""


class TimeLeft:
    """How long set-up will go on: an estimate that follows the machine."""

    def __init__(
        self, tell: Callable[[float], None], known: Mapping[str, float] | None = None
    ) -> None:
        """Begin with no plan.

        Args:
            tell: called with the seconds left whenever they are known better.
            known: kind of work -> seconds for a unit, as an earlier run measured it here.
        """
        self._tell, self._known = tell, {**_USUAL, **(known or {})}
        self._left: dict[str, float] = {}
        self._done: dict[str, tuple[float, float]] = {}

    @property
    def seconds(self) -> float:
        """Seconds left of what is planned."""
        return sum(units * self._rate(kind) for kind, units in self._left.items())

    def rounded(self) -> str:
        """The seconds left for people, rounded as a guess is: 40 s, 3 min."""
        seconds = self.seconds
        if seconds < 90:
            return f"{max(10 * round(seconds / 10), 5)} s"
        return f"{round(seconds / 60)} min"

    @property
    def rates(self) -> dict[str, float]:
        """Kind of work -> seconds for a unit, of what was measured in this run."""
        return {kind: self._rate(kind) for kind, (units, _) in self._done.items() if units}

    def plan(self, *works: Work) -> None:
        """Set what is left to do, in the place of an older plan."""
        self._left = {}
        for work in works:
            for kind, units in work.items():
                self._left[kind] = self._left.get(kind, 0.0) + units
        self._tell(self.seconds)

    def did(self, kind: str, units: float, seconds: float) -> None:
        """Note work that has been done, and the seconds it took."""
        before = self._done.get(kind, (0.0, 0.0))
        self._done[kind] = (before[0] + units, before[1] + seconds)
        self._left[kind] = max(self._left.get(kind, 0.0) - units, 0.0)
        self._tell(self.seconds)

    @contextmanager
    def doing(self, kind: str, units: float) -> Iterator[None]:
        """Measure work while it is done."""
        began = time.monotonic()
        yield
        self.did(kind, units, time.monotonic() - began)

    def _rate(self, kind: str) -> float:
        units, seconds = self._done.get(kind, (0.0, 0.0))
        return seconds / units if units else self._known[kind]
