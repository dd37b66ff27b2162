"""The microphone of tests/live: skipped, with the reason, where PulseAudio cannot run."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from support.pulse import Pulse, missing


@pytest.fixture(scope="session")
def sound_server() -> Iterator[Pulse]:
    """A running daemon, without microphones yet."""
    lacking = missing()
    if importlib.util.find_spec("sounddevice") is None:
        lacking = "the package sounddevice is missing: pip install stt-parakeet[mic]"
    if lacking:
        pytest.skip(lacking)
    home = Path(tempfile.mkdtemp(prefix="stt-pulse-"))  # short: a socket's path has 107 bytes
    try:
        with Pulse(home) as pulse:
            yield pulse
    except RuntimeError as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def clip(samples_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of speech, 48 kHz mono."""
    values, rate = soundfile.read(samples_dir / "train.flac", dtype="float32", always_2d=True)
    values = values.mean(axis=1)
    begin = int(np.argmax(np.abs(values) > 0.05))
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    spoken = soxr.resample(values[begin : begin + 2 * rate], rate, 48_000)
    soundfile.write(path, spoken, 48_000)
    return path


@pytest.fixture
def pulse(sound_server: Pulse) -> Iterator[Pulse]:
    """Two microphones, 48 kHz stereo 16 bits; gone after the test."""
    sound_server.plug()
    yield sound_server
    sound_server.unplug()
