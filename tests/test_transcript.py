"""Transcripts as Python callers, the journal and a terminal's reader get them, and their values."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
from datetime import datetime
from pathlib import Path

import pytest

import stt
from stt.cli import main
from stt.errors import OutputError, UsageError
from stt.text.transcript import FORMATS, Transcript
from stt.transcript import Choice, Segment, Word, shifted
from support.paths import DIGITS

CLIP = DIGITS / "clips" / "two-digits.flac"
TALK = Transcript(
    "talk.wav", 4.0, (Segment(0.5, 2.0, "Dzień dobry.", 0.9),), "m", Choice("fp32", "cpu", "y"), 1.0
)


@pytest.mark.parametrize("form", FORMATS)
def test_a_transcript_is_written_in_the_format_of_the_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"talk.{form.upper()}"
    TALK.save(path)
    TALK.save(str(path))  # what is there is replaced
    assert path.read_bytes().decode() == TALK.to(form)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "nothing beside it"


@pytest.mark.parametrize("name", ["talk", "talk.doc", "talk.mp3", ".srt"])
def test_a_name_without_a_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"give a name with \.txt, \.srt, \.vtt"):
        TALK.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="choose txt, srt, vtt, ass, json, tsv"):
        TALK.to("doc")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="make it first"):
        TALK.save(tmp_path / "none" / "talk.srt")


def test_json_tells_language_date_and_work(tmp_path: Path) -> None:
    transcript = stt.load(DIGITS, precision="fp32").transcribe(CLIP)
    document = json.loads(transcript.to("json"))
    assert document["language"] is None, "Parakeet does not tell"
    assert document["processing_time"] == pytest.approx(transcript.elapsed, abs=0.001)
    made = datetime.fromisoformat(document["date"])
    assert made.utcoffset() is not None
    assert abs((datetime.now().astimezone() - made).total_seconds()) < 120
    assert json.loads(TALK.to("json"))["date"] is None


def test_a_journal_of_the_version_before_is_read_and_txt_is_written_anew(tmp_path: Path) -> None:
    arguments = ["transcribe", "-q", "-m", str(DIGITS), "-o", str(tmp_path), str(CLIP)]
    assert main(arguments) == 0
    database = sqlite3.connect(tmp_path / ".stt" / "journal.sqlite")
    (text, outputs) = database.execute("SELECT transcript, outputs FROM recordings").fetchone()
    values, looks = json.loads(text), json.loads(outputs)
    del values["language"], values["date"]
    old = "one\ntwo\n"
    looks["txt"] = {"look": "", "sha256": hashlib.sha256(old.encode()).hexdigest()}
    with database:
        database.execute(
            "UPDATE recordings SET transcript = ?, outputs = ?",
            (json.dumps(values), json.dumps(looks)),
        )
    database.close()
    (tmp_path / "two-digits.txt").write_text(old)
    assert main([*arguments, "-f", "txt,json"]) == 0
    assert (tmp_path / "two-digits.txt").read_text() == "one two\n"
    assert json.loads((tmp_path / "two-digits.json").read_text())["date"] is None


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_has_lines_of_its_width(tmp_path: Path) -> None:
    import pty

    recordings = [
        str(shutil.copy(path, tmp_path / path.name))
        for path in sorted((DIGITS / "clips").glob("*.flac"))[:3]
    ]
    shown = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 1024)
        shown.extend(data)
        return data

    line = [sys.executable, "-m", "stt", "transcribe", "-q", "-m", str(DIGITS), *recordings]
    script = f"import os; os.environ['COLUMNS'] = '20'; os.execv({line[0]!r}, {line!r})"
    status = pty.spawn([sys.executable, "-c", script], read)
    assert os.waitstatus_to_exitcode(status) == 0
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    assert all(len(one) <= 20 for one in lines if not one.startswith("==>"))
    assert "" in lines[1:-1], "an empty line before each heading"
    assert len(lines) > 6


def test_a_result_of_another_run_is_nobodys_own(tmp_path: Path) -> None:
    arguments = ["transcribe", "-q", "-m", str(DIGITS), "-o", str(tmp_path), str(CLIP)]
    assert main([*arguments, "-f", "json"]) == 0
    path = tmp_path / "two-digits.json"
    text = re.sub(r'"date": ".*"', '"date": "2020-01-01T00:00:00+00:00"', path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    shutil.rmtree(tmp_path / ".stt")  # as after a kill before the journal noted it
    assert main([*arguments, "-f", "json"]) == 0
    assert not list(tmp_path.glob("*.old"))
    path.write_text(text.replace("two", "too"), "utf-8")
    assert main([*arguments, "-f", "json", "--force"]) == 0
    assert "too" in (tmp_path / "two-digits.json.old").read_text("utf-8")


def test_all_times_of_a_segment_are_moved() -> None:
    words = (Word(0.5, 0.7, "one", 0.9, burst_at=0.5), Word(1.0, 1.2, "two", 0.8, recovered=True))
    moved = shifted(Segment(0.5, 1.2, "one two", 0.85, words, "left"), 10.0)
    assert (moved.start, moved.end, moved.text, moved.channel) == (10.5, 11.2, "one two", "left")
    assert [(word.start, word.end) for word in moved.words] == [(10.5, 10.7), (11.0, 11.2)]
    # compare=False hides these two from ==
    assert [word.burst_at for word in moved.words] == [10.5, None]
    assert [word.recovered for word in moved.words] == [False, True]
