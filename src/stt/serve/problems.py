"""What a client is told when something cannot be done: OpenAI's error objects.

No text that leaves here has a path of this machine in it: what a model's files suffer from is in
the log alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from stt.errors import AudioError, SttError
from stt.serve.engine import NotLoaded
from stt.serve.work import TooLong

LOG = logging.getLogger("stt.serve")
_UNREADABLE = (400, "invalid_audio")


class Problem(Exception):  # noqa: N818 - it may be the client's
    """Raised anywhere in the answering of a request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`code` is for programs, `param` the field that is at fault."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """The object's `type`."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return "requests"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def error(self) -> dict[str, Any]:
        """Return the object that stands behind `error`."""
        return {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }

    def response(self) -> JSONResponse:
        """Return it as an answer."""
        return JSONResponse({"error": self.error()}, self.status, self.headers)


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an exception; what it is not told is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):  # Starlette's: no such address, no such method
        return _http_problem(error)
    if isinstance(error, AudioError):
        status, code = (413, "audio_too_long") if isinstance(error, TooLong) else _UNREADABLE
        return Problem(status, str(error), code=code, param="file")
    if isinstance(error, SttError):
        return _model_problem(error)
    LOG.error("internal error: %s: %s", type(error).__name__, error, exc_info=error)
    return Problem(500, "internal error; the server's log says more", code="internal_error")


def _model_problem(error: SttError) -> Problem:
    LOG.warning("%s", error)
    if isinstance(error, NotLoaded):
        return Problem(
            503,
            "the model cannot be loaded now; the server's log says why",
            code="model_not_loaded",
            headers={"retry-after": "30"},
        )
    return Problem(
        500, "the model made nothing of it; the server's log says why", code="model_failed"
    )


def ending() -> Problem:
    """Return what is told where something is cut because the server ends."""
    return Problem(
        503,
        "the server is ending; ask again when it is back",
        code="server_ending",
        headers={"retry-after": "5"},
    )


def _http_problem(error: HTTPException) -> Problem:
    messages = {
        404: "there is nothing at this address; see docs/serve.md for what there is",
        405: "this address does not answer this method",
    }
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = messages.get(error.status_code, error.detail)
    return Problem(
        error.status_code, message, code=codes.get(error.status_code), headers=error.headers
    )
