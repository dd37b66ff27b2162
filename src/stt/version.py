"""The version of this package."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def stt_version() -> str:
    """Return the installed version; 'unknown' where the package runs without being installed."""
    try:
        return metadata.version("stt-parakeet")
    except metadata.PackageNotFoundError:
        return "unknown"
