"""The module `sounddevice` for a whole process: one microphone that says what a file holds.

Put this folder on PYTHONPATH and name a recording in FAKE_MICROPHONE. It is said once, in real
time, and followed by silence. A real `sounddevice` that is installed is hidden.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

sys.path.append(str(Path(__file__).parents[2]))  # after all others: only the fake is wanted
from support.fake_sounddevice import FakeSounddevice, PortAudioError, Stream

__all__ = ["PortAudioError"]
_BLOCK_S = 0.02


class _Speaking(Stream):
    """Says the recording from the moment it is started."""

    def start(self) -> None:
        super().start()
        threading.Thread(target=self._say, daemon=True).start()

    def _say(self) -> None:
        said, rate = soundfile.read(os.environ["FAKE_MICROPHONE"], dtype="float32")
        room = np.random.default_rng(1).normal(0, 1e-4, 60 * self.rate)
        heard = np.concatenate([soxr.resample(said, rate, self.rate), room]).astype(np.float32)
        block, began = round(self.rate * _BLOCK_S), time.monotonic()
        for number, start in enumerate(range(0, len(heard), block)):
            time.sleep(max(0.0, began + number * _BLOCK_S - time.monotonic()))
            if not self.running:
                return
            self.feed(heard[start : start + block])


class _Card(FakeSounddevice):
    def RawInputStream(self, **asked: Any) -> Stream:  # noqa: N802 - sounddevice's name
        self.streams.append(_Speaking(self, **asked))
        return self.stream


_card = _Card("a file as microphone")


def __getattr__(name: str) -> Any:
    return getattr(_card, name)
