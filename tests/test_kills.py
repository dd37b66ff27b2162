"""Killed at random over a batch of recordings, it ends with what an undisturbed run gives."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.batch.journal import FOLDER
from support.paths import DIGITS
from support.timeless import content

FORMATS = ("txt", "json", "srt")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by signal"),
]


def command(recordings: Path, out: Path) -> list[str]:
    formats = [part for name in FORMATS for part in ("-f", name)]
    return [
        *(sys.executable, "-m", "stt", "transcribe", str(recordings), "--recursive"),
        *("-m", str(DIGITS), "-o", str(out), *formats),
    ]


def results(out: Path) -> dict[str, bytes]:
    """Every transcript by its place; without summary and journal, which tell of runs."""
    return {
        path.relative_to(out).as_posix(): content(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and FOLDER not in path.parts
    }


def recordings(folder: Path, count: int) -> Path:
    """Recordings of different lengths in folders, some of many utterances."""
    clips = [
        soundfile.read(p, dtype="float32")[0]
        for p in sorted((DIGITS / "clips").glob("*"))
        if p.suffix == ".flac"
    ]
    chance = np.random.default_rng(7)
    for number in range(count):
        place = folder / f"part {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        several = 4 + number % 5 if number % 10 else 60
        parts = []
        for index in chance.integers(0, len(clips), several):
            parts += [clips[index], np.zeros(16_000 * 3, np.float32)]
        soundfile.write(place / f"{number:02}.flac", np.concatenate(parts), 16_000)
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "kills", "seed"), [(40, 30, 2)])
def test_thirty_kills_over_forty_recordings(
    tmp_path: Path, count: int, kills: int, seed: int
) -> None:
    source = recordings(tmp_path / "recordings", count)
    taken = []
    for _ in range(2):  # the second time there is nothing to do but to begin
        began = time.monotonic()
        subprocess.run(command(source, tmp_path / "whole"), check=True, capture_output=True)
        taken.append(time.monotonic() - began)
    beginning = taken[1]
    work = taken[0] - beginning
    expected = results(tmp_path / "whole")
    assert len(expected) == count * len(FORMATS)
    out, chance = tmp_path / "out", random.Random(seed)
    done: list[int] = []
    for _ in range(kills):
        process = subprocess.Popen(
            command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(max(0.1, beginning + chance.uniform(-0.3, 2.0 * work / kills)))
        process.kill()
        process.wait()
        there = {name: data for name, data in results(out).items() if ".stt-" not in name}
        assert there.items() <= expected.items()  # what is there is whole
        done.append(len(there) // len(FORMATS))
    ended = subprocess.run(command(source, out), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert results(out) == expected
    again = subprocess.run(command(source, out), capture_output=True, text=True, check=False)
    assert f"0 done, {count} done before, 0 failed" in again.stderr
    print(f"\ndone after each kill: {done}")  # noqa: T201


def test_two_processes_share_a_folder_and_do_nothing_twice(tmp_path: Path) -> None:
    source = recordings(tmp_path / "recordings", 12)
    subprocess.run(command(source, tmp_path / "whole"), check=True, capture_output=True)
    out = tmp_path / "out"
    both = [
        subprocess.Popen(command(source, out), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    message = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], message
    assert results(out) == results(tmp_path / "whole")
    done = [
        line
        for text in message
        for line in text.splitlines()
        if " of audio" in line and " -> " in line
    ]
    assert len(done) == 12
