"""The microphone of tests/live: skipped, with the reason, where PulseAudio cannot run."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulse import Pulse, missing


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


@pytest.fixture
def pulse(sound_server: Pulse) -> Iterator[Pulse]:
    """Two microphones, 48 kHz stereo 16 bits; gone after the test."""
    sound_server.plug()
    yield sound_server
    sound_server.unplug()
