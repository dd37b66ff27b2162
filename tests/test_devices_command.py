"""`stt devices`: the list, the meter, and its errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from stt.audio import devices as module
from stt.audio.devices import RATES, Device, find, hidden_stderr, inputs, rescan
from stt.audio.sound_check import Level
from stt.cli.devices import devices, meter_line, table
from stt.errors import AudioError
from support.fake_sounddevice import FakeSounddevice, entry


@pytest.fixture
def sd(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    """The sound card that `stt` finds."""
    made = FakeSounddevice("desk mic", "Webcam: USB (hw:1,0)", default=1)
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(devices, arguments, catch_exceptions=False)


# --- the list --------------------------------------------------------------------------------


def test_the_list_shows_number_name_host_rates_and_the_default(sd: FakeSounddevice) -> None:
    sd.devices[0]["default_samplerate"] = 44_100.0
    sd.accepts = lambda asked: asked["device"] == 1 or asked["samplerate"] == 44_100
    done = run()
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["#", "name", "host", "API", "ch", "kHz", "accepts", "kHz"]
    assert first.split() == ["0", "desk", "mic", "ALSA", "2", "44.1", "44.1"]
    assert second.startswith("*   1 Webcam: USB (hw:1,0)")
    assert second.split()[-7:] == ["8", "16", "22.05", "32", "44.1", "48", "96"]
    assert done.exit_code == 0


def test_outputs_are_left_out(sd: FakeSounddevice) -> None:
    sd.devices[0]["max_input_channels"] = 0
    assert "desk mic" not in run().stdout


def test_a_device_that_is_busy_is_listed_as_such(sd: FakeSounddevice) -> None:
    sd.accepts = lambda asked: False
    assert all(line.endswith("busy") for line in run().stdout.splitlines()[1:])


def test_the_widest_row_fits_a_terminal() -> None:
    device = Device(123, "A name\n" * 20, "Windows WDM-KS and more", 128, 192_000, RATES, True)
    head, row = table([device]).splitlines()
    assert len(head) <= len(row) <= 79
    assert "\\n" in row


def test_without_a_microphone_it_says_so_on_stderr(sd: FakeSounddevice) -> None:
    sd.devices = []
    done = run()
    assert done.stdout == ""
    assert done.stderr == "stt: no microphone is there; connect one or allow access to it\n"


# --- finding one -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "index"),
    [(None, 1), (0, 0), ("0", 0), (" 1 ", 1), ("DESK", 0), ("usb", 1), ("desk mic", 0)],
)
def test_found_by_number_name_or_part_of_it(
    sd: FakeSounddevice, wish: str | int | None, index: int
) -> None:
    assert find(wish).index == index


def test_a_whole_name_wins_over_longer_ones(sd: FakeSounddevice) -> None:
    sd.devices.append(entry("desk mic 2"))
    assert find("desk mic").index == 0


def test_of_one_device_in_several_host_apis_that_of_the_default_is_taken(
    sd: FakeSounddevice,
) -> None:
    sd.apis = ["MME", "Windows WASAPI"]
    sd.devices = [entry("desk mic"), entry("line"), entry("desk mic", api=1), entry("in", api=1)]
    sd.default = 3
    assert find("desk mic").index == 2
    sd.default = None
    assert find("desk mic").index == 0


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (7, "no input has the number 7; there are: 0 desk mic, 1 Webcam"),
        ("headset", "no input is called 'headset'; there are: 0 desk mic, 1 Webcam"),
        ("mic", "'mic' fits several inputs: 0 desk mic, 2 hand mic; give the number"),
        (None, "no input is the default; choose with --device: 0 desk mic, 1 Webcam"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    sd: FakeSounddevice, wish: str | int | None, says: str
) -> None:
    sd.devices.append(entry("hand mic"))
    sd.default = None
    with pytest.raises(AudioError) as message:
        find(wish)
    assert says in str(message.value)
    assert "\n" not in str(message.value)


def test_without_any_input_it_says_where_to_look(sd: FakeSounddevice) -> None:
    sd.devices = []
    with pytest.raises(AudioError, match="no microphone is there; connect one"):
        find()


def test_names_outlast_another_socket() -> None:
    def lasting(name: str) -> str:
        return Device(0, name, "ALSA", 1, 48_000, (), False).lasting_name

    assert lasting("USB: Audio (hw:1,0)") == lasting("USB: Audio (hw:12,3)") != lasting("USB")
    assert lasting("Mic (USB)") == lasting("Mic (2- USB)") == lasting("Mic (13- USB)")
    assert lasting("Mic (2 metres)") != lasting("Mic (metres)")


def test_a_sound_system_that_fails_is_one_line(sd: FakeSounddevice) -> None:
    sd.initialised = False
    with pytest.raises(AudioError, match=r"PortAudio not initialized.*check that the sound"):
        inputs()


def test_a_rescan_that_failed_can_be_tried_again(sd: FakeSounddevice) -> None:
    sd.fails_to_initialise = True
    for _ in range(2):
        with pytest.raises(AudioError, match="Unanticipated host error"):
            rescan(sd)
    sd.fails_to_initialise = False
    rescan(sd)
    assert sd.initialised


# --- the meter -------------------------------------------------------------------------------


@pytest.fixture
def tone(sd: FakeSounddevice) -> Iterator[None]:
    """A steady tone at half of full scale, as soon as a stream is open."""
    ended = threading.Event()

    def play() -> None:
        sound = 0.5 * np.sin(np.arange(4_800) * 2 * np.pi * 440 / 48_000)
        while not ended.wait(0.05):
            for stream in sd.streams:
                if stream.running:
                    stream.feed(sound)

    player = threading.Thread(target=play)
    player.start()
    yield
    ended.set()
    player.join()


@pytest.mark.usefixtures("tone")
def test_the_meter_tells_the_level_once_a_second_where_there_is_no_terminal(
    sd: FakeSounddevice,
) -> None:
    done = run("--meter", "desk", "--seconds", "1.7")
    assert done.exit_code == 0
    assert "listening to 'desk mic' at 48 kHz, mono, float32; Ctrl-C ends" in done.stderr
    lines = done.stdout.splitlines()
    assert 1 <= len(lines) <= 2
    assert all("-9.0 dB  peak   -6.0 dB  ok" in line for line in lines)
    assert sd.stream.closed


def test_the_meter_without_a_name_takes_the_default(sd: FakeSounddevice) -> None:
    done = run("--seconds", "0.2", "--meter")
    assert "listening to 'Webcam: USB (hw:1,0)'" in done.stderr


def test_the_meter_ends_in_time_with_a_device_that_gives_nothing(sd: FakeSounddevice) -> None:
    assert run("--meter", "desk", "--seconds", "0.2").exit_code == 0
    assert sd.stream.closed


def test_the_meter_leaves_no_recording(
    sd: FakeSounddevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.audio.recording.recordings_dir", lambda: tmp_path / "recordings")
    run("--meter", "desk", "--seconds", "0.2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rms", "peak", "line"),
    [
        (-120.0, -120.0, f"[{'-' * 40}] -120.0 dB  peak -120.0 dB  faint"),
        (-30.0, -15.0, f"[{'#' * 20}{'-' * 9}|{'-' * 10}]  -30.0 dB  peak  -15.0 dB  ok   "),
        (0.0, 0.0, f"[{'#' * 39}|]    0.0 dB  peak    0.0 dB  LOUD "),
        (6.0, 6.0, f"[{'#' * 39}|]    6.0 dB  peak    6.0 dB  LOUD "),
    ],
)
def test_the_line_of_the_meter(rms: float, peak: float, line: str) -> None:
    made = meter_line(Level(rms, peak), peak)
    assert made == line
    assert len(made) <= 79


def test_seconds_without_a_meter_is_a_mistake(sd: FakeSounddevice) -> None:
    done = run("--seconds", "3")
    assert done.exit_code == 2
    assert "--seconds goes with --meter" in done.stderr


# --- errors, as the whole program tells them ---------------------------------------------------


def stt_with(module_text: str | None, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `stt devices` where `import sounddevice` runs this text; None: it is not installed."""
    text = "raise ImportError('No module')" if module_text is None else module_text
    (folder / "sounddevice.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "stt", "devices", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("STT_")}
        | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("module_text", "says"),
    [
        (None, ["pip install sounddevice"]),
        (
            "raise OSError('PortAudio library not found')",
            [
                "apt install libportaudio2",
                "dnf install portaudio",
                "pacman -S portaudio",
                "macOS and Windows",
            ],
        ),
        (
            "class PortAudioError(Exception): pass\nraise PortAudioError('Error initializing')",
            ["Error initializing", "check that the sound system runs"],
        ),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--meter",)])
def test_what_is_missing_is_one_line_with_the_cure(
    tmp_path: Path, module_text: str | None, says: list[str], arguments: tuple[str, ...]
) -> None:
    code, out, err = stt_with(module_text, tmp_path, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("stt: ") and err.count("\n") == 1
    for part in says:
        assert part in err


CHATTY = """
import os, sys, threading
sys.path.insert(0, os.environ["FAKE"])
from stt.audio.devices import hidden_stderr
def alsa(): os.write(2, b"ALSA lib pcm.c: Unknown PCM\\n")
with hidden_stderr():
    alsa()
    with hidden_stderr():
        print("ours", file=sys.stderr)
        alsa()
    alsa()
    thread = threading.Thread(target=lambda: print("a thread's", file=sys.stderr))
    thread.start(); thread.join()
os.write(2, b"after\\n")
print("end", file=sys.stderr)
"""


@pytest.mark.parametrize("debug", [False, True])
def test_what_alsa_prints_is_hidden_and_what_we_print_is_not(debug: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHATTY],
        env=os.environ | {"FAKE": "", "STT_DEBUG": "1" if debug else ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if not line.startswith("ALSA")]
    assert ours == ["ours", "a thread's", "after", "end"]
    assert ("ALSA" in done.stderr) == debug


def test_hidden_where_stderr_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: int) -> Any:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(module.os, "dup", closed)
    with hidden_stderr():
        pass
