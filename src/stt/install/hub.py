"""One file from the model hub: counted, resumed after any interruption, each failure with its cure.

URLs, endpoint, token, proxies, offline mode and time-outs are huggingface_hub's. The bytes are
received here: its own download (2.4) starts from zero after every interruption and retries an
unreachable hub for half a minute. Xet plays no part in a plain GET, so there is nothing to switch
off: every byte comes by way of HF_ENDPOINT and the proxies, and can be asked for by range.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from stt.errors import ModelError, UsageError
from stt.install.catalog import PinnedFile, PinnedModel
from stt.install.installation import AGAIN, Rarely
from stt.types import ReportProgress

_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Before each new try after a dropped connection; any byte gained starts them over."""
_TRIES_WHEN_SILENT = 2  # each costs a time-out, 10 s unless HF_HUB_DOWNLOAD_TIMEOUT says otherwise
IMPORT = "import the files from a folder with `stt setup --from DIR`"
ONLINE = (
    "go online (unset HF_HUB_OFFLINE), or copy its files from another machine and run "
    "`stt setup --from DIR`"
)
_MEANWHILE = "`stt transcribe` works with the starter meanwhile"

_BUSY_STATUSES = (408, 429, 500, 502, 503, 504)
_BUSY = (
    f"{{what}}: the hub is busy or in trouble {{answer}}; wait a little and {AGAIN}; {_MEANWHILE}"
)
_REFUSALS = {
    # the hub's own code says more than the status: a private repository and none are both 401
    "GatedRepo": "{what}: its owner asks you to accept terms {answer}; do that on the model's "
    "page, put a token of your account into HF_TOKEN and run again",
    "RepoNotFound": "{repo}: the hub has no such repository, or it is private {answer}; check its "
    "name, and for a private one HF_TOKEN",
    "RevisionNotFound": f"{{repo}}: the hub has no revision {{revision}} {{answer}}; {IMPORT}",
    "EntryNotFound": "{what}: the hub has no such file at revision {revision} {answer}; " + IMPORT,
    "401": "{what}: the hub wants a valid token {answer}; put one into HF_TOKEN and run again",
    "403": "{what}: the download is forbidden {answer}: by a proxy, then ask its keeper or unset "
    f"HTTPS_PROXY, or by the hub, then put a token with access into HF_TOKEN; or {IMPORT}",
    "404": "{what}: not found at revision {revision} {answer}; check HF_ENDPOINT, or " + IMPORT,
    "407": "{what}: the proxy wants a login {answer}; write it into HTTPS_PROXY: "
    "http://USER:PASSWORD@HOST:PORT",
}
_REFUSED = f"{{what}}: the hub answered {{answer}}; check HF_ENDPOINT and HTTPS_PROXY, or {IMPORT}"


@dataclass(frozen=True, slots=True)
class Job:
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


def _library() -> Any:
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
        client = _library().utils.get_session()
    except (ImportError, ValueError) as error:  # what httpx makes of a proxy it cannot use
        raise ModelError(
            f"the proxy of the environment cannot be used ({line(error)}); correct HTTPS_PROXY, "
            "HTTP_PROXY and ALL_PROXY"
        ) from error
    return client, sys.modules[type(client).__module__.partition(".")[0]]


def offline() -> bool:
    """Tell whether HF_HUB_OFFLINE forbids the network."""
    return bool(_library().constants.HF_HUB_OFFLINE)


class _PassingError(Exception):
    """A failure that may pass by itself; the text is what to say when it does not."""

    def __init__(self, text: str, *, pauses: int = len(_PAUSES_S), unreached: bool = False) -> None:
        super().__init__(text)
        self.pauses = pauses
        self.unreached = unreached


def fetch(job: Job, report: ReportProgress) -> None:
    """Complete a part, going on where it stopped, through dropped connections and busy servers."""
    begun, failures = job.have, 0
    progress = Rarely(report, f"downloading {job.file.name}", job.file.size, begun)
    while (have := job.have) < job.file.size:
        try:
            _receive(job, progress)
            continue
        except _PassingError as error:
            failure = error
        failures = failures + 1 if job.have <= have else 1
        # a hub that was never reached is reported at once; one that was may be back in a moment
        if failures > failure.pauses or (failure.unreached and job.have == begun):
            raise ModelError(str(failure)) from failure
        time.sleep(_PAUSES_S[failures - 1])


def _receive(job: Job, progress: Rarely) -> None:
    """Ask for the bytes that the part lacks and append what arrives."""
    hub, (client, http) = _library(), _session()
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
            _append(answer, job, progress)
    except (http.HTTPError, http.InvalidURL) as error:
        raise _transport(error, http, job) from error


def _append(answer: Any, job: Job, progress: Rarely) -> None:
    """Write the body of a successful answer behind what the part holds, or in its place."""
    resumed = answer.status_code == 206
    have = job.have if resumed else 0  # a server without ranges sends the whole file
    blocks = answer.iter_raw()
    first = next(blocks, b"")
    _check_is_no_page(answer, b"" if resumed else first, job)
    _check_length(answer, have, job)
    progress.at(have)
    with job.part.open("ab" if resumed else "wb") as content:
        for block in chain([first], blocks):
            have += len(block)
            if have > job.file.size:
                break
            content.write(block)
            progress.at(have)
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
    said = line(f"{status} {answer.headers.get('X-Error-Message') or answer.reason_phrase}")
    text = _BUSY if status in _BUSY_STATUSES else _REFUSALS.get(code) or _REFUSALS.get(str(status))
    text = (text or _REFUSED).format(
        what=what, repo=model.repo_id, revision=model.revision, answer=f"({said})"
    )
    if status in _BUSY_STATUSES:
        raise _PassingError(text)
    raise ModelError(text)


def _check_is_no_page(answer: Any, first: bytes, job: Job) -> None:
    """Login and proxy pages come with status 200, and not always with their content type."""
    typed = answer.headers.get("Content-Type", "").startswith("text/html")
    if typed or first.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise ModelError(
            f"{job.what}: a web page arrived instead of the file: a proxy or a login page answered "
            "for the hub; log in to the network in a browser or correct HTTPS_PROXY, and "
            f"{AGAIN}"
        )


def _check_length(answer: Any, have: int, job: Job) -> None:
    """Refuse another length before gigabytes of it are received."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status_code == 206 and (span is None or int(span[1]) != have):
        raise ModelError(
            f"{job.what}: other bytes arrived than were asked for; check HF_ENDPOINT and "
            f"HTTPS_PROXY, or {IMPORT}"
        )
    length = span[2] if span else answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != job.file.size:
        raise _wrong_length(job, f"{int(length):,}")


def _wrong_length(job: Job, length: str) -> ModelError:
    return ModelError(
        f"{job.what} has the wrong length: {length} bytes on the hub where {job.file.size:,} are "
        f"pinned; check HF_ENDPOINT and HTTPS_PROXY and run again, or {IMPORT}"
    )


def _dropped(job: Job, why: str) -> _PassingError:
    return _PassingError(
        f"{job.what}: the connection was dropped {job.so_far} ({why}); {AGAIN}; {_MEANWHILE}"
    )


def _transport(error: Exception, http: Any, job: Job) -> _PassingError:
    """What a failure below HTTP means to the user."""
    unreached = (http.ConnectError, http.ConnectTimeout, http.ProxyError)
    if isinstance(error, (*unreached, http.InvalidURL, http.UnsupportedProtocol)):
        return _PassingError(_unreachable(error, http, job.what), unreached=True)
    if isinstance(error, http.TimeoutException):
        seconds = _library().constants.HF_HUB_DOWNLOAD_TIMEOUT
        return _PassingError(
            f"{job.what}: the hub has been silent for {seconds} s, {job.so_far}; {AGAIN}, with "
            f"more patience by HF_HUB_DOWNLOAD_TIMEOUT={6 * seconds}; {_MEANWHILE}",
            pauses=_TRIES_WHEN_SILENT - 1,
        )
    return _dropped(job, line(error))


def _unreachable(error: Exception, http: Any, what: str) -> str:
    where = f"{what}: the hub ({_library().constants.ENDPOINT}) cannot be reached"
    if isinstance(error, (http.InvalidURL, http.UnsupportedProtocol)):
        return f"{where}: its address is not one ({line(error)}); correct HF_ENDPOINT"
    if isinstance(error, http.ProxyError):
        return (
            f"{where}: the proxy refuses ({line(error)}); correct HTTPS_PROXY or ask its keeper, "
            f"or {IMPORT}; {_MEANWHILE}"
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"{where}: its certificate is not trusted; where a proxy reads along, name its "
            f"certificate file in SSL_CERT_FILE; {_MEANWHILE}"
        )
    return (
        f"{where} ({line(error)}); check network, HTTPS_PROXY and HF_ENDPOINT and {AGAIN}, "
        f"or {IMPORT}; {_MEANWHILE}"
    )


def model_info(repo: str, revision: str | None, *, offline: bool = False) -> Any:
    """Return what the hub says of a repository: its commit and its files with sizes and sums.

    Raises:
        UsageError: `repo` is not a name.
        ModelError: the hub cannot be reached or refuses.
    """
    asked = PinnedModel(repo, repo, revision or "main", "", "", ())
    hub, (_, http) = _library(), _session()
    if offline or hub.constants.HF_HUB_OFFLINE:
        raise ModelError(f"offline, and {repo} is not in the catalogue; {ONLINE}")
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        return hub.HfApi(library_name="stt").model_info(
            repo, revision=revision, timeout=timeout, files_metadata=True
        )
    except hub.errors.HFValidationError as error:
        raise UsageError(f"{repo}: is not a name on the hub ({line(error)})") from error
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
            f"{repo}: what answered is not the hub ({line(error)}): a proxy or login page? Log in "
            "to the network in a browser, check HTTPS_PROXY and HF_ENDPOINT, and run again"
        ) from error


def line(said: object) -> str:
    """Foreign words on one line of at most 200 characters."""
    return " ".join(str(said).split())[:200] or type(said).__name__
