"""`stt live --input FILE`: a recording in the microphone's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.audio.microphone import Block
from stt.events import Problem
from stt.streaming.replay import Playback
from support.command import SAID, Run
from support.paths import CLIPS, DIGITS

RATE = 16_000
SPOKEN = dict(list(SAID.items())[:2])
TEXTS = list(SPOKEN.values())


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, each followed by 1.5 s of a quiet room, in stereo."""
    room = np.random.default_rng(1).normal(0, 1e-4, RATE * 3 // 2).astype(np.float32)
    parts = []
    for name in SPOKEN:
        values, rate = soundfile.read(CLIPS / name, dtype="float32")
        assert rate == RATE
        parts += [values, room]
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    soundfile.write(path, np.repeat(np.concatenate(parts)[:, None], 2, axis=1), RATE)
    return path


@pytest.fixture
def run(stt_run: Run) -> Run:
    return partial(stt_run, "live", "-m", DIGITS)


def test_fast_gives_each_utterance_with_its_times(run: Run, talk: Path) -> None:
    code, out, err = run("--input", talk, "--fast")
    assert code == 0
    assert [line.split("] ", 1)[1] for line in out.splitlines()] == TEXTS
    assert out.startswith("[0:0")
    assert f"hearing '{talk}', as fast as it can be; Ctrl-C ends" in err
    assert f"2 utterances in 0:{round(soundfile.info(talk).duration):02}" in err


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_takes_as_long_as_it_was_spoken(
    run: Run, talk: Path, tmp_path: Path, count: int
) -> None:
    path, values = tmp_path / "talk.flac", soundfile.read(talk)[0]
    first = soundfile.info(CLIPS / next(iter(SPOKEN))).frames + RATE  # and a pause that ends it
    soundfile.write(path, values if count > 1 else values[:first], RATE)
    began = time.monotonic()
    code, out, err = run("--input", path)
    assert time.monotonic() - began >= soundfile.info(path).duration
    assert code == 0
    assert [line.split("] ", 1)[1] for line in out.splitlines()] == TEXTS[:count]
    assert "at the speed it was spoken" in err


def test_the_other_options_hold(run: Run, talk: Path, tmp_path: Path) -> None:
    saved, got = tmp_path / "talk.json", tmp_path / "got.txt"
    code, out, _ = run(
        "--input", talk, "--fast", "--type-to", "-", "-q", "--save", saved, "--exec", f"cat >>{got}"
    )
    assert (code, out.splitlines()) == (0, TEXTS)
    document = json.loads(saved.read_text("utf-8"))
    assert document["source"] == str(talk)
    assert document["duration"] == pytest.approx(soundfile.info(talk).duration, abs=0.1)
    assert [segment["text"] for segment in document["segments"]] == TEXTS
    assert got.read_text("utf-8").splitlines() == TEXTS
    code, out, err = run("--input", talk, "--fast", "--duration", 1)
    assert code == 0
    assert "in 0:01" in err


@pytest.mark.parametrize("fast", [pytest.param(False, marks=pytest.mark.slow), True])
def test_damage_is_told_and_what_can_be_read_is_text(
    run: Run, talk: Path, tmp_path: Path, fast: bool
) -> None:
    path = tmp_path / "cut.flac"
    path.write_bytes(talk.read_bytes()[: talk.stat().st_size * 2 // 3])
    code, out, err = run("--input", path, *["--fast"] * fast)
    assert code == 1
    assert TEXTS[0] in out
    assert f"stt: {path}: " in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fast"], 2, "add --input FILE"),
        (["--input", "nowhere.wav"], 1, "no such file"),
        (["--input", "."], 1, "is a folder"),
        (["--input", "-"], 2, "virtual microphone"),
        (["--input", "TALK", "--device", "1"], 2, "--device does not go with --input"),
        (["--input", "TALK", "--record", "x.flac"], 2, "--record does not go with --input"),
    ],
)
def test_what_does_not_go_together(
    run: Run, talk: Path, arguments: list[str], code: int, message: str
) -> None:
    got, out, err = run(*[str(talk) if word == "TALK" else word for word in arguments])
    assert (got, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("fast", [pytest.param(False, marks=pytest.mark.slow), True])
def test_ctrl_c_finishes_what_is_being_said(talk: Path, tmp_path: Path, fast: bool) -> None:
    """The installed command, as a person stops it; much speech lies ahead."""
    values, rate = soundfile.read(talk, dtype="int16")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(values[:, 0], round(900 * rate / len(values))), rate)
    command = [sys.executable, "-m", "stt", "live", "-m", DIGITS, "--input", path, "--plain"]
    child = subprocess.Popen(
        [*map(str, command), *["--fast"] * fast],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    assert first.split("] ", 1)[1].strip() == TEXTS[0]
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "utterance" in err.splitlines()[-1]


def test_blocks_are_those_of_a_microphone(talk: Path) -> None:
    with Playback(talk, real_time=False) as playback:
        blocks = [item for item in playback.blocks() if isinstance(item, Block)]
        assert playback.seconds == pytest.approx(soundfile.info(talk).duration)
    assert blocks[0].samples.shape == (RATE // 20,)
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])
    assert [block.start_sample for block in blocks] == starts[:-1].tolist()
    assert starts[-1] == soundfile.info(talk).frames


def test_stop_ends_a_wait_for_the_clock(talk: Path) -> None:
    with Playback(talk, real_time=True, clock=lambda: 0.0) as playback:
        blocks = playback.blocks()
        next(blocks)
        threading.Timer(0.1, playback.stop).start()
        began = time.monotonic()
        rest = [item for item in blocks if isinstance(item, Problem)]
        assert not rest
        assert time.monotonic() - began < 5
