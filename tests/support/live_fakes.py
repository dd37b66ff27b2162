"""A VAD and recognisers that follow a script, and checks of event streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from stt.audio.utterances import Utterance
from stt.audio.vad import FRAME
from stt.events import Committed, Event, Final
from stt.streaming.jobs import Pace
from stt.streaming.replay import Replay
from stt.streaming.session import LiveSession
from stt.transcript import Segment, Word
from stt.types import Samples

RATE = 16_000
FRAME_S = FRAME / RATE
WORD = 10
"""Frames of a word (320 ms)."""
_LOUD = 0.1
"""Peak that is loud enough to be left alone."""


def spoken(words: int) -> list[int]:
    """Frames of so many words: the word's own number in each of its frames, from 1."""
    return [1 + i // WORD for i in range(words * WORD)]


def pause(seconds: float) -> list[int]:
    return [0] * round(seconds / FRAME_S)


def sound(*parts: list[int]) -> Samples:
    """Frames of audio that carry a word's number, n, as a tone of 0.1 + n / 1000; 0 is silence."""
    numbers = np.array([n for part in parts for n in part], np.float32)
    peaks = np.where(numbers > 0, _LOUD + numbers / 1000, 0).astype(np.float32)
    tone = np.tile(np.array([1, -1], np.float32), FRAME // 2)
    return np.asarray(np.outer(peaks, tone).reshape(-1), np.float32)


def blocks(samples: Samples, size: int = 800) -> Iterator[Samples]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


class Ears:
    """A VAD that takes every frame with sound in it for clear speech."""

    def __call__(self, frames: Samples) -> Samples:
        return np.where(np.abs(frames).max(axis=1, initial=0) > 0, 0.95, 0.01).astype(np.float32)


class Reader:
    """Reads the words' numbers off the audio of `sound`: "1 2 3", with exact times."""

    def __init__(self, change: Callable[[list[Word]], list[Word]] = list) -> None:
        self.jobs: list[int] = []
        """Samples in each utterance recognised."""
        self._change = change

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        self.jobs += [len(utterance.samples) for utterance in batch]
        return [_segments(self._change(_read(utterance.samples))) for utterance in batch]


def _read(samples: Samples) -> list[Word]:
    peaks = np.abs(samples[::FRAME])
    numbers = np.where(peaks > 0, np.round((peaks - _LOUD) * 1000), 0).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    return [
        Word(a * FRAME_S, b * FRAME_S, str(numbers[a]), 0.9)
        for a, b in pairwise(edges)
        if a < b and numbers[a]
    ]


def _segments(words: list[Word]) -> list[Segment]:
    if not words:
        return []
    text = " ".join(word.text for word in words)
    return [Segment(words[0].start, words[-1].end, text, 0.9, tuple(words))]


def finals(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def text_of(events: Iterable[Event]) -> str:
    return " ".join(final.text for final in finals(events) if final.text)


def assert_nothing_committed_changes(events: Iterable[Event]) -> None:
    """The stream's text only ever grows."""
    pending: list[str] = []
    for event in events:
        if isinstance(event, Committed):
            pending += event.text.split()
        elif isinstance(event, Final):
            whole = [*event.text.split(), *event.carried.split()]
            assert whole[: len(pending)] == pending
            pending = event.carried.split()
    assert not pending


def run(
    samples: Samples,
    recognizer: Reader | None = None,
    cost: float = 0.05,
    pace: Pace | None = None,
    size: int = 800,
) -> list[Event]:
    """Events of a stream when every job takes `cost` seconds."""
    session = LiveSession(Ears(), pace)
    replay = Replay(session, recognizer or Reader(), lambda *_: cost)
    return list(replay.events(blocks(samples, size)))


def of(kind: type, events: list[Event]) -> list:  # type: ignore[type-arg]
    return [event for event in events if isinstance(event, kind)]
