"""A small model hub on loopback that serves a folder and misbehaves on command.

It speaks as much of the hub's protocol as a download needs: the repository's description with
sizes and sums, HEAD and GET of files with ETag, X-Repo-Commit and ranges, and, with `cdn`, the
redirect of large files to another host. It streams from disk, so files of gigabytes are fine. It
is a plain HTTP proxy for itself too: a request with an absolute URI is answered and so marked in
the log.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

COMMIT = "c0ffee" + "0" * 34
API = "api"
"""The name by which `misbehave` means the description of the repository."""
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in to the guest network.</body></html>\n"
_BLOCK = 1 << 16
_LARGE = (".onnx", ".data", "_data")
_KINDS = {
    "length": "the file is VALUE bytes long: cut, or filled up with zeros",
    "no_length": "no length is given",
    "html": "a page instead of the file, with status 200",
    "html_as_file": "the same, called application/octet-stream",
    "status": "status VALUE",
    "drop": "the connection ends at byte VALUE of the file",
    "throttle": "VALUE bytes a second",
    "stall": "nothing comes after byte VALUE of the file, and the connection stays open",
    "silent": "no answer at all",
    "changed": "another first byte, the same length",
    "no_ranges": "ranges are ignored: always the whole file",
}


@dataclass
class Fault:
    """One way to misbehave; see `_KINDS`."""

    kind: str
    value: int = 0
    times: int | None = None
    """How often; None: always."""
    code: str = ""
    """X-Error-Code of a status."""


@dataclass
class Sent:
    """What the log keeps of a request for a file."""

    method: str
    path: str
    name: str
    start: int = 0
    """First byte asked for."""
    sent: int = 0
    """Bytes of body handed to the system, still counted while it runs."""
    status: int = 0
    token: str | None = None
    agent: str = ""
    host: str = ""
    proxied: bool = False


@dataclass
class Hub:
    """The server: a context manager with `url`, `log` and `misbehave`."""

    folder: Path
    repo: str = "someone/tiny"
    commit: str = COMMIT
    any_revision: bool = False
    """Answer to every revision, as if it were there."""
    cdn: bool = False
    """Redirect large files to another host name, as the hub does."""
    private: str | None = None
    """The token without which nothing is served."""
    log: list[Sent] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.closing = threading.Event()
        self._sums: dict[Path, tuple[int, str, str]] = {}
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def misbehave(
        self, name: str, kind: str, value: int = 0, *, times: int | None = None, code: str = ""
    ) -> None:
        """Do so with the next `times` requests for the file `name` (or `API`), or with all."""
        assert kind in _KINDS
        self.faults.setdefault(name, []).append(Fault(kind, value, times, code))

    def behave(self) -> None:
        """Be a good hub again."""
        self.faults.clear()

    def fault(self, name: str) -> dict[str, Fault]:
        """The faults of one request by their kind; those with a count are used up."""
        now = {}
        for fault in self.faults.get(name, []):
            if fault.kind not in now and fault.times != 0:
                now[fault.kind] = fault
                fault.times = None if fault.times is None else fault.times - 1
        return now

    def bytes_sent(self, name: str) -> int:
        """Bytes of a file sent in all requests."""
        return sum(entry.sent for entry in self.log if entry.name == name)

    def starts(self, name: str) -> list[int]:
        """The first byte of each GET of a file, redirects left out."""
        got = [entry for entry in self.log if entry.name == name and entry.method == "GET"]
        return [entry.start for entry in got if entry.status not in (301, 302)]

    def sums(self, path: Path) -> tuple[int, str, str]:
        """Size, SHA-256 and git's blob SHA-1 of a file, computed once."""
        if path not in self._sums:
            size = path.stat().st_size
            sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
            with path.open("rb") as content:
                while block := content.read(1 << 20):
                    sha256.update(block)
                    git.update(block)
            self._sums[path] = size, sha256.hexdigest(), git.hexdigest()
        return self._sums[path]

    def description(self) -> dict[str, object]:
        """What the API says of the repository."""
        siblings = []
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            size, sha256, git = self.sums(path)
            entry = {"rfilename": path.relative_to(self.folder).as_posix(), "size": size}
            entry |= {"blobId": git}
            if path.name.endswith(_LARGE):
                entry |= {"lfs": {"sha256": sha256, "size": size, "pointerSize": 134}}
            siblings.append(entry)
        tags = ["onnx", "license:cc-by-4.0"]
        return {"id": self.repo, "sha": self.commit, "siblings": siblings, "tags": tags}


def use(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What HF_ENDPOINT does, in a process that has imported the hub's library already."""
    patch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    close_session()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are the point of these tests."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """The log is a list."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def setup(self) -> None:
        super().setup()
        # what the client has not read when it is killed counts as sent: keep that small
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)

    def _answer(self) -> None:
        url, hub = urlsplit(self.path), self.hub
        path, repo = unquote(url.path), re.escape(hub.repo)
        self.entry = Sent(self.command, path, "", host=self.headers.get("Host", ""))
        self.entry.token = self.headers.get("Authorization")
        self.entry.agent = self.headers.get("User-Agent", "")
        self.entry.proxied = bool(url.netloc)
        hub.log.append(self.entry)
        if hub.private and self.entry.token != f"Bearer {hub.private}" and "/cdn/" not in path:
            self._refuse(401, "RepoNotFound")
        elif found := re.fullmatch(rf"/api/models/{repo}(?:/revision/(?P<rev>[^/]+))?", path):
            self._describe(found["rev"])
        elif found := re.fullmatch(rf"/{repo}/resolve/(?P<rev>[^/]+)/(?P<name>.+)", path):
            self._resolve(found["rev"], found["name"])
        elif found := re.fullmatch(r"/cdn/(?P<name>.+)", path):
            self._file(found["name"])
        else:
            self._refuse(404, "RepoNotFound")

    def _known(self, revision: str | None) -> bool:
        return self.hub.any_revision or revision in (None, "main", self.hub.commit)

    def _describe(self, revision: str | None) -> None:
        self.entry.name = API
        faults = self.hub.fault(API)
        if "html" in faults:
            self._send(200, PAGE, {"Content-Type": "text/html"})
        elif "status" in faults:
            self._refuse(faults["status"].value, faults["status"].code)
        elif not self._known(revision):
            self._refuse(404, "RevisionNotFound")
        else:
            body = json.dumps(self.hub.description()).encode()
            self._send(200, body, {"Content-Type": "application/json"})

    def _resolve(self, revision: str, name: str) -> None:
        self.entry.name = name
        path = self.hub.folder / name
        if not self._known(revision):
            self._refuse(404, "RevisionNotFound")
        elif not path.is_file():
            self._refuse(404, "EntryNotFound")
        elif self.hub.cdn and name.endswith(_LARGE):
            size, sha256, _ = self.hub.sums(path)
            there = f"http://localhost:{self.hub.port}/cdn/{quote(name)}"
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size)}
            self._send(302, b"", {"Location": there, **self._commit(revision), **linked})
        else:
            self._file(name, revision)

    def _commit(self, revision: str) -> dict[str, str]:
        hexadecimal = re.fullmatch("[0-9a-f]{40}", revision)
        return {"X-Repo-Commit": revision if hexadecimal else self.hub.commit}

    def _file(self, name: str, revision: str = "main") -> None:
        self.entry.name = name
        faults = self.hub.fault(name)
        if "silent" in faults:
            self.hub.closing.wait()
            self.close_connection = True
        elif "status" in faults:
            self._refuse(faults["status"].value, faults["status"].code)
        elif "html" in faults:
            self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        elif "html_as_file" in faults:
            self._send(200, PAGE, {"Content-Type": "application/octet-stream"})
        else:
            self._content(name, faults, self._commit(revision))

    def _content(self, name: str, faults: dict[str, Fault], headers: dict[str, str]) -> None:
        path = self.hub.folder / name
        size, sha256, git = self.hub.sums(path)
        headers["ETag"] = f'"{sha256 if name.endswith(_LARGE) else git}"'
        size = faults["length"].value if "length" in faults else size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and "no_ranges" not in faults else 0
        self.entry.start = start
        if start and start >= size:
            self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if "no_length" in faults:
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(size - start)
        self._head(206 if start else 200, headers)
        if self.command == "GET":
            self._stream(path, start, size, faults)

    def _stream(self, path: Path, start: int, size: int, faults: dict[str, Fault]) -> None:
        rate = faults["throttle"].value if "throttle" in faults else None
        stop = min([size, *(faults[kind].value for kind in ("drop", "stall") if kind in faults)])
        blocks = _blocks(path, start, stop, 4096 if rate else _BLOCK)
        for number, block in enumerate(blocks):
            changed = "changed" in faults and not number
            # counted first: whoever has the last byte may look before this thread goes on
            self.entry.sent += len(block)
            try:
                self.wfile.write(bytes([block[0] ^ 1]) + block[1:] if changed else block)
            except OSError:
                self.entry.sent -= len(block)
                raise
            if rate:
                time.sleep(len(block) / rate)
        if "stall" in faults:
            self.hub.closing.wait()
        if stop < size or "no_length" in faults:
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.entry.status = status
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _blocks(path: Path, start: int, stop: int, size: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop` of a file, which may lie behind its end: zeros then."""
    with path.open("rb") as content:
        content.seek(start)
        while start < stop:
            wanted = min(size, stop - start)
            block = content.read(wanted) or bytes(wanted)
            start += len(block)
            yield block
