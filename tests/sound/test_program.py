"""`stt live` as it is installed, on a microphone into which the digits model's clips are played."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from support.command import SAID
from support.paths import CLIPS, DIGITS
from support.pulse import MICROPHONE, Pulse

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def clips() -> list[tuple[Path, str]]:
    return [(CLIPS / name, text) for name, text in SAID.items()]


class Program:
    """A running `stt live`; what it prints, as it comes."""

    def __init__(self, pulse: Pulse, *arguments: object) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stt", "live", "-m", str(DIGITS), *map(str, arguments)],
            env=pulse.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        streams = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)  # one by one: `extend` would show them at the end

    def wait_for(self, lines: list[str], text: str, count: int = 1) -> None:
        deadline = time.monotonic() + 40
        while sum(text in line for line in lines) < count:
            assert time.monotonic() < deadline, (text, self.out, self.err)
            assert self._readers[0].is_alive(), (text, self.out, self.err)
            time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def end(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(5)
        return code


@pytest.fixture
def start(pulse: Pulse) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def begin(*arguments: object) -> Program:
        started.append(Program(pulse, "--device", MICROPHONE, *arguments))
        started[-1].wait_for(started[-1].err, "precision fp32")
        return started[-1]

    yield begin
    for program in started:
        program.close()


def test_speech_becomes_lines_and_ctrl_c_finishes_and_saves(
    pulse: Pulse, start: Callable[..., Program], tmp_path: Path
) -> None:
    saved, recorded = tmp_path / "talk.txt", tmp_path / "talk.flac"
    program = start("--save", saved, "--record", recorded)
    (first, text), (second, _) = clips()[:2]
    pulse.speak(first)
    program.wait_for(program.out, text)
    pulse.speak(second, wait=False)
    time.sleep(1.0)  # in the middle of it
    assert program.end() == 0, program.err
    assert len(program.out) == 2, program.out
    assert program.out[0].startswith("[0:0")
    spoken = " ".join(line.split("] ")[1] for line in program.out)
    assert saved.read_text("utf-8").split() == spoken.split()
    assert soundfile.info(recorded).duration > 2
    left = Path(pulse.env["XDG_STATE_HOME"], "stt", "recordings")
    assert not list(left.glob(f"*-p{program.process.pid}.flac")), "moved to the name it was given"


def test_a_microphone_unplugged_and_plugged_again_goes_on(
    pulse: Pulse, start: Callable[..., Program]
) -> None:
    program = start("--type-to", "-")
    first, text = clips()[0]
    pulse.speak(first)
    program.wait_for(program.out, text)
    pulse.unplug()
    program.wait_for(program.err, "is gone")
    pulse.plug()
    program.wait_for(program.err, "listening again")
    pulse.speak(first)
    program.wait_for(program.out, text, count=2)
    assert program.end() == 0


def test_killed_it_leaves_a_recording_that_the_next_start_tells_of(
    pulse: Pulse, start: Callable[..., Program]
) -> None:
    program = start()
    first, text = clips()[0]
    pulse.speak(first)
    program.wait_for(program.out, text)
    program.process.kill()
    program.process.wait(10)
    again = start()
    again.wait_for(again.err, "did not end well")
    line = next(line for line in again.err if "did not end well" in line)
    folder = Path(line.split("`stt transcribe ")[1].split("`")[0])
    (left,) = folder.glob(f"*-p{program.process.pid}.flac")
    left.unlink()
    assert again.end() == 0
