"""Voice agents' clients of realtime sessions. They bring much along, so they may live elsewhere:

python -m venv v && v/bin/pip install livekit-plugins-openai 'pipecat-ai[openai]'
VOICE_CLIENTS=v/bin/python pytest -m slow tests/serve/test_realtime_clients.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import wave

import pytest

from support.loading import load_model
from support.paths import DIGITS, TESTS
from support.realtime import clip, pcm, said
from support.serving import running

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("VOICE_CLIENTS", sys.executable)
NAMES = ("eight-digits", "four-digits")


@pytest.fixture(scope="module")
def model():
    return load_model(DIGITS, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def server(model):
    with running(lambda: model, api_key="secret") as at:
        at.service.engine.load()
        yield at


@pytest.fixture(scope="module")
def texts(model):
    return [model.transcribe(clip(name), sample_rate=16_000).text for name in NAMES]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("said") / "said.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(pcm(said(*NAMES), 16_000))
    return path


def heard(server, package: str, program: str, *arguments: object) -> list[str]:
    """Lines that a program prints; skips where it cannot run."""
    there = subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True, check=False)
    if there.returncode:
        pytest.skip(f"{package} is not installed; see this file's beginning")
    command = [PYTHON, TESTS / "support" / program, server.url, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("named", ["gpt-4o-mini-transcribe", "gpt-realtime-whisper"])
def test_livekit(server, recording, texts, named) -> None:
    """Of the second model it takes that the server finds no end of speech, and commits."""
    package = "livekit.plugins.openai"
    assert heard(server, package, "talk_livekit.py", recording, named, len(NAMES)) == texts


@pytest.mark.parametrize("who", ["server", "client"])
def test_pipecat(server, recording, texts, who) -> None:
    lines = heard(server, "pipecat.services.openai.stt", "talk_pipecat.py", recording, who)
    assert lines == (texts if who == "server" else [" ".join(texts)])
