"""A sound card made of Python with a clock, and microphones on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stt.audio.microphone import Block, Microphone
from stt.audio.sound_check import Trouble
from stt.events import Problem
from stt.types import Samples
from support.fake_sounddevice import FakeSounddevice

RATE = 48_000
BLOCK = RATE // 20


class Desk:
    """A sound card made of Python, the wall clock, and microphones that record into `state`."""

    def __init__(self, folder: Path, patch: Callable[..., None]) -> None:
        self.sd = FakeSounddevice()
        self.now = 100.0
        self.folder, self.state = folder, folder / "state"
        self.patch = patch
        self.made: list[Microphone] = []

    def listening(self, device: str | int | None = None, **more: Any) -> Microphone:
        """Make a microphone; it is closed after the test."""
        options = {"folder": self.state, "sd": self.sd, "clock": lambda: self.now} | more
        self.made.append(Microphone(device, **options))
        return self.made[-1]

    def speak(self, sound: Samples, block: int = BLOCK) -> None:
        """Give it to the callback at the time it would come."""
        for start in range(0, len(sound), block):
            part = sound[start : start + block]
            self.now += len(part) / self.sd.stream.rate
            self.sd.stream.feed(part)

    def unplug(self, items: Iterator[Block | Problem]) -> Problem:
        """End the stream; return what is said of it."""
        self.sd.stream.end()
        return until(items, Trouble.LOST)

    def plug(self, items: Iterator[Block | Problem], sound: Samples) -> Problem:
        """Wait until a second stream runs and give it sound; return what is said of it."""
        deadline = time.monotonic() + 60
        while len(self.sd.streams) < 2 or not self.sd.stream.running:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.speak(sound)
        return until(items, Trouble.BACK)


def noise(seconds: float, rate: int = RATE) -> Samples:
    values = np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * rate))
    return values.astype(np.float32)


def all_of(microphone: Microphone) -> tuple[list[Block], list[Problem]]:
    """Stop, and return what is left."""
    microphone.stop()
    items = list(microphone.blocks())
    return [i for i in items if isinstance(i, Block)], [i for i in items if isinstance(i, Problem)]


def joined(blocks: list[Block]) -> Samples:
    """The sound, zeros where some was lost; checks that the places fit."""
    parts, place = [], 0
    for block in blocks:
        assert block.start_sample == place + block.lost
        place = block.start_sample + len(block.samples)
        parts += [np.zeros(block.lost, np.float32), block.samples]
    return np.concatenate(parts)


def until(items: Iterator[Block | Problem], kind: Trouble) -> Problem:
    """Take items up to the first problem of this kind."""
    return next(i for i in items if isinstance(i, Problem) and i.kind == kind.value)


def kinds(problems: list[Problem]) -> list[str]:
    return [problem.kind for problem in problems]
