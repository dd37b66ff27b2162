"""What set-up's measurement of a precision tells of its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = "from stt.models.measure import peak_mib; print(peak_mib())"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process its peak")
def test_the_peak_is_the_processs_own_not_that_of_the_one_that_started_it() -> None:
    big = f"""
import subprocess, sys
filled = bytearray(b'x') * (600 << 20)
print(subprocess.run([sys.executable, '-c', {CHILD!r}], capture_output=True, text=True).stdout)
"""
    told = subprocess.run([sys.executable, "-c", big], capture_output=True, text=True, check=True)
    assert 5 < float(told.stdout) < 400
