"""What `live.py` feeds: clips of a set, digits strung together, pauses between, noise."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stt.types import SAMPLE_RATE as RATE
from stt.types import Samples

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from recordings import in_set, read, rows


@dataclass(frozen=True)
class Clip:
    """Somebody says something."""

    samples: Samples
    text: str


def clips(folder: Path, name: str, count: int) -> list[Clip]:
    """Read the first English clips of a set."""
    chosen = [row for row in rows(folder) if in_set(row, name) and row["lang"].startswith("en")]
    if name == "digits":
        return digit_strings(folder, chosen, count)
    return [Clip(read(folder / row["path"]), row["text"]) for row in chosen[:count]]


def digit_strings(folder: Path, single: list[dict[str, Any]], count: int) -> list[Clip]:
    """Join single digits of one speaker at a time to strings of 1 to 8."""
    rng = np.random.default_rng(8)
    strings = []
    for _ in range(count):
        speaker = rng.choice(["theo", "yweweler"])
        own = [row for row in single if row["speaker"] == speaker]
        said = [own[i] for i in rng.integers(len(own), size=rng.integers(1, 9))]
        parts: list[Samples] = []
        for row in said:
            gap = np.zeros(round(rng.uniform(0.05, 0.25) * RATE), np.float32)
            parts += [gap, read(folder / row["path"])]
        strings.append(Clip(np.concatenate(parts[1:]), " ".join(row["text"] for row in said)))
    return strings


def joined(said: list[Clip], rng: np.random.Generator) -> tuple[Samples, list[tuple[float, float]]]:
    """Join clips with random pauses of 1 to 3 s; also each clip's place in seconds.

    The first begins with the stream. A pause holds what a quiet room does.
    """
    parts: list[Samples] = []
    places: list[tuple[float, float]] = []
    at = 0
    for clip in said:
        pause = rng.uniform(1.0, 3.0) if parts else 0.0
        room = rng.normal(0, 1e-4, round(pause * RATE)).astype(np.float32)
        at += len(room)
        places.append((at / RATE, (at + len(clip.samples)) / RATE))
        at += len(clip.samples)
        parts += [room, clip.samples]
    parts.append(rng.normal(0, 1e-4, 2 * RATE).astype(np.float32))
    return np.concatenate(parts), places


def noise(folder: Path, minutes: float, rng: np.random.Generator) -> Samples:
    """Mix rooms from recorded noise, with coughs, clicks, keys and breaths shaped from it."""
    names = [path for path in sorted(folder.glob("*.flac")) if not path.name.startswith("rir")]
    recorded = [read(path) for path in names]
    rooms = [read(path) for path in sorted(folder.glob("rir*.flac"))]
    stretches = []
    for _ in range(round(minutes * 60 / 10)):
        room = _excerpt(recorded[rng.integers(len(recorded))], 10 * RATE, rng)
        room = room * 10 ** (rng.uniform(-30, 0) / 20)
        for _ in range(rng.integers(0, 7)):
            event = _event(_excerpt(recorded[rng.integers(len(recorded))], 2 * RATE, rng), rng)
            event = np.convolve(event, rooms[rng.integers(len(rooms))][: RATE // 2])
            event *= 10 ** (rng.uniform(-30, -3) / 20) / max(np.abs(event).max(), 1e-9)
            at = rng.integers(0, len(room) - len(event)) if len(event) < len(room) else 0
            room[at : at + len(event)] += event[: len(room) - at]
        stretches.append(np.clip(room, -1, 1))
    return np.concatenate(stretches).astype(np.float32)


def _excerpt(source: Samples, length: int, rng: np.random.Generator) -> Samples:
    start = rng.integers(len(source))
    return np.take(source, np.arange(start, start + length), mode="wrap")


def _event(source: Samples, rng: np.random.Generator) -> Samples:
    """Shape noise into a cough (a burst or two), a click, typing or a breath."""
    kind = rng.choice(["cough", "click", "keys", "breath"])
    t = np.arange(len(source)) / RATE
    if kind == "cough":
        shape = sum(
            np.where(t > at, np.exp(-(t - at) / 0.08), 0.0) for at in (0.05, rng.uniform(0.25, 0.6))
        )
    elif kind == "breath":
        shape = np.exp(-(((t - 0.6) / rng.uniform(0.15, 0.35)) ** 2))
    else:
        count = 1 if kind == "click" else int(rng.integers(4, 16))
        shape = sum(
            np.where(t > at, np.exp(-(t - at) / 0.004), 0.0) for at in rng.uniform(0, 1.8, count)
        )
    spectrum = np.fft.rfft(source * shape)
    low, high = rng.uniform(80, 400), rng.uniform(1500, 7500)
    hz = np.fft.rfftfreq(len(source), 1 / RATE)
    spectrum[(hz < low) | (hz > high)] *= 0.05
    return np.fft.irfft(spectrum, len(source)).astype(np.float32)
