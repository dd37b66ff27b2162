"""A form, `multipart/form-data`, as it streams in: fields are kept, a file's bytes handed on."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stt.serve.problems import Problem

FIELDS_BYTES = 16_000_000
"""All of a form but its file: a prompt, names, samples of speakers' voices."""
_MOST_PARTS = 1000
_LONGEST_NAME = 200
FILE = "file"


def boundary_of(content_type: str | None) -> bytes:
    """Return what stands between a form's parts.

    Raises:
        Problem: 415, it is no form.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(
            415,
            "send a form, `multipart/form-data` with a boundary, and the recording as `file`",
            code="unsupported_media_type",
        )
    return options[b"boundary"]


class FormParser:
    """Feed it what comes in, in pieces of any size."""

    def __init__(self, boundary: bytes) -> None:
        self._collected: dict[str, list[str]] = {}
        self._parts = self._other_bytes = 0
        self._header, self._value = bytearray(), bytearray()
        self._disposition: dict[bytes, bytes] = {}
        self._field = bytearray()
        self._takes_file = False
        self._pending = bytearray()
        self.file_name: str | None = None
        """As the client calls it, without folders; None until it begins."""
        self.is_complete = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise _malformed(error) from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Problem: they are no form; or what is not the file is too large.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(error) from error

    @property
    def pending(self) -> int:
        """Bytes of the file that `taken` would return."""
        return len(self._pending)

    def taken(self) -> bytes:
        """Return what came of the file since the last call."""
        data = bytes(self._pending)
        self._pending.clear()
        return data

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Name -> values, in the order in which they came."""
        return {name: tuple(values) for name, values in self._collected.items()}

    # --- what the parser calls ----------------------------------------------------------------

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Problem(400, "the form has too many parts", code="invalid_form")
        self._disposition, self._field = {}, bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._value.decode("latin-1"))[1]
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        self._takes_file = self._name == FILE and self.file_name is None
        if self._takes_file:
            self.file_name = _plain_name(_text(self._disposition.get(b"filename", b"")))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._takes_file:
            self._pending += data[start:end]
            return
        self._other_bytes += end - start
        if self._other_bytes > FIELDS_BYTES:
            raise Problem(413, "the form's fields are too large", code="fields_too_large")
        if b"filename" not in self._disposition:  # else a file that nobody asked for
            self._field += data[start:end]

    def _end(self) -> None:
        if not self._takes_file:
            self._collected.setdefault(self._name, []).append(_text(bytes(self._field)))

    def _finish(self) -> None:
        self.is_complete = True

    @property
    def _name(self) -> str:
        return _text(self._disposition.get(b"name", b""))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _plain_name(name: str) -> str:
    plain = PurePosixPath(name.replace("\\", "/")).name
    printable = "".join(letter for letter in plain if letter.isprintable())
    return printable[-_LONGEST_NAME:] or "audio"


def _malformed(error: FormParserError) -> Problem:
    return Problem(400, f"the form cannot be read: {error}", code="invalid_form")
