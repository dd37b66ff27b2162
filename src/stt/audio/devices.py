"""Microphones there are: PortAudio's inputs, found by number, name or part of a name.

PortAudio comes through the package `sounddevice` (extra `mic`). Everything here takes that module
as `sd`, so that tests can pass another.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO

from stt.errors import AudioError
from stt.system.files import printable

RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
"""Hz that devices are asked about."""
_NOT_MICROPHONES = ("monitor", "loopback", "stereo mix", "what u hear")
"""Parts of the names of inputs that carry what the computer plays."""

_PLUGGED = re.compile(r"\(hw:\d+,\d+\)|(?<=\()\d+- ?")


@dataclass(frozen=True, slots=True)
class Device:
    """An input as PortAudio lists it."""

    index: int
    """PortAudio's number; it may change when something is plugged in."""
    name: str
    host_api: str
    """ALSA, Core Audio, Windows WASAPI, ..."""
    max_channels: int
    default_rate: int
    """Hz."""
    accepted_rates: tuple[int, ...]
    """Those of RATES it opens at; empty where it was not asked."""
    is_default: bool

    @property
    def lasting_name(self) -> str:
        """The name without the numbers that change when it is unplugged and plugged in again.

        ALSA ends names with "(hw:1,0)"; Windows writes "Microphone (2- USB Audio)".
        """
        return _PLUGGED.sub("", self.name).strip()

    @property
    def plays_back(self) -> bool:
        """Whether the name is that of an input which carries what the computer plays."""
        return any(part in self.name.lower() for part in _NOT_MICROPHONES)


def load_sounddevice() -> Any:
    """Return the module `sounddevice`, its PortAudio initialised.

    Raises:
        AudioError: the package or PortAudio itself is missing.
    """
    with hidden_stderr():
        try:
            return importlib.import_module("sounddevice")
        except ImportError as error:
            raise AudioError(
                "the microphone needs the package sounddevice; install it with "
                "`pip install sounddevice`, or stt with its extra `mic`"
            ) from error
        except OSError as error:
            raise AudioError(
                "the microphone needs the library PortAudio; Debian and Ubuntu: "
                "`sudo apt install libportaudio2`; Fedora: `sudo dnf install portaudio`; Arch: "
                "`sudo pacman -S portaudio`; macOS and Windows: it comes with "
                "`pip install --force-reinstall sounddevice`"
            ) from error
        except Exception as error:  # its PortAudioError has no name where it does not load
            raise _no_sound_system(error) from error


def inputs(sd: Any = None, *, probe: bool = True) -> list[Device]:
    """Return the inputs in PortAudio's order.

    Args:
        sd: the module `sounddevice`; None loads it.
        probe: ask each which RATES it accepts; that opens it for a moment.

    Raises:
        AudioError: PortAudio is missing or fails.
    """
    sd = sd or load_sounddevice()
    with hidden_stderr():
        try:
            apis = sd.query_hostapis()
            listed = [entry for entry in sd.query_devices() if entry["max_input_channels"] > 0]
            default = _default_index(sd)
        except (sd.PortAudioError, ValueError) as error:
            raise _no_sound_system(error) from error
        return [
            Device(
                index=entry["index"],
                name=entry["name"],
                host_api=apis[entry["hostapi"]]["name"],
                max_channels=entry["max_input_channels"],
                default_rate=round(entry["default_samplerate"]),
                accepted_rates=tuple(rate for rate in RATES if _accepts(sd, entry["index"], rate))
                if probe
                else (),
                is_default=entry["index"] == default,
            )
            for entry in listed
        ]


def find(device: str | int | None = None, sd: Any = None) -> Device:
    """Return the input with this number, this name or this part of a name; None: the default.

    Raises:
        AudioError: there is none, or the part fits several; the text lists what is there.
    """
    there = inputs(sd, probe=False)
    if not there:
        raise AudioError(
            "no microphone is there; connect one or allow access to it, then look with "
            "`stt devices`"
        )
    if device is None:
        chosen = [entry for entry in there if entry.is_default]
        lacking = "no input is the default; choose with --device"
    elif is_number(device):
        chosen = [entry for entry in there if entry.index == int(device)]
        lacking = f"no input has the number {int(device)}; there are"
    else:
        return _named(str(device), there)
    if not chosen:
        raise AudioError(f"{lacking}: {_listed(there)}")
    return chosen[0]


def is_number(device: str | int | None) -> bool:
    """Whether an input is named by PortAudio's number."""
    return isinstance(device, int) or (device is not None and device.strip().isdecimal())


def _named(name: str, there: list[Device]) -> Device:
    wanted = name.strip().lower()
    fitting = [entry for entry in there if entry.name.lower() == wanted] or [
        entry for entry in there if wanted in entry.name.lower()
    ]
    if not fitting:
        raise AudioError(f"no input is called '{printable(name)}'; there are: {_listed(there)}")
    if len({entry.name for entry in fitting}) > 1:
        raise AudioError(
            f"'{printable(name)}' fits several inputs: {_listed(fitting)}; give the number or more "
            "of the name"
        )
    # Windows lists a device once for each of its host APIs: the default's own, else the first
    apis = {entry.host_api for entry in there if entry.is_default}
    return next((entry for entry in fitting if entry.host_api in apis), fitting[0])


def _listed(devices: list[Device]) -> str:
    return ", ".join(f"{entry.index} {printable(entry.name)}" for entry in devices)


def _default_index(sd: Any) -> int:
    try:
        return int(sd.query_devices(kind="input")["index"])
    except (sd.PortAudioError, ValueError):
        return -1


def _accepts(sd: Any, index: int, rate: int) -> bool:
    try:
        sd.check_input_settings(device=index, channels=1, dtype="float32", samplerate=rate)
    except (sd.PortAudioError, ValueError):
        return False
    return True


def _no_sound_system(error: Exception) -> AudioError:
    return AudioError(
        f"the sound devices cannot be listed ({portaudio_text(error)}); check that the sound "
        "system runs"
    )


def portaudio_text(error: Exception) -> str:
    """Return what PortAudio, or the host below it, says: one line."""
    said, *more = error.args or (str(error),)
    host = more[1][2] if len(more) > 1 and isinstance(more[1], tuple) else ""
    line = f"{said}: {host}" if host else str(said)
    return printable(" ".join(line.split()))


# --- PortAudio for the whole process -----------------------------------------------------------

_lock = threading.Lock()
_in_use = 0


@contextmanager
def stream_open() -> Iterator[None]:
    """Count a stream as open: `rescan` would close it."""
    global _in_use  # noqa: PLW0603 - PortAudio is one for the process
    with _lock:
        _in_use += 1
    try:
        yield
    finally:
        with _lock:
            _in_use -= 1


def rescan(sd: Any) -> None:
    """Let PortAudio look for devices anew, which it does only when it starts.

    Nothing is done while the process has a stream open: starting anew would close it.
    `sounddevice` has no public call for this, but its documentation names these two.

    Raises:
        AudioError: the sound system is not there; may be tried again.
    """
    with _lock:
        if _in_use > 0:
            return
        with hidden_stderr():
            with suppress(sd.PortAudioError):  # it has ended already where the last start failed
                sd._terminate()
            try:
                sd._initialize()
            except sd.PortAudioError as error:
                raise _no_sound_system(error) from error


class _HiddenStderr:
    """File descriptor 2 turned away while at least one block wants it so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._saved = -1
        self._own: TextIO | None = None  # what sys.stderr is meanwhile
        self._replaced: TextIO | None = None

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._turn_away()

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._saved >= 0:
                self._turn_back()

    def _turn_away(self) -> None:
        try:
            self._saved = os.dup(2)
        except OSError:  # closed, as under pythonw: nothing can be printed
            self._saved = -1
            return
        if _is_descriptor_2(sys.stderr):
            sys.stderr.flush()
            self._replaced, sys.stderr = sys.stderr, self._true_stderr()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def _true_stderr(self) -> TextIO:
        """A stream to where descriptor 2 went; one for good, for somebody may hold on to it."""
        if self._own is None:
            like = sys.stderr
            self._own = os.fdopen(
                os.dup(self._saved), "w", 1, encoding=like.encoding, errors=like.errors
            )
        else:
            os.dup2(self._saved, self._own.fileno())
        return self._own

    def _turn_back(self) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        if self._replaced is not None and self._own is not None:
            self._own.flush()
            if sys.stderr is self._own:
                sys.stderr = self._replaced
        self._replaced = None


_hidden = _HiddenStderr()


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Keep what PortAudio, ALSA and JACK print themselves off the screen.

    They write to file descriptor 2. Python's own `sys.stderr` goes on where it went, from every
    thread. Blocks may overlap. STT_DEBUG=1 hides nothing.
    """
    if os.environ.get("STT_DEBUG") == "1":
        yield
        return
    _hidden.hold()
    try:
        yield
    finally:
        _hidden.release()


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False


def stand_ins(was: Device, asked: str | int | None, sd: Any) -> Iterator[Device]:
    """Yield the same device as it is listed now, then what fits what was asked for.

    Raises:
        AudioError: there is no other.
    """
    there = [e for e in inputs(sd, probe=False) if e.host_api == was.host_api]
    same = [entry for entry in there if entry.lasting_name == was.lasting_name]
    yield from sorted(same, key=lambda entry: entry.name != was.name)
    if not is_number(asked):  # a number may mean another device by now
        yield find(asked, sd)
