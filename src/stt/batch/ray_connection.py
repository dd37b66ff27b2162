"""The way to a Ray cluster: found quickly or not at all, with the token it asks for."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from stt.errors import UsageError

_HOST_PORT = re.compile(r"([^/]+):(\d+)")
_ANSWER_S = 10.0


def connected(address: str) -> Any:
    """Connect, and return Ray.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here reports to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        _check_port(address)
        if _asks_for_token(address):
            os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported: it reads it then
        import ray

        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError as error:
        raise UsageError(
            "--ray: Ray is not installed; `pip install 'stt-parakeet[ray]'` in this environment"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"--ray: no cluster answers at {address or 'this machine'} ({last_line(error)}); "
            "start one with `ray start --head`"
        ) from error
    return ray


def _check_port(address: str) -> None:
    """Ask whether anybody listens at host:port; Ray itself would wait for minutes."""
    if found := _HOST_PORT.fullmatch(address.removeprefix("ray://")):
        with socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_S):
            pass


def _asks_for_token(address: str) -> bool:
    """Tell whether a cluster wants the user's token: `ray start` asks for it where there is one."""
    has_token = (Path.home() / ".ray" / "auth_token").exists()
    if not has_token or "RAY_AUTH_MODE" in os.environ or not _HOST_PORT.fullmatch(address):
        return False
    asked = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        check=False,
    )
    return b"InvalidAuthToken" in asked.stdout + asked.stderr


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: Ray's begin with where it was raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
