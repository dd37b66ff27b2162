"""Files of a model from the hub or from a folder, proven before they get their names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stt.errors import ModelError
from stt.install.catalog import PinnedFile, PinnedModel
from stt.install.hub import IMPORT, ONLINE, Job, fetch
from stt.install.hub import offline as forbidden
from stt.install.installation import Rarely, writing
from stt.types import ReportProgress

_BLOCK = 1 << 20
PART = ".part"
"""Ending of what is not proven yet."""


def download(
    model: PinnedModel,
    files: Sequence[PinnedFile],
    folder: Path,
    report: ReportProgress,
    *,
    offline: bool = False,
) -> dict[str, str]:
    """Bring `files` of a model into `folder` and return the SHA-256 of each by its name.

    What is there and right is kept, what is wrong is replaced. A file is received under a hidden
    name (`.NAME.KEY.part`), goes on where it stopped after any interruption, and gets its name when
    its size and contents are proven. One process at a time may work in a folder.

    Args:
        model: where the files come from.
        files: all of the model's, or those to repair.
        folder: a real directory; made where it is missing.
        report: called during each file with the bytes done, those of earlier runs included.
        offline: ask nothing of the network, as HF_HUB_OFFLINE does.

    Raises:
        ModelError: offline and something missing; the hub cannot be reached, refuses, or sends
            something else than what is pinned; the folder cannot be written. Each has its text.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        hashes = already_there(files, folder, report)
        missing = [file for file in files if file.name not in hashes]
        if missing and (offline or forbidden()):
            raise _missing_offline(model, missing)
        for file in missing:
            (folder / file.name).unlink(missing_ok=True)
            job = _job(model, file, folder)
            fetch(job, report)
            hashes[file.name] = _proven_part(job, report)
            give_name(job.part, folder / file.name)
        tidy(folder, files)
    return {file.name: hashes[file.name] for file in files}


def import_folder(
    model: PinnedModel | None,
    files: Sequence[PinnedFile],
    source: Path,
    folder: Path,
    report: ReportProgress,
) -> dict[str, str]:
    """Copy `files` from the directory `source` into `folder`, with the checks of `download`.

    Args:
        model: where the files were published; None for a model nobody pinned, whose files come
            with the sizes found and without hashes.
        files: what to copy.
        source: a folder, a memory stick, a snapshot of the hub's cache; it may hold more.
        folder: a real directory; made where it is missing.
        report: called during each file with the bytes done.

    Returns:
        The SHA-256 of each file by its name.

    Raises:
        ModelError: a file is missing in `source`, cannot be read or is not as pinned; the folder
            cannot be written. Nothing unproven has got a name in `folder`.
    """
    found = _found(model, files, source)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # without a sum to compare, a file of that size may be another model's
        summed = [file for file in files if file.sha256 or file.git_blob]
        hashes = already_there(summed, folder, report)
        for file in files:
            if file.name not in hashes:
                part = folder / f".{file.name}.copy{PART}"
                hashes[file.name] = _copy(file, found[file.name], part, report)
                give_name(part, folder / file.name)
        tidy(folder, files)
    return {file.name: hashes[file.name] for file in files}


def _job(model: PinnedModel, file: PinnedFile, folder: Path) -> Job:
    key = (file.sha256 or file.git_blob or model.revision)[:12]
    job = Job(model, file, folder / f".{file.name}.{key}{PART}")
    if job.part.exists() and job.have > file.size:
        job.part.unlink()
    job.part.touch()
    return job


def _proven_part(job: Job, report: ReportProgress) -> str:
    try:
        return proven(job.part, job.file, report)
    except DiffersError as error:
        job.part.unlink()
        raise ModelError(
            f"{job.what} arrived changed: {error}; it was removed: run `stt setup` again to fetch "
            "it anew; if it differs again, the hub or the mirror in HF_ENDPOINT has another file: "
            f"{IMPORT}"
        ) from error


def _missing_offline(model: PinnedModel, missing: Sequence[PinnedFile]) -> ModelError:
    names = ", ".join(file.name for file in missing)
    return ModelError(f"offline, and {names} of {model.repo_id} missing or damaged here; {ONLINE}")


def _found(
    model: PinnedModel | None, files: Sequence[PinnedFile], source: Path
) -> Mapping[str, Path]:
    """Where each file lies in `source`; ModelError when any is missing or of another size."""
    of = f" of {model.repo_id} at revision {model.revision}" if model else ""
    if not source.is_dir():
        raise ModelError(f"{source}: no such folder; `--from` takes a folder with the files{of}")
    found = {}
    for file in files:
        places = (source / file.name, source / file.path_in_repo)
        found[file.name] = next((place for place in places if place.is_file()), places[0])
    if missing := [name for name, path in found.items() if not path.is_file()]:
        raise ModelError(
            f"{source}: {', '.join(missing)} missing; copy the files{of} there and run again"
        )
    return found


def _copy(file: PinnedFile, source: Path, part: Path, report: ReportProgress) -> str:
    """Copy one file and return its SHA-256; nothing stays of one that is not as pinned."""
    proof, progress = FileProof(file), Rarely(report, f"copying {file.name}", file.size)
    try:
        with part.open("wb") as copy:
            for block in _read(file, source):
                proof.add(block)
                copy.write(block)
                progress.add(len(block))
        return proof.verdict()
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, DiffersError):
            raise ModelError(
                f"{source}: {error}; it is damaged or another version: copy it there again"
            ) from error
        raise


def _read(file: PinnedFile, source: Path) -> Iterator[bytes]:
    """The blocks of a file to import; a wrong size is an error before anything is read."""
    try:
        size = source.stat().st_size
        if size != file.size:
            raise DiffersError(f"{size:,} bytes where {file.size:,} are pinned")
        with source.open("rb") as content:
            yield from blocks(content)
    except OSError as error:
        raise ModelError(
            f"{source}: cannot be read ({error.strerror or error}); check the disk or stick and "
            "its rights, and run again"
        ) from error


# --- files held against their pins --------------------------------------------------------------


class DiffersError(Exception):
    """A file is not what was pinned; the text says how."""


class FileProof:
    """Sums over the bytes of one file, compared with its pin at the end."""

    def __init__(self, file: PinnedFile) -> None:
        self._file = file
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def add(self, block: bytes) -> None:
        """Take the next bytes into account."""
        self._size += len(block)
        self._sha256.update(block)
        if self._file.git_blob:
            self._git.update(block)

    def verdict(self) -> str:
        """Return the SHA-256 in hex; DiffersError when size or contents are not as pinned."""
        file, sha256, git = self._file, self._sha256.hexdigest(), self._git.hexdigest()
        if self._size != file.size:
            raise DiffersError(f"{self._size:,} bytes where {file.size:,} are pinned")
        if file.sha256 is not None and sha256 != file.sha256:
            raise DiffersError(f"SHA-256 {sha256} where {file.sha256} is pinned")
        if file.git_blob is not None and git != file.git_blob:
            raise DiffersError(f"git's SHA-1 {git} where {file.git_blob} is pinned")
        return sha256


def already_there(
    files: Sequence[PinnedFile], folder: Path, report: ReportProgress
) -> dict[str, str]:
    """The SHA-256 of those files that lie in `folder` under their names and are right."""
    hashes = {}
    for file in files:
        path = folder / file.name
        if path.exists():
            try:
                hashes[file.name] = proven(path, file, report)
            except DiffersError as error:
                report(f"replacing {file.name}, it is damaged ({error})", 0, file.size)
    return hashes


def proven(path: Path, file: PinnedFile, report: ReportProgress) -> str:
    """The SHA-256 of a file on disk; DiffersError when it is not as pinned."""
    size = path.stat().st_size
    if size != file.size:  # known without reading gigabytes
        raise DiffersError(f"{size:,} bytes where {file.size:,} are pinned")
    proof, progress = FileProof(file), Rarely(report, f"checking {file.name}", file.size)
    with path.open("rb") as content:
        for block in blocks(content):
            proof.add(block)
            progress.add(len(block))
    return proof.verdict()


def blocks(content: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes, 1 MiB at a time."""
    while block := content.read(_BLOCK):
        yield block


def tidy(folder: Path, files: Sequence[PinnedFile]) -> None:
    """Remove what was received of other versions, and what a killed import left."""
    names = "|".join(re.escape(file.name) for file in files)
    for path in folder.iterdir():
        if re.fullmatch(rf"\.({names})\.\w+{re.escape(PART)}", path.name):
            path.unlink()


def give_name(part: Path, path: Path) -> None:
    """Put a proven file in place so that even a power cut leaves all of it or nothing."""
    with part.open("rb+") as content:
        os.fsync(content.fileno())
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
