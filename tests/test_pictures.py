"""The README's pictures show what the program prints today; `make pictures` makes them anew."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="samples/ is a symbolic link there")

BUSY = re.compile(r" left$| behind$|drafts are left out meanwhile$")
"""What is printed only where the machine is slow."""


def shape(text: str) -> str:
    """A text without white space, every number 0: timings differ from run to run."""
    return re.sub(r"\d+(\.\d+)?", "0", re.sub(r"\s", "", text))


def letters(text: str) -> str:
    """A text's letters alone, all of them small."""
    return "".join(filter(str.isalpha, text.lower()))


def shown(picture: str) -> str:
    """The text in a picture."""
    drawn = (ROOT / "docs" / picture).read_text("utf-8")
    body = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)
    return shape(html.unescape(re.sub(r"<[^>]*>", "", body)))


@pytest.mark.e2e
@POSIX
@pytest.mark.slow
def test_they_show_what_is_printed_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from make_pictures import BEFORE, PICTURES, fresh_home

    environment = fresh_home(tmp_path)
    subprocess.run(BEFORE, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for picture, command in PICTURES.items():
        seen = shown(picture)
        assert shape(f"$ {' '.join(command)}") in seen
        done = subprocess.run(
            [*command, *(["--plain"] if "live" in command else [])],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        printed = done.stderr if "live" in command else done.stderr + done.stdout
        parts = [part for line in printed.splitlines() for part in line.split("; ")]
        old = [part for part in parts if not BUSY.search(part) and shape(part) not in seen]
        assert not old, f"docs/{picture} is old: run `make pictures`"
        if "live" in command:  # the screen and lines show the times of an utterance differently
            words = done.stdout.split("] ", 1)[1]
            # one processor's rounding writes "The evening", another's "the evening"
            assert letters(words)[:25] in letters(seen)


def test_they_fetch_nothing() -> None:
    for picture in (ROOT / "docs").glob("*.svg"):
        addresses = re.findall(r"https?://[^\s\"')<]+", picture.read_text("utf-8"))
        assert all("w3.org" in a or "textualize.io" in a for a in addresses), addresses
