"""`stt devices` with true devices: what it lists, and its meter while somebody speaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.pulse import MICROPHONE, OTHER_MICROPHONE, Pulse

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def stt(pulse: Pulse, *arguments: str) -> list[str]:
    """Run it; return its lines on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "stt", *arguments],
        env=pulse.env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "ALSA" not in done.stderr, "nothing of ALSA's own is seen"
    return done.stdout.splitlines()


def test_the_list_names_each_microphone_with_its_rates(pulse: Pulse) -> None:
    _, *rows = stt(pulse, "devices")
    assert [row[5:].split()[0] for row in rows] == [MICROPHONE, OTHER_MICROPHONE, "default"]
    assert [row[0] for row in rows] == [" ", " ", "*"]
    assert all("ALSA" in row and row.endswith("44.1 48 96") for row in rows)


def test_the_meter_rises_when_somebody_speaks(pulse: Pulse, clip: Path, tmp_path: Path) -> None:
    spoken, rate = soundfile.read(clip)
    soundfile.write(tmp_path / "long.wav", np.tile(spoken, 30), rate)
    pulse.speak(tmp_path / "long.wav", wait=False)  # however slowly the program starts
    lines = stt(pulse, "devices", "--meter", MICROPHONE, "--seconds", "6")
    assert any(line.endswith(("  ok   ", "  LOUD ")) for line in lines)
