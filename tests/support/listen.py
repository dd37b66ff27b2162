"""A program that listens and tells: `python listen.py OUT.npy [DEVICE]`.

A process of its own, because ALSA and PulseAudio read the environment when they are loaded. Prints
a JSON line for each event; a line on standard input ends it. OUT.npy gets float32 [n], zeros where
samples were lost.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from stt.audio.microphone import Block, Microphone

LOUD = 0.05


def main() -> None:
    """Listen until told to stop."""
    out, device = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    keep = out.with_suffix(".flac")
    parts, next_sample, spoken = [], 0, False
    with Microphone(device, keep=keep) as microphone:
        threading.Thread(target=_stop_when_told, args=[microphone], daemon=True).start()
        assert microphone.recording is not None
        tell(rate=microphone.rate, recording=str(microphone.recording.path))
        for item in microphone.blocks():
            if not isinstance(item, Block):
                tell(problem=item.kind, message=item.message, at=item.at)
                continue
            if not parts:
                tell(first=item.start_sample)
            if not spoken and np.abs(item.samples).max() > LOUD:
                spoken = True
                tell(spoken=item.start_sample)
            assert item.start_sample == next_sample + item.lost
            next_sample = item.start_sample + len(item.samples)
            parts += [np.zeros(item.lost, np.float32), item.samples]
        tell(
            lost=microphone.lost,
            seconds=microphone.seconds,
            cpu=time.process_time(),
        )
    np.save(out, np.concatenate(parts))
    tell(saved=str(keep))


def tell(**event: Any) -> None:
    """Print an event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _stop_when_told(microphone: Microphone) -> None:
    sys.stdin.readline()
    microphone.stop()


if __name__ == "__main__":
    main()
