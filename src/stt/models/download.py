"""Files of a model from the hub or from a folder, proven before they get their names.

URLs, endpoint, token, proxies, offline mode and time-outs are huggingface_hub's. The bytes are
received here: its own download (2.4) starts from zero after every interruption and retries an
unreachable hub for half a minute. Xet plays no part in a plain GET, so there is nothing to switch
off: every byte comes by way of HF_ENDPOINT and the proxies, and can be asked for by range.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from stt.errors import ModelError, UsageError
from stt.models.catalog import PinnedFile, PinnedModel

__all__ = ["ReportBytes", "download", "import_folder", "resolve"]

ReportBytes = Callable[[str, int, int], None]
"""(stage, bytes done, bytes in all) of one file at a time."""

_BLOCK = 1 << 20
_REPORT_EVERY_S = 0.1
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Before each new try after a dropped connection; any byte gained starts them over."""
_TRIES_WHEN_SILENT = 2  # each costs a time-out, 10 s unless HF_HUB_DOWNLOAD_TIMEOUT says otherwise
_PART = ".part"

_AGAIN = "run `stt setup` again, it goes on where it stopped"
_IMPORT = "import the files from a folder with `stt setup --from DIR`"
_ONLINE = (
    "go online (unset HF_HUB_OFFLINE), or copy its files from another machine and run "
    "`stt setup --from DIR`"
)
_MEANWHILE = "`stt transcribe` works with the starter meanwhile"

_BUSY_STATUSES = (408, 429, 500, 502, 503, 504)
_BUSY = (
    f"{{what}}: the hub is busy or in trouble {{told}}; wait a little and {_AGAIN}; {_MEANWHILE}"
)
_REFUSALS = {
    # the hub's own code says more than the status: a private repository and none are both 401
    "GatedRepo": "{what}: its owner asks you to accept terms {told}; do that on the model's page, "
    "put a token of your account into HF_TOKEN and run again",
    "RepoNotFound": "{repo}: the hub has no such repository, or it is private {told}; check its "
    "name, and for a private one HF_TOKEN",
    "RevisionNotFound": f"{{repo}}: the hub has no revision {{revision}} {{told}}; {_IMPORT}",
    "EntryNotFound": "{what}: the hub has no such file at revision {revision} {told}; " + _IMPORT,
    "401": "{what}: the hub wants a valid token {told}; put one into HF_TOKEN and run again",
    "403": "{what}: the download is forbidden {told}: by a proxy, then ask its keeper or unset "
    f"HTTPS_PROXY, or by the hub, then put a token with access into HF_TOKEN; or {_IMPORT}",
    "404": "{what}: not found at revision {revision} {told}; check HF_ENDPOINT, or " + _IMPORT,
    "407": "{what}: the proxy wants a login {told}; write it into HTTPS_PROXY: "
    "http://USER:PASSWORD@HOST:PORT",
}
_REFUSED = f"{{what}}: the hub answered {{told}}; check HF_ENDPOINT and HTTPS_PROXY, or {_IMPORT}"

_ENCODER_AND_DECODER = ("encoder-model.onnx", "decoder_joint-model.onnx")
_GRAPHS = {
    "nemo-conformer-tdt": _ENCODER_AND_DECODER,
    "nemo-conformer-rnnt": _ENCODER_AND_DECODER,
    "nemo-conformer-ctc": ("model.onnx",),
}


def download(
    model: PinnedModel,
    files: Sequence[PinnedFile],
    folder: Path,
    report: ReportBytes,
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
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        hashes = _already_there(files, folder, report)
        missing = [file for file in files if file.name not in hashes]
        if missing and (offline or _hub().constants.HF_HUB_OFFLINE):
            raise _missing_offline(model, missing)
        for file in missing:
            (folder / file.name).unlink(missing_ok=True)
            job = _job(model, file, folder)
            _fetch(job, report)
            hashes[file.name] = _proven_part(job, report)
            _give_name(job.part, folder / file.name)
        _tidy(folder, files)
    return {file.name: hashes[file.name] for file in files}


def import_folder(
    model: PinnedModel | None,
    files: Sequence[PinnedFile],
    source: Path,
    folder: Path,
    report: ReportBytes,
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
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # without a sum to compare, a file of that size may be another model's
        summed = [file for file in files if file.sha256 or file.git_blob]
        hashes = _already_there(summed, folder, report)
        for file in files:
            if file.name not in hashes:
                part = folder / f".{file.name}.copy{_PART}"
                hashes[file.name] = _copy(file, found[file.name], part, report)
                _give_name(part, folder / file.name)
        _tidy(folder, files)
    return {file.name: hashes[file.name] for file in files}


def resolve(repo_id: str, revision: str | None, *, name: str) -> PinnedModel:
    """Ask the hub for a model in onnx-asr's layout and pin its FP32 files to the commit found.

    Args:
        repo_id: OWNER/REPO, or OWNER/REPO/FOLDER where the files lie in a folder.
        revision: a branch, tag or commit; None: the hub's default branch.
        name: what the model is to be called here.

    Raises:
        UsageError: `repo_id` has another form.
        ModelError: the hub cannot be reached or refuses, or the model is not of a known kind or
            lacks files.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(/[\w-][\w.-]*)*/?", repo_id):
        raise UsageError(
            f"{repo_id}: is not a model on the hub; write OWNER/REPO or OWNER/REPO/DIR"
        )
    owner, repo, *inside = repo_id.rstrip("/").split("/")
    repo, prefix = f"{owner}/{repo}", "".join(f"{part}/" for part in inside)
    info = _model_info(repo, revision)
    there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    whole = PinnedModel(name, repo, str(info.sha), _licence(info), f"{repo_id} on the hub", ())
    kind = _kind(whole, _pinned(_needed(whole, prefix, ["config.json"], there), there)[0])
    paths = _needed(whole, prefix, ["config.json", "vocab.txt", *_GRAPHS[kind]], there)
    weights = [path for graph in paths for path in there if fnmatchcase(path, f"{graph}?data*")]
    return replace(whole, files=_pinned([*paths, *sorted(weights)], there))


# -- what lies in the folder -----------------------------------------------------------------------


class _DiffersError(Exception):
    """A file is not what was pinned; the text says how."""


class _Proof:
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
        """Return the SHA-256 in hex; _DiffersError when size or contents are not as pinned."""
        file, sha256, git = self._file, self._sha256.hexdigest(), self._git.hexdigest()
        if self._size != file.size:
            raise _DiffersError(f"{self._size:,} bytes where {file.size:,} are pinned")
        if file.sha256 is not None and sha256 != file.sha256:
            raise _DiffersError(f"SHA-256 {sha256} where {file.sha256} is pinned")
        if file.git_blob is not None and git != file.git_blob:
            raise _DiffersError(f"git's SHA-1 {git} where {file.git_blob} is pinned")
        return sha256


def _already_there(
    files: Sequence[PinnedFile], folder: Path, report: ReportBytes
) -> dict[str, str]:
    """The SHA-256 of those files that lie in `folder` under their names and are right."""
    hashes = {}
    for file in files:
        path = folder / file.name
        if path.exists():
            try:
                hashes[file.name] = _proven(path, file, report)
            except _DiffersError as error:
                report(f"replacing {file.name}, it is damaged ({error})", 0, file.size)
    return hashes


def _proven(path: Path, file: PinnedFile, report: ReportBytes) -> str:
    """The SHA-256 of a file on disk; _DiffersError when it is not as pinned."""
    size = path.stat().st_size
    if size != file.size:  # known without reading gigabytes
        raise _DiffersError(f"{size:,} bytes where {file.size:,} are pinned")
    proof, told = _Proof(file), _Rarely(report, f"checking {file.name}", file.size)
    with path.open("rb") as content:
        for block in _blocks(content):
            proof.add(block)
            told.add(len(block))
    return proof.verdict()


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    while block := content.read(_BLOCK):
        yield block


class _Rarely:
    """Reports bytes done ten times a second and at the end, however small the blocks are."""

    def __init__(self, report: ReportBytes, stage: str, total: int, done: int = 0) -> None:
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


@dataclass(frozen=True, slots=True)
class _Job:
    """One file on its way from the hub."""

    model: PinnedModel
    file: PinnedFile
    part: Path
    """Where it is received, under a name of this version of it."""

    @property
    def have(self) -> int:
        """Bytes received so far."""
        return self.part.stat().st_size

    @property
    def what(self) -> str:
        """The file for messages."""
        return f"{self.file.path_in_repo} of {self.model.repo_id}"

    @property
    def so_far(self) -> str:
        """How much is here, for messages."""
        return f"at {self.have:,} of {self.file.size:,} bytes"


def _job(model: PinnedModel, file: PinnedFile, folder: Path) -> _Job:
    key = (file.sha256 or file.git_blob or model.revision)[:12]
    job = _Job(model, file, folder / f".{file.name}.{key}{_PART}")
    if job.part.exists() and job.have > file.size:
        job.part.unlink()
    job.part.touch()
    return job


def _proven_part(job: _Job, report: ReportBytes) -> str:
    try:
        return _proven(job.part, job.file, report)
    except _DiffersError as error:
        job.part.unlink()
        raise ModelError(
            f"{job.what} arrived changed: {error}; it was removed: run `stt setup` again to fetch "
            "it anew; if it differs again, the hub or the mirror in HF_ENDPOINT has another file: "
            f"{_IMPORT}"
        ) from error


def _tidy(folder: Path, files: Sequence[PinnedFile]) -> None:
    """Remove what was received of other versions, and what a killed import left."""
    names = "|".join(re.escape(file.name) for file in files)
    for path in folder.iterdir():
        if re.fullmatch(rf"\.({names})\.\w+{re.escape(_PART)}", path.name):
            path.unlink()


def _give_name(part: Path, path: Path) -> None:
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


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into a line that says what to do."""
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ModelError(
            f"the disk is full in {folder} ({error.strerror}); make room, or choose another disk "
            f"with `models_dir`, and {_AGAIN}"
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


# -- from a folder ---------------------------------------------------------------------------------


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


def _copy(file: PinnedFile, source: Path, part: Path, report: ReportBytes) -> str:
    """Copy one file and return its SHA-256; nothing stays of one that is not as pinned."""
    proof, told = _Proof(file), _Rarely(report, f"copying {file.name}", file.size)
    try:
        with part.open("wb") as copy:
            for block in _read(file, source):
                proof.add(block)
                copy.write(block)
                told.add(len(block))
        return proof.verdict()
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, _DiffersError):
            raise ModelError(
                f"{source}: {error}; it is damaged or another version: copy it there again"
            ) from error
        raise


def _read(file: PinnedFile, source: Path) -> Iterator[bytes]:
    """The blocks of a file to import; a wrong size is told before anything is read."""
    try:
        size = source.stat().st_size
        if size != file.size:
            raise _DiffersError(f"{size:,} bytes where {file.size:,} are pinned")
        with source.open("rb") as content:
            yield from _blocks(content)
    except OSError as error:
        raise ModelError(
            f"{source}: cannot be read ({error.strerror or error}); check the disk or stick and "
            "its rights, and run again"
        ) from error


# -- from the hub ----------------------------------------------------------------------------------


def _hub() -> Any:
    """The package huggingface_hub, imported late: it reads the environment when it is imported."""
    # without this it tells the hub which packages and which agent run here, by a request of its own
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its advice is not our output
    return huggingface_hub


def _session() -> tuple[Any, Any]:
    """The hub library's HTTP client and the package it is of: httpx in version 1, httpx2 in 2."""
    try:
        client = _hub().utils.get_session()
    except (ImportError, ValueError) as error:  # what httpx makes of a proxy it cannot use
        raise ModelError(
            f"the proxy of the environment cannot be used ({_line(error)}); correct HTTPS_PROXY, "
            "HTTP_PROXY and ALL_PROXY"
        ) from error
    return client, sys.modules[type(client).__module__.partition(".")[0]]


class _PassingError(Exception):
    """A failure that may pass by itself; the text is what to say when it does not."""

    def __init__(self, text: str, *, pauses: int = len(_PAUSES_S), unreached: bool = False) -> None:
        super().__init__(text)
        self.pauses = pauses
        self.unreached = unreached


def _fetch(job: _Job, report: ReportBytes) -> None:
    """Complete a part, going on where it stopped, through dropped connections and busy servers."""
    begun, failures = job.have, 0
    told = _Rarely(report, f"downloading {job.file.name}", job.file.size, begun)
    while (have := job.have) < job.file.size:
        try:
            _receive(job, told)
            continue
        except _PassingError as error:
            failure = error
        failures = failures + 1 if job.have <= have else 1
        # a hub that was never reached is told at once; one that was may be back in a moment
        if failures > failure.pauses or (failure.unreached and job.have == begun):
            raise ModelError(str(failure)) from failure
        time.sleep(_PAUSES_S[failures - 1])


def _receive(job: _Job, told: _Rarely) -> None:
    """Ask for the bytes that the part lacks and append what arrives."""
    hub, (client, http) = _hub(), _session()
    url = hub.hf_hub_url(job.model.repo_id, job.file.path_in_repo, revision=job.model.revision)
    # identity: what is counted and asked for by range must be the file's own bytes
    headers = {**hub.utils.build_hf_headers(library_name="stt"), "Accept-Encoding": "identity"}
    if job.have:
        headers["Range"] = f"bytes={job.have}-"
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with client.stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code == 416:
                raise _wrong_length(job, answer.headers.get("Content-Range", "").rpartition("/")[2])
            _check_status(answer, job.model, job.what)
            _append(answer, job, told)
    except (http.HTTPError, http.InvalidURL) as error:
        raise _transport(error, http, job) from error


def _append(answer: Any, job: _Job, told: _Rarely) -> None:
    """Write the body of a successful answer behind what the part holds, or in its place."""
    resumed = answer.status_code == 206
    have = job.have if resumed else 0  # a server without ranges sends the whole file
    blocks = answer.iter_raw()
    first = next(blocks, b"")
    _check_is_no_page(answer, b"" if resumed else first, job)
    _check_length(answer, have, job)
    told.at(have)
    with job.part.open("ab" if resumed else "wb") as content:
        for block in chain([first], blocks):
            have += len(block)
            if have > job.file.size:
                break
            content.write(block)
            told.at(have)
    if have > job.file.size:  # without a Content-Length only this tells
        job.part.unlink()
        raise _wrong_length(job, f"more than {job.file.size:,}")
    if have < job.file.size:
        raise _dropped(job, "the answer ended early")


def _check_status(answer: Any, model: PinnedModel, what: str) -> None:
    """Return when the answer is a success; otherwise raise what its status means."""
    status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
    if status in (200, 206):
        return
    said = _line(f"{status} {answer.headers.get('X-Error-Message') or answer.reason_phrase}")
    text = _BUSY if status in _BUSY_STATUSES else _REFUSALS.get(code) or _REFUSALS.get(str(status))
    text = (text or _REFUSED).format(
        what=what, repo=model.repo_id, revision=model.revision, told=f"({said})"
    )
    if status in _BUSY_STATUSES:
        raise _PassingError(text)
    raise ModelError(text)


def _check_is_no_page(answer: Any, first: bytes, job: _Job) -> None:
    """Login and proxy pages come with status 200, and not always with their content type."""
    typed = answer.headers.get("Content-Type", "").startswith("text/html")
    if typed or first.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise ModelError(
            f"{job.what}: a web page arrived instead of the file: a proxy or a login page answered "
            "for the hub; log in to the network in a browser or correct HTTPS_PROXY, and "
            f"{_AGAIN}"
        )


def _check_length(answer: Any, have: int, job: _Job) -> None:
    """Refuse another length before gigabytes of it are received."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status_code == 206 and (span is None or int(span[1]) != have):
        raise ModelError(
            f"{job.what}: other bytes arrived than were asked for; check HF_ENDPOINT and "
            f"HTTPS_PROXY, or {_IMPORT}"
        )
    length = span[2] if span else answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != job.file.size:
        raise _wrong_length(job, f"{int(length):,}")


def _wrong_length(job: _Job, length: str) -> ModelError:
    return ModelError(
        f"{job.what} has the wrong length: {length} bytes on the hub where {job.file.size:,} are "
        f"pinned; check HF_ENDPOINT and HTTPS_PROXY and run again, or {_IMPORT}"
    )


def _dropped(job: _Job, why: str) -> _PassingError:
    return _PassingError(
        f"{job.what}: the connection was dropped {job.so_far} ({why}); {_AGAIN}; {_MEANWHILE}"
    )


def _transport(error: Exception, http: Any, job: _Job) -> _PassingError:
    """What a failure below HTTP means to the user."""
    unreached = (http.ConnectError, http.ConnectTimeout, http.ProxyError)
    if isinstance(error, (*unreached, http.InvalidURL, http.UnsupportedProtocol)):
        return _PassingError(_unreachable(error, http, job.what), unreached=True)
    if isinstance(error, http.TimeoutException):
        seconds = _hub().constants.HF_HUB_DOWNLOAD_TIMEOUT
        return _PassingError(
            f"{job.what}: the hub has been silent for {seconds} s, {job.so_far}; {_AGAIN}, with "
            f"more patience by HF_HUB_DOWNLOAD_TIMEOUT={6 * seconds}; {_MEANWHILE}",
            pauses=_TRIES_WHEN_SILENT - 1,
        )
    return _dropped(job, _line(error))


def _unreachable(error: Exception, http: Any, what: str) -> str:
    where = f"{what}: the hub ({_hub().constants.ENDPOINT}) cannot be reached"
    if isinstance(error, (http.InvalidURL, http.UnsupportedProtocol)):
        return f"{where}: its address is not one ({_line(error)}); correct HF_ENDPOINT"
    if isinstance(error, http.ProxyError):
        return (
            f"{where}: the proxy refuses ({_line(error)}); correct HTTPS_PROXY or ask its keeper, "
            f"or {_IMPORT}; {_MEANWHILE}"
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"{where}: its certificate is not trusted; where a proxy reads along, name its "
            f"certificate file in SSL_CERT_FILE; {_MEANWHILE}"
        )
    return (
        f"{where} ({_line(error)}); check network, HTTPS_PROXY and HF_ENDPOINT and {_AGAIN}, "
        f"or {_IMPORT}; {_MEANWHILE}"
    )


def _missing_offline(model: PinnedModel, missing: Sequence[PinnedFile]) -> ModelError:
    names = ", ".join(file.name for file in missing)
    return ModelError(f"offline, and {names} of {model.repo_id} missing or damaged here; {_ONLINE}")


def _line(said: object) -> str:
    """Foreign words on one line of at most 200 characters."""
    return " ".join(str(said).split())[:200] or type(said).__name__


# -- any model of the hub --------------------------------------------------------------------------


def _model_info(repo: str, revision: str | None) -> Any:
    """What the hub says of a repository: its commit and its files with sizes and sums."""
    asked = PinnedModel(repo, repo, revision or "main", "", "", ())
    hub, (_, http) = _hub(), _session()
    if hub.constants.HF_HUB_OFFLINE:
        raise ModelError(f"offline, and {repo} is not in the catalogue; {_ONLINE}")
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        return hub.HfApi(library_name="stt").model_info(
            repo, revision=revision, timeout=timeout, files_metadata=True
        )
    except hub.errors.HFValidationError as error:
        raise UsageError(f"{repo}: is not a name on the hub ({_line(error)})") from error
    except hub.errors.HfHubHTTPError as error:
        try:
            _check_status(error.response, asked, repo)
        except _PassingError as busy:
            raise ModelError(str(busy)) from error
        raise
    except (http.HTTPError, http.InvalidURL) as error:
        raise ModelError(_unreachable(error, http, repo)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{repo}: what answered is not the hub ({_line(error)}): a proxy or login page? Log in "
            "to the network in a browser, check HTTPS_PROXY and HF_ENDPOINT, and run again"
        ) from error


def _licence(info: Any) -> str:
    tags = (tag.partition(":") for tag in info.tags or ())
    return next((value for key, _, value in tags if key == "license"), "not stated")


def _needed(
    model: PinnedModel, prefix: str, names: Sequence[str], there: Mapping[str, Any]
) -> list[str]:
    """Paths of the files by these names; ModelError when the repository lacks any."""
    paths = [prefix + name for name in names]
    if missing := [path for path in paths if path not in there]:
        folders = sorted(path[:-12] for path in there if path.endswith("/config.json"))
        hint = f"; models in folders of it: {', '.join(folders)}" if folders else ""
        raise ModelError(
            f"{model.repo_id}: has no {', '.join(missing)}, so it is no FP32 model in onnx-asr's "
            f"layout{hint}; choose another, or {_IMPORT}"
        )
    return paths


def _pinned(paths: Sequence[str], there: Mapping[str, Any]) -> tuple[PinnedFile, ...]:
    pinned = []
    for path in paths:
        entry, name = there[path], PurePosixPath(path).name
        sha256 = entry.lfs.sha256 if entry.lfs else None
        git_blob = None if entry.lfs else entry.blob_id  # of LFS files it is the pointer's
        where = path if path != name else None
        pinned.append(PinnedFile(name, int(entry.size or 0), sha256, where, git_blob))
    return tuple(pinned)


def _kind(model: PinnedModel, config: PinnedFile) -> str:
    """The model's type as its config.json says, fetched and proven."""
    with tempfile.TemporaryDirectory() as folder:
        download(model, [config], Path(folder), lambda *_: None)
        try:
            content = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        except ValueError as error:
            raise ModelError(
                f"{model.repo_id}: its {config.path_in_repo} is not JSON ({_line(error)}); choose "
                "another model"
            ) from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in _GRAPHS:
        raise ModelError(
            f"{model.repo_id}: model_type {kind!r} in its {config.path_in_repo} is none of "
            f"{', '.join(_GRAPHS)}; choose another model"
        )
    return str(kind)
