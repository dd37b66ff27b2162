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
import numpy.typing as npt
import pytest
import soundfile
import soxr
from pulse import MICROPHONE, OTHER_MICROPHONE, Pulse

from stt.audio.files import open_audio

Samples = npt.NDArray[np.float32]

RATE = 16_000
LISTEN = Path(__file__).with_name("listen.py")


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

    def wait_for(self, key: str, value: object = None, timeout: float = 10.0) -> dict[str, Any]:
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
        with self.process.stdin as told:
            told.write("stop\n")
        self._reader.join(20)
        assert self.process.wait(5) == 0, self._said.read_text()
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


@pytest.fixture(scope="module")
def clip(samples_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.5 s of speech, 48 kHz mono."""
    values, rate = soundfile.read(samples_dir / "train.flac", dtype="float32", always_2d=True)
    values = values.mean(axis=1)
    begin = int(np.argmax(np.abs(values) > 0.05))
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    spoken = soxr.resample(values[begin : begin + round(2.5 * rate)], rate, 48_000)
    soundfile.write(path, spoken, 48_000)
    return path


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


@pytest.mark.parametrize(
    ("rate", "channels", "sample_format"),
    [(8_000, 1, "s16le"), (44_100, 2, "s16le"), (48_000, 4, "s24le"), (96_000, 2, "s24-32le")],
)
def test_speech_arrives_as_it_was_played(
    sound_server: Pulse, clip: Path, listen: Listen, rate: int, channels: int, sample_format: str
) -> None:
    sound_server.plug(rate, channels, sample_format)
    try:
        listener = listen()
        listener.wait_for("first")
        sound_server.speak(clip)
        time.sleep(0.5)
        heard = listener.stop()
    finally:
        sound_server.unplug()
    np.save(f"/tmp/pt/heard-{rate}.npy", heard)
    import shutil

    shutil.copy(clip, "/tmp/pt/clip.wav")
    print(listener.events)
    assert min(agreement(heard, listener.rate, clip)) > 0.9
    assert listener.wait_for("lost")["lost"] == 0
    assert listener.wait_for("lost")["overruns"] == 0
    recorded, recorded_rate = soundfile.read(listener.wait_for("saved")["saved"], dtype="float32")
    assert recorded_rate == listener.rate
    np.testing.assert_allclose(recorded, heard, atol=2 / 32_768)
    assert not Path(listener.wait_for("recording")["recording"]).exists(), "moved, not copied"


def test_two_programs_share_a_device_and_a_third_has_another(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    devices = (MICROPHONE, MICROPHONE, OTHER_MICROPHONE)
    listeners = [listen(name) for name in devices]
    for listener in listeners:
        listener.wait_for("first")
    pulse.speak(clip)
    time.sleep(0.5)
    for listener in listeners:
        assert min(agreement(listener.stop(), listener.rate, clip)) > 0.9


def test_unplugged_in_a_sentence_it_waits_and_goes_on(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen(MICROPHONE)
    first = listener.wait_for("first")["seen"]
    pulse.speak(clip, wait=False)
    time.sleep(1.2)
    pulse.unplug()
    unplugged = time.monotonic()
    gone = listener.wait_for("problem", "device lost")
    assert gone["seen"] - unplugged < 2.0
    assert "plug it in again" in gone["message"]
    time.sleep(0.5)
    pulse.plug()
    listener.wait_for("problem", "device back")
    spoken = time.monotonic()
    pulse.speak(clip)
    time.sleep(0.5)
    ended = time.monotonic()
    heard = listener.stop()
    rate = listener.rate
    assert listener.problems().count("device lost") == 1
    assert listener.problems().count("device back") == 1
    before = heard[: round((unplugged - first) * rate)]
    assert np.abs(before).max() > 0.05, "the first half of the sentence is there"
    # what came after lies where the wall clock has it
    after = round((spoken - first - 0.3) * rate)
    assert min(agreement(heard[after:], rate, clip)) > 0.9
    assert abs(len(heard) / rate - (ended - first)) < 0.6
    assert listener.wait_for("lost")["lost"] / rate == pytest.approx(spoken - unplugged, abs=1.5)


def test_sound_lost_while_the_program_could_not_run_is_counted(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen()
    first = listener.wait_for("first")["seen"]
    time.sleep(2.5)
    pulse.hang(listener.process, 3.0)
    time.sleep(3.0)
    ended = time.monotonic()
    heard = listener.stop()
    summary = listener.wait_for("lost")
    told = [event for event in listener.events if event.get("problem") == "overrun"]
    print(summary, told, len(heard) / listener.rate, ended - first)
    assert abs(len(heard) / listener.rate - (ended - first)) < 0.6


def test_digital_silence_is_told_once(pulse: Pulse, listen: Listen) -> None:
    listener = listen()
    first = listener.wait_for("first")["seen"]
    silent = listener.wait_for("problem", "digital silence")
    assert silent["seen"] - first < 3.5
    assert "unmute" in silent["message"]
    assert MICROPHONE in silent["message"] or "default" in silent["message"]
    listener.stop()
    assert listener.problems() == ["digital silence"]


def test_a_killed_program_leaves_a_recording_that_can_be_read(
    pulse: Pulse, clip: Path, listen: Listen
) -> None:
    listener = listen()
    first = listener.wait_for("first")["seen"]
    pulse.speak(clip)
    killed = time.monotonic()
    listener.kill()
    left = Path(listener.wait_for("recording")["recording"])
    with open_audio(left) as audio:
        heard = np.concatenate(list(audio.blocks))
    assert len(heard) / listener.rate > killed - first - 1.0
    assert np.abs(heard).max() > 0.05
    left.unlink()
