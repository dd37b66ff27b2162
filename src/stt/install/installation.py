"""A model's folder while set-up works on it: its files, its manifest, and the lock it holds."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stt.engine.folder import ModelFolder
from stt.engine.manifest import Manifest, sha256_of
from stt.models import inspect
from stt.types import ReportProgress

if TYPE_CHECKING:
    from stt.install.measure import Speed

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
        return sha256_of(path, reading(self.events, f"checking {name}", path.stat().st_size))

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

    def measured(self, speed: Speed) -> None:
        """Note a measurement, in the place of an older one."""
        others = [
            row
            for row in self.manifest.measurements
            if (row["precision"], row["provider"]) != (speed.precision, speed.provider)
        ]
        self.manifest.measurements = [*others, {**asdict(speed), "correct": True}]
        self.save()

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


def reading(events: Events, stage: str, size: int) -> Callable[[int], None]:
    """Return what reports how far the reading of a file is."""
    return lambda done: events.progress(stage, done, size)


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
