"""A sound card for tests: a private PulseAudio whose null sink is heard by a microphone.

`paplay` speaks into the sink `speaker`; the source `desk_mic` is what the sink plays; PortAudio
opens it through ALSA's pulse plugin. Nothing of the user's own sound system is touched: the daemon
has its own HOME, runtime folder and socket, and the variables stand in `Pulse.env` alone.

Debian: pulseaudio pulseaudio-utils libasound2-plugins libportaudio2.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MICROPHONE = "desk_mic"
OTHER_MICROPHONE = "hand_mic"
_ALSA = """
pcm.!default {{ type pulse }}
pcm.{first} {{ type pulse device "{first}" hint {{ show on description "{first}" }} }}
pcm.{second} {{ type pulse device "{second}" hint {{ show on description "{second}" }} }}
"""


def missing() -> str | None:
    """Say what this machine lacks for a Pulse, None if nothing."""
    if sys.platform != "linux":
        return "PulseAudio's null sink is for Linux"
    for program in ("pulseaudio", "pactl", "paplay", "parec"):
        if shutil.which(program) is None:
            return f"{program} is missing: apt install pulseaudio pulseaudio-utils"
    if ctypes.util.find_library("portaudio") is None:
        return "PortAudio is missing: apt install libportaudio2"
    if not any(Path("/usr").glob("lib*/**/alsa-lib/libasound_module_pcm_pulse.so")):
        return "ALSA's pulse plugin is missing: apt install libasound2-plugins"
    return None


class Pulse:
    """A daemon with one or two microphones; a context manager."""

    def __init__(self, home: Path) -> None:
        """Prepare in the empty folder `home`, whose path must be short: it holds a socket."""
        self._home = home
        runtime = home / "run"
        runtime.mkdir(mode=0o700)
        alsa, daemon = home / "alsa.conf", home / "daemon.conf"
        alsa.write_text(_ALSA.format(first=MICROPHONE, second=OTHER_MICROPHONE))
        daemon.write_text("")  # not the system's
        kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "COVERAGE_FILE")
        self.env = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "PULSE_RUNTIME_PATH": str(runtime),
            "PULSE_CONFIG": str(daemon),
            "PULSE_SERVER": f"unix:{runtime / 'native'}",
            "ALSA_CONFIG_PATH": str(alsa),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }
        self._log = home / "pulse.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._speakers: list[subprocess.Popen[bytes]] = []
        self._modules: list[str] = []

    def __enter__(self) -> Pulse:
        socket = Path(self.env["XDG_RUNTIME_DIR"]) / "native"
        command = [
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"),
            *("--realtime=no", "--high-priority=no", "--log-target=stderr"),
            *("-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
        ]
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text().splitlines()[-3:]
                self.__exit__()
                raise RuntimeError(f"pulseaudio does not start: {said}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._speakers, self._keeper, self._daemon):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (*self._speakers, self._keeper, self._daemon):
            if process is not None:
                process.wait(10)

    def _answers(self) -> bool:
        done = subprocess.run(["pactl", "info"], env=self.env, capture_output=True, check=False)
        return done.returncode == 0

    def pactl(self, *arguments: str) -> str:
        """Run pactl and return what it prints."""
        done = subprocess.run(
            ["pactl", *arguments], env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def plug(self, rate: int = 48_000, channels: int = 2, sample_format: str = "s16le") -> None:
        """Connect the microphones (both hear the same speaker) in this format of their own."""
        shape = [f"rate={rate}", f"channels={channels}", f"format={sample_format}"]
        self._load("module-null-sink", "sink_name=speaker", *shape)
        for name in (MICROPHONE, OTHER_MICROPHONE):
            self._load(
                *("module-remap-source", "master=speaker.monitor", f"source_name={name}", *shape)
            )
        self.pactl("set-default-source", MICROPHONE)
        # alone, a null sink hands on its sound every 2 s; somebody who asks for less wakes it up
        self._keeper = subprocess.Popen(
            ["parec", "-d", MICROPHONE, "--latency-msec=50", "--format=s16le"],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def unplug(self) -> None:
        """Disconnect the microphones.

        The sink goes too: PulseAudio would move whoever records to the sink's own monitor.
        """
        if self._keeper is not None:
            self._keeper.terminate()
            self._keeper.wait(10)
            self._keeper = None
        while self._modules:
            self.pactl("unload-module", self._modules.pop())

    def replug(self, rate: int = 48_000, channels: int = 2, sample_format: str = "s16le") -> None:
        """Exchange the microphones for others."""
        self.unplug()
        self.plug(rate, channels, sample_format)

    def _load(self, *arguments: str) -> None:
        self._modules.append(self.pactl("load-module", *arguments))

    def speak(self, path: Path, *, wait: bool = True, volume: float = 1.0) -> None:
        """Play a recording into the microphones at real speed; `wait` for its end."""
        loudness = f"--volume={round(65_536 * volume)}"
        player = subprocess.Popen(
            ["paplay", "-d", "speaker", "--latency-msec=4000", loudness, str(path)],
            env=self.env,
            stderr=subprocess.DEVNULL,
        )
        self._speakers.append(player)
        if wait:
            player.wait(60)

    def hang(self, process: subprocess.Popen[str], seconds: float) -> None:
        """Stop a program for a while, as a machine does that is far too busy."""
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
