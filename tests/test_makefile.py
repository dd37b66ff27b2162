"""`make distclean` asks before it deletes what took long to fetch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

MAKEFILE = ROOT / "Makefile"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("answer", "is_kept"), [("n\n", True), ("", True), ("y\n", False)])
def test_no_is_an_answer_and_no_failure(tmp_path: Path, answer: str, is_kept: bool) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("models", "build", ".venv"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        ["make", "distclean"],
        cwd=tmp_path,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("nothing is deleted" in done.stdout) == is_kept
    left = {path.name for path in tmp_path.iterdir()} - {"Makefile"}
    assert left == ({"models", "build", ".venv"} if is_kept else set())
