"""What can be wrong with the sound of a microphone, and what to say of it."""

from __future__ import annotations

from enum import Enum


class Trouble(Enum):
    """What can be wrong with the sound; the value is the `kind` of a Problem."""

    SILENCE = "digital silence"
    LOW = "level too low"
    CLIPPING = "clipping"
    OVERRUN = "overrun"
    NOT_A_MICROPHONE = "not a microphone"
    LOST = "device lost"
    BACK = "device back"
    RECORDING = "recording failed"


def told(kind: Trouble, name: str, about: object, rate: int) -> str:
    """One line for a problem of the device called `name`."""
    lost = f"{about / rate:.1f} s of sound" if isinstance(about, int) and about else "some sound"
    other = "or choose another microphone (`stt devices` lists them)"
    return {
        Trouble.SILENCE: f"'{name}' gives nothing but digital silence: it is muted or the wrong "
        f"device; unmute it and allow access to it, {other}",
        Trouble.LOW: f"'{name}' is hardly to be heard (peaks under -60 dB); raise its level in the "
        f"sound settings, come closer, {other}",
        Trouble.CLIPPING: f"'{name}' is too loud and distorts; lower its level in the sound "
        "settings or move away from it",
        Trouble.OVERRUN: f"{lost} was lost because the computer is too busy; close other programs",
        Trouble.NOT_A_MICROPHONE: f"'{name}' carries what the computer plays, not what you say; "
        "choose a microphone with --device (`stt devices` lists them)",
        Trouble.LOST: f"'{name}' is gone or silent; what was said is saved; plug it in again "
        "and go on",
        Trouble.BACK: f"listening again, to '{name}'",
        Trouble.RECORDING: str(about),
    }[kind]
