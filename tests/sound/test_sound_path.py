"""Speech played into a microphone of PulseAudio's, through the whole path to disk and blocks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from stt.audio.files import open_audio
from stt.types import Samples
from support.paths import TESTS
from support.pulse import MICROPHONE, OTHER_MICROPHONE, Pulse

pytestmark = pytest.mark.slow

RATE = 16_000
IN_FLIGHT_S = 1.2
"""Seconds that played sound may take to the disk on a machine that is busy."""
LISTEN = TESTS / "support" / "listen.py"


class Listener:
    """listen.py as a child; its events as they come."""

    def __init__(self, pulse: Pulse, out: Path, *device: str) -> None:
        self.out = out
        self.events: list[dict[str, Any]] = []
        self._said = out.with_suffix(".stderr")
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(LISTEN), str(out), *device],
                env=pulse.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line) | {"seen": time.monotonic()})

    def wait_for(self, key: str, value: object = None, timeout: float = 60.0) -> dict[str, Any]:
        """Return the first event that has `key` (with `value`)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for event in self.events:
                if key in event and value in (None, event[key]):
                    return event
            if not self._reader.is_alive():
                break
            time.sleep(0.02)
        raise AssertionError(f"no {key}={value}: {self.events} {self._said.read_text()}")

    def problems(self) -> list[str]:
        """Kinds of the problems so far."""
        return [event["problem"] for event in self.events if "problem" in event]

    def stop(self) -> Samples:
        """End it; return what its blocks held, at its rate."""
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write("stop\n")
        self._reader.join(60)
        assert self.process.wait(60) == 0, self._said.read_text()
        assert self._said.read_text() == "", "nothing of ALSA's or PortAudio's own is seen"
        return np.asarray(np.load(self.out), np.float32)

    def kill(self) -> None:
        """End it as the system does when memory is short."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        assert self.process.stdin is not None
        self.process.stdin.close()

    @property
    def rate(self) -> int:
        """Hz."""
        return int(self.wait_for("rate")["rate"])


Listen = Callable[..., Listener]


@pytest.fixture
def listen(sound_server: Pulse, tmp_path: Path) -> Iterator[Listen]:
    """Start a Listener; each is ended with the test."""
    started: list[Listener] = []

    def start(*device: str) -> Listener:
        started.append(Listener(sound_server, tmp_path / f"{len(started)}.npy", *device))
        return started[-1]

    yield start
    for listener in started:
        listener.kill()


def at_16k(values: Samples, rate: int) -> Samples:
    """Resample, leaving out what an 8 kHz device cannot carry."""
    narrow = soxr.resample(values, rate, 8_000)
    return np.asarray(soxr.resample(narrow, 8_000, RATE), np.float32)


def agreement(heard: Samples, rate: int, clip: Path) -> list[float]:
    """Correlation of each half second of the clip with what was heard, all at one lag."""
    spoken, spoken_rate = soundfile.read(clip, dtype="float32")
    ours, theirs = at_16k(heard, rate), at_16k(spoken, spoken_rate)
    size = 1 << (len(ours) + len(theirs)).bit_length()
    product = np.fft.rfft(ours, size) * np.conj(np.fft.rfft(theirs, size))
    lag = int(np.argmax(np.fft.irfft(product, size)[: len(ours)]))
    half = RATE // 2
    return [
        float(np.corrcoef(theirs[k : k + half], ours[lag + k : lag + k + half])[0, 1])
        for k in range(0, len(theirs) - half + 1, half)
    ]


def check_heard(heard: Samples, listener: Listener, clip: Path) -> None:
    """Require all of the clip, or on a machine that is far too busy that the loss is reported."""
    summary = listener.wait_for("lost")
    if "overrun" in listener.problems():
        pytest.skip(f"this machine is too busy to record: {summary}")
    assert summary["lost"] == 0
    assert min(agreement(heard, listener.rate, clip)) > 0.9


@pytest.mark.parametrize(
    ("rate", "channels", "sample_format"),
    [(8_000, 1, "s16le"), (44_100, 4, "s24le"), (96_000, 2, "s24-32le")],
)
def test_speech_arrives_as_it_was_played(
    sound_server: Pulse, clip: Path, listen: Listen, rate: int, channels: int, sample_format: str
) -> None:
    """The other tests have 48 kHz, stereo, 16 bits."""
    sound_server.plug(rate, channels, sample_format)
    try:
        listener = listen()
        listener.wait_for("first")
        sound_server.speak(clip)
        time.sleep(IN_FLIGHT_S)
        heard = listener.stop()
    finally:
        sound_server.unplug()
    assert listener.wait_for("lost")["seconds"] * listener.rate == pytest.approx(len(heard))
    recorded, recorded_rate = soundfile.read(listener.wait_for("saved")["saved"], dtype="float32")
    assert recorded_rate == listener.rate
    np.testing.assert_allclose(recorded, heard, atol=2 / 32_768)
    assert not Path(listener.wait_for("recording")["recording"]).exists(), "moved, not copied"
    check_heard(heard, listener, clip)


def test_two_programs_share_a_device_and_a_third_has_another(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    devices = (MICROPHONE, MICROPHONE, OTHER_MICROPHONE)
    listeners = [listen(name) for name in devices]
    for listener in listeners:
        listener.wait_for("first")
    pulse.speak(clip)
    time.sleep(IN_FLIGHT_S)
    heard = [listener.stop() for listener in listeners]
    for samples, listener in zip(heard, listeners, strict=True):
        check_heard(samples, listener, clip)


def test_unplugged_in_a_sentence_it_waits_and_goes_on(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen(MICROPHONE)
    listener.wait_for("first")
    pulse.speak(clip, wait=False)
    listener.wait_for("spoken")
    time.sleep(0.7)
    unplugged = time.monotonic()
    pulse.unplug()
    gone = listener.wait_for("problem", "device lost")
    assert "plug it in again" in gone["message"]
    time.sleep(0.5)
    plugged = time.monotonic()
    pulse.plug()
    back = listener.wait_for("problem", "device back")
    pulse.speak(clip)
    time.sleep(IN_FLIGHT_S)
    heard, rate = listener.stop(), listener.rate
    assert [p for p in listener.problems() if "device" in p] == ["device lost", "device back"]
    before, after = round(gone["at"] * rate), round(back["at"] * rate)
    assert np.abs(heard[:before]).max() > 0.05, "the first half of the sentence is there"
    assert not heard[before : after - rate].any()
    assert min(agreement(heard[after - rate :], rate, clip)) > 0.9
    # as much is missing as the wall clock says
    missing = listener.wait_for("lost")["lost"] / rate
    assert missing == pytest.approx(back["at"] - gone["at"], abs=0.01)
    assert plugged - unplugged - 0.5 < missing < back["seen"] - unplugged + 0.5


def test_a_program_that_hangs_in_a_sentence_still_hears_it(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen()
    listener.wait_for("first")
    pulse.speak(clip, wait=False)
    listener.wait_for("spoken")
    pulse.hang(listener.process, 3.0)
    time.sleep(IN_FLIGHT_S)
    check_heard(listener.stop(), listener, clip)


def test_digital_silence_is_reported_once(pulse: Pulse, listen: Listen) -> None:
    listener = listen()
    silent = listener.wait_for("problem", "digital silence")
    assert silent["at"] == pytest.approx(3.0, abs=0.5)
    assert "unmute" in silent["message"] and "'default'" in silent["message"]
    time.sleep(IN_FLIGHT_S)
    assert not listener.stop().any()
    assert listener.problems() == ["digital silence"]


def test_a_killed_program_leaves_a_recording_that_can_be_read(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen()
    listener.wait_for("first")
    pulse.speak(clip)
    time.sleep(IN_FLIGHT_S)
    listener.kill()
    left = Path(listener.wait_for("recording")["recording"])
    with open_audio(left) as audio:
        heard = np.concatenate(list(audio.blocks))
    assert min(agreement(heard, listener.rate, clip)) > 0.9
    left.unlink()
