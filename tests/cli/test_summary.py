"""What stands below many recordings: a row for each, and their sum."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from stt.batch.folder import Job, Outcome
from stt.cli import main, summary
from stt.text.transcript import Transcript
from stt.transcript import Choice, Coverage
from support.paths import DIGITS

CLIPS = DIGITS / "clips"


def test_both_summaries_count_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = shutil.copy(CLIPS / "two-digits.flac", tmp_path / "a.flac")
    content = bytearray((CLIPS / "eight-digits.flac").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    (tmp_path / "b.flac").write_bytes(content)
    (tmp_path / "c.flac").write_bytes(b"fLaC no more")
    counts = []
    for more in ([], ["-o", str(tmp_path / "out")]):
        names = [str(good), str(tmp_path / "b.flac"), str(tmp_path / "c.flac")]
        assert main(["transcribe", "-m", str(DIGITS), *names, *more]) == 1
        err = capsys.readouterr().err
        counts += re.findall(r"^stt: (\d+ done, .*failed); .* of audio in .* s", err, re.MULTILINE)
    assert len(counts) == 2
    assert len(set(counts)) == 1
    assert sum(map(int, re.findall(r"\d+", counts[0]))) == 3


def test_the_table_fits_a_screen() -> None:
    coverage = Coverage(40_000.0, {"silence": 50.0, "failed": 3.0})
    long = Transcript("a", 43_000.0, (), "m", Choice("fp32", "cpu", "y"), 1.0, coverage)
    names = ["a very long name of a recording in a folder in a folder " * 3 + str(n) for n in "12"]
    rows = [
        summary._row(Outcome(Job("a.wav", name), state), long)
        for name in (*names, "日本語" * 30)
        for state in ("done", "partly", "written")
    ]
    table = summary._table(rows)
    assert all(summary.cell_len(line) <= 80 for line in table)
    assert len(set(table)) == 10, "their ends tell names apart"
    assert table[0].split() == [
        "recording",
        "length",
        "heard",
        "silence",
        "unread",
        "words",
        "result",
    ]
    assert sum(line.endswith("in part") for line in table) == 3
    assert "partly" not in "".join(table)
