"""Recordings that come in: each goes to a temporary file, counted while it streams.

The files lie in a folder of the process that only its user may enter. One is deleted when its
request is done, all with the process, and those of a killed process by the next `stt`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from stt.audio.files import AUDIO_SUFFIXES
from stt.serve.forms import FIELDS_BYTES, FILE, FormParser, boundary_of
from stt.serve.problems import LOG, Problem
from stt.system.temporary import temporary_folder

_PIECE = 1 << 20
"""Bytes written at a time."""
PATIENCE_S = 60.0
"""Seconds without a byte after which an upload is given up."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A form that came in whole, with its file."""

    fields: Mapping[str, tuple[str, ...]]
    path: Path
    name: str
    """As the client calls the file, without folders."""
    size: int
    """Bytes of the file."""


class Uploads:
    """The temporary files of one server."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of one file."""
        self._most = most_bytes
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._numbers = count(1)

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Upload]:
        """Take a form; its file is there until the block is left.

        Raises:
            Problem: it is no form, has no file, is too large, or there is no room for it.
            ClientDisconnect: it was broken off.
        """
        form = FormParser(boundary_of(request.headers.get("content-type")))
        self._check_stated(request)
        path = self._new_path()
        try:
            size = await self._stored(request, form, path)
            if form.file_name is None:
                raise Problem(
                    400, f"the form has no `{FILE}`", code="missing_required_parameter", param=FILE
                )
            path = _with_suffix(path, form.file_name)
            yield Upload(form.fields, path, form.file_name, size)
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder."""
        self._stack.close()

    def _check_stated(self, request: Request) -> None:
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._most + FIELDS_BYTES:
            raise self._too_large()

    async def _stored(self, request: Request, form: FormParser, path: Path) -> int:
        """Read all of a request, its file to a path; returns the file's bytes."""
        size = came = 0
        with _opened(path) as file:
            async for data in _stream(request):
                form.feed(data)
                came += len(data)
                if size + form.pending > self._most or came > self._most + FIELDS_BYTES:
                    raise self._too_large()
                if form.pending >= _PIECE:
                    size += await _write(file, form.taken())
            size += await _write(file, form.taken())
        if not form.is_complete:
            raise Problem(400, "the form ends before its last boundary", code="invalid_form")
        return size

    def _new_path(self) -> Path:
        try:
            if self._folder is None:
                self._folder = self._stack.enter_context(temporary_folder("uploads"))
        except OSError as error:
            raise _no_room(error) from error
        return self._folder / f"upload-{next(self._numbers)}"

    def _too_large(self) -> Problem:
        return Problem(
            413,
            f"the file is larger than the {self._most / 1e6:g} MB taken here; send it compressed "
            "or in parts, or have the server started with a larger --max-upload-mb",
            code="file_too_large",
            param=FILE,
        )


async def _stream(request: Request) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes in.

    Raises:
        Problem: 408, nothing comes any more.
        ClientDisconnect: it was broken off.
    """
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), PATIENCE_S)
        except asyncio.TimeoutError as error:
            raise Problem(
                408, f"nothing came for {PATIENCE_S:g} s; send it again", code="upload_timeout"
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", 0)
    except OSError as error:
        raise _no_room(error) from error


async def _write(file: BinaryIO, data: bytes) -> int:
    """Write all of it in a thread, since a disk may be slow; returns how many bytes."""
    if data:
        try:
            await asyncio.to_thread(_write_all, file, data)
        except OSError as error:
            raise _no_room(error) from error
    return len(data)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _no_room(error: OSError) -> Problem:
    LOG.warning("an upload cannot be kept: %s", error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(507, "the server has no room for the file; try again later", code="no_room")
    return Problem(500, "the server cannot keep the file; its log says why", code="upload_not_kept")


def _with_suffix(path: Path, name: str) -> Path:
    """Give a file the ending that its name has: some formats cannot be told without."""
    suffix = Path(name).suffix.lower()
    if suffix not in AUDIO_SUFFIXES:
        return path
    return path.rename(path.with_name(path.name + suffix))
