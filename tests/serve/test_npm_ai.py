"""The package `ai` of npm, as programs in JavaScript use it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.browsing import NODE_MODULES
from support.loading import load_model
from support.paths import CLIPS, DIGITS
from support.serving import running


@pytest.mark.slow
@pytest.mark.browser
def test_the_client_of_vercel_transcribes() -> None:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "ai").is_dir():
        pytest.skip("node, or npm's package ai, is missing: make browser")
    clip = min(CLIPS.glob("*.flac"))
    digits = load_model(DIGITS, precision="fp32", provider="cpu")
    script = Path(__file__).with_name("transcribe_by_ai.mjs")
    with running(lambda: digits) as server:
        command = [node, script, server.url, clip, NODE_MODULES]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    expected = digits.transcribe(str(clip))
    for found in json.loads(printed.stdout).values():
        assert found["text"] == expected.text
        assert found["durationInSeconds"] == pytest.approx(expected.duration, abs=0.1)
        assert found["warnings"] == []
