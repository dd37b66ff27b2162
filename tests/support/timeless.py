"""Results of two runs to compare: without when they were made and how long that took."""

from __future__ import annotations

import re
from pathlib import Path

_OF_THE_RUN = re.compile(rb'^  "(date|processing_time)": .*\n', re.MULTILINE)


def content(path: Path) -> bytes:
    """Return a result's bytes; of JSON without the lines that no two runs share."""
    return _OF_THE_RUN.sub(b"", path.read_bytes()) if path.suffix == ".json" else path.read_bytes()
