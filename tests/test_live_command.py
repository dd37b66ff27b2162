"""`stt live` in this process with the real digits model; only the microphone is made up."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

import stt
from stt.audio import microphone as microphone_module
from stt.audio.microphone import Block
from stt.cli import main
from stt.errors import AudioError
from stt.events import Final, Problem
from stt.transcript import FORMAT_NAMES
from support.command import SAID, Run
from support.paths import CLIPS, DIGITS

RATE = 16_000
SPOKEN = dict(list(SAID.items())[:2])
TEXTS = list(SPOKEN.values())


@cache
def said() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Two recordings, each followed by 1.5 s of a quiet room."""
    room = np.random.default_rng(1).normal(0, 1e-4, RATE * 3 // 2).astype(np.float32)
    parts = []
    for name in SPOKEN:
        values, rate = soundfile.read(CLIPS / name, dtype="float32")
        parts += [soxr.resample(values, rate, RATE).astype(np.float32), room]
    return np.concatenate(parts)


class Microphone:
    """Says what `said` gives, as fast as it is taken."""

    items: tuple[Any, ...] = ()
    """What comes instead, where a test wants something else."""
    made: Microphone

    def __init__(
        self,
        device: str | None = None,
        *,
        keep: Path | None = None,
        limit_s: float | None = None,
    ) -> None:
        if device == "missing":
            raise AudioError("no input is called 'missing'; there are: 0 desk")
        self.device = SimpleNamespace(name="desk")
        self.rate, self.lost = RATE, 0
        self.recording = SimpleNamespace(path=Path(f"{os.devnull}.flac"))
        self.kept = keep is not None
        self.stopped = threading.Event()
        self.seconds = 0.0
        Microphone.made = self

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, kind: object, error: object, tb: object) -> None:
        self.kept |= error is not None

    def keep_recording(self) -> None:
        self.kept = True

    def stop(self) -> None:
        self.stopped.set()

    def blocks(self) -> Iterator[Any]:
        samples = said()
        blocks = [Block(samples[at : at + 800], at) for at in range(0, len(samples), 800)]
        for item in self.items or blocks:
            if self.stopped.is_set():
                return
            if callable(item):
                item()
                continue
            if isinstance(item, Block):
                self.seconds = (item.start_sample + len(item.samples)) / RATE
            yield item


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Microphone]:
    monkeypatch.setattr(microphone_module, "Microphone", Microphone)
    monkeypatch.setattr("stt.streaming.stream.Microphone", Microphone)
    monkeypatch.setattr("stt.audio.recording.recordings_dir", lambda: tmp_path / "recordings")
    monkeypatch.setattr(Microphone, "items", ())
    return Microphone


@pytest.fixture
def run(stt_run: Run) -> Run:
    return partial(stt_run, "live", "-m", DIGITS)


def test_each_utterance_is_a_line_with_its_times(run: Run) -> None:
    code, out, err = run()
    assert code == 0
    lines = out.splitlines()
    assert [line.split("] ", 1)[1] for line in lines] == TEXTS
    assert lines[0].startswith("[0:0")
    assert "listening to 'desk' at 16 kHz" in err
    assert "precision fp32, provider cpu" in err
    assert "2 utterances in 0:" in err
    assert not Microphone.made.kept, "all went well: the recording is deleted"


def test_typing_gives_the_text_alone(run: Run) -> None:
    code, out, err = run("--type-to", "-", "-q")
    assert (code, out.splitlines(), err) == (0, TEXTS, "")


@pytest.mark.parametrize("form", FORMAT_NAMES)
def test_the_text_is_saved(run: Run, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"talk.{form}"
    code, _, err = run("--save", path)
    assert code == 0
    assert str(path) in err
    content = path.read_text("utf-8")
    for text in TEXTS:
        assert text.split()[0] in content
    if form == "json":
        document = json.loads(content)
        assert document["source"] == "microphone: desk"
        assert [segment["text"] for segment in document["segments"]] == TEXTS


def test_the_file_grows_with_each_utterance(run: Run, tmp_path: Path, fake: Any) -> None:
    path, seen = tmp_path / "talk.txt", []

    def look() -> None:
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(path.read_text("utf-8"))

    samples = said()
    blocks = [Block(samples[at : at + 800], at) for at in range(0, len(samples), 800)]
    first_ends = next(i for i, b in enumerate(blocks) if b.start_sample > len(samples) * 0.45)
    fake.items = (*blocks[:first_ends], look, *blocks[first_ends:])
    assert run("--save", path)[0] == 0
    assert seen == [f"{TEXTS[0]}\n"]
    assert path.read_text("utf-8") == f"{' '.join(TEXTS)}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_what_is_being_said(run: Run, fake: Any, number: int) -> None:
    samples = said()
    first = samples[: len(samples) // 2 - RATE * 7 // 5]  # cut off right behind the last word
    blocks = [Block(first[at : at + 800], at) for at in range(0, len(first), 800)]

    def interrupt() -> None:
        os.kill(os.getpid(), number)
        fake.made.stopped.wait(10)

    fake.items = (*blocks, interrupt, Block(samples[:800], len(first)))
    code, out, err = run()
    assert code == 0
    assert TEXTS[0].startswith(" ".join(out.split("] ")[1].split()[:-1]))
    assert out.strip()
    assert "1 utterance in" in err
    assert not fake.made.kept


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_second_ctrl_c_ends_at_once_and_keeps_the_recording(run: Run, fake: Any) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        fake.made.stopped.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

    fake.items = (Block(np.zeros(800, np.float32), 0), interrupt)
    code, _, _ = run()
    assert code == 130
    assert fake.made.kept


def test_it_ends_after_the_duration(run: Run) -> None:
    code, _, err = run("--duration", 1.5)
    assert code == 0
    assert Microphone.made.seconds == pytest.approx(1.5, abs=0.06)
    assert "in 0:02" in err


def test_problems_are_told_and_do_not_end_it(run: Run, fake: Any) -> None:
    fake.items = (Problem(0.0, "device lost", "'desk' is gone; plug it in again"),)
    code, out, err = run()
    assert (code, out) == (0, "")
    assert "stt: 'desk' is gone; plug it in again" in err


def test_each_text_is_handed_to_the_command(run: Run, tmp_path: Path) -> None:
    got = tmp_path / "got.txt"
    code, _, err = run("--exec", f"cat >> '{got}'; echo told; exit 3")
    assert code == 0
    assert got.read_text("utf-8").splitlines() == TEXTS
    assert err.count("stt: told\n") == 2
    assert err.count("--exec: the command ended with exit code 3") == 2


def test_a_model_that_is_missing_is_told_before_anybody_speaks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["live", "-m", "nothing-here"]) == 1
    err = capsys.readouterr().err
    assert "no model named nothing-here" in err
    assert "listening" not in err


def test_what_cannot_be_done_afterwards_is_refused_before(run: Run, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("precious")
    for arguments, code, message in [
        (("--save", tmp_path / "talk.doc"), 2, "txt, srt, vtt, ass, json, tsv"),
        (("--save", there), 1, "is there already"),
        (("--save", tmp_path / "no" / "talk.txt"), 1, "does not exist"),
        (("--push-to-talk",), 2, "needs a terminal"),
        (("--device", "missing"), 1, "no input is called 'missing'"),
        (("--type-to", "file"), 2, "--type-to"),
        (("--duration", 0), 2, "--duration"),
    ]:
        got, out, err = run(*arguments)
        assert (got, out) == (code, ""), arguments
        assert message in err
        assert len(err.splitlines()) == 1
    assert there.read_text() == "precious"


def test_a_full_disk_keeps_the_recording_and_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stt.system.files.replace_file", full)
    code, out, err = run("--save", tmp_path / "talk.txt")
    assert code == 1
    assert len(out.splitlines()) == 2, "what was said is printed all the same"
    assert err.count("the disk is full") == 1
    assert "the recording is kept" in err
    assert Microphone.made.kept


def test_recordings_left_by_a_killed_run_are_told(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "2026-01-01-000000-p4000000.flac").touch()
    assert "a recording of earlier runs" in run()[2]


def test_in_python_the_events_come_typed() -> None:
    events = list(stt.live(model=DIGITS))
    assert [event.text for event in events if isinstance(event, Final)] == TEXTS
    assert not Microphone.made.kept


def test_in_python_leaving_the_loop_is_no_failure() -> None:
    for event in stt.live(model=DIGITS):
        if isinstance(event, Final):
            break
    assert not Microphone.made.kept


def test_in_python_stop_ends_the_events(fake: Any) -> None:
    events = stt.live(model=DIGITS)
    fake.items = (*[Block(np.zeros(800, np.float32), 0)] * 3, events.stop, Problem(9, "x", "late"))
    assert not [event for event in events if isinstance(event, Problem)]
