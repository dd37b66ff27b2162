"""The whole path with a recogniser that repeats what it was handed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from stt.engine.collapse import CollapseError
from stt.engine.fallback import GuardedRecognizer, Reserve
from stt.pipeline import Cutting, Step, recognized
from stt.transcript import Segment, Word

Samples = npt.NDArray[np.float32]
RATE = 16_000


class Parrot:
    """Says one word over the whole of every utterance."""

    provider = "cpu"
    streams = 1

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.heard: list[Samples] = []

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        self.batches.append([len(samples) for samples in batch])
        self.heard += list(batch)
        return [self._said(len(samples) / RATE) for samples in batch]

    def _said(self, seconds: float) -> list[Segment]:
        return [Segment(0.0, seconds, "word", 0.9, (Word(0.0, seconds, "word", 0.9),))]


def steps(
    samples: Samples, parrot: Parrot, *, rate: int = RATE, block: int = RATE, batch: int = 4
) -> list[Step]:
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    with ThreadPoolExecutor(parrot.streams) as pool:
        return list(recognized(blocks, rate, guarded(parrot), Cutting(6.0, 0.5, batch), pool))


def guarded(parrot: Parrot) -> GuardedRecognizer:
    return GuardedRecognizer(parrot, "fp32")


@pytest.fixture(scope="module")
def long(speech: Samples) -> Samples:
    gap = np.zeros(4 * RATE, np.float32)
    return np.concatenate([gap, speech, gap, speech, gap, speech, gap])


def test_segments_lie_where_their_audio_was(long: Samples) -> None:
    parrot = Parrot()
    found = [segment for step in steps(long, parrot) for segment in step.segments]
    assert len(found) == len(parrot.heard) >= 6
    for segment, audio in zip(found, parrot.heard, strict=True):
        start = round(segment.start * RATE)
        np.testing.assert_array_equal(long[start : start + len(audio)], audio)
        assert (segment.words[0].start, segment.words[0].end) == (segment.start, segment.end)


def test_the_model_is_never_handed_too_much(long: Samples) -> None:
    parrot = Parrot()
    steps(long, parrot, batch=3)
    assert max(map(len, parrot.batches)) == 3
    assert max(length for batch in parrot.batches for length in batch) <= 6 * RATE


def test_progress_rises_to_the_end(long: Samples) -> None:
    heard = [step.heard for step in steps(long, Parrot())]
    assert heard == sorted(heard)
    assert heard[-1] == len(long) / RATE


@pytest.mark.parametrize("block", [997, 160_000])
@pytest.mark.parametrize("batch", [1, 7])
def test_blocks_and_batches_change_nothing(long: Samples, block: int, batch: int) -> None:
    def all_of(found: list[Step]) -> list[Segment]:
        return [segment for step in found for segment in step.segments]

    expected = all_of(steps(long, Parrot()))
    assert all_of(steps(long, Parrot(), block=block, batch=batch)) == expected


def test_silence_and_noise_reach_no_model() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
    for samples in (np.zeros(20 * RATE, np.float32), noise):
        parrot = Parrot()
        found = steps(samples, parrot)
        assert not parrot.heard
        assert found[-1] == Step(20.0)


def test_another_rate_is_resampled(speech: Samples) -> None:
    parrot = Parrot()
    found = steps(np.repeat(speech, 3), parrot, rate=48_000)
    assert found[-1].heard == pytest.approx(len(speech) / RATE, abs=0.001)


def test_nothing_at_all() -> None:
    assert set(steps(np.zeros(0, np.float32), Parrot())) == {Step(0.0)}


def test_segments_come_while_the_recording_is_still_read(long: Samples) -> None:
    read = 0

    def blocks() -> object:
        nonlocal read
        for i in range(0, len(long), RATE):
            read += 1
            yield long[i : i + RATE]

    with ThreadPoolExecutor(1) as pool:
        path = recognized(blocks(), RATE, guarded(Parrot()), Cutting(6.0, 0.5, 1), pool)  # type: ignore[arg-type]
        next(step for step in path if step.segments)
    assert read < len(long) / RATE / 2


class MuteParrot(Parrot):
    """Says nothing of some audio, or fails."""

    def __init__(self, mute: Sequence[Samples], *, fails: bool) -> None:
        super().__init__()
        self.mute, self.fails = mute, fails

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        found = super().recognize(batch)
        mute = [any(np.array_equal(samples, one) for one in self.mute) for samples in batch]
        if self.fails and any(mute):
            raise CollapseError("NaN in the logits", mute.index(True))
        return [[] if silent else segments for silent, segments in zip(mute, found, strict=True)]


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (4, 1), (4, 3)])
def test_a_recording_goes_on_in_fp32_and_says_so_once(
    long: Samples, fails: bool, batch: int, streams: int
) -> None:
    parrot, full = Parrot(), Parrot()
    expected = [segment for step in steps(long, parrot) for segment in step.segments]
    broken = MuteParrot(parrot.heard[3:], fails=fails)
    broken.streams = full.streams = streams
    recognizer = GuardedRecognizer(broken, "fp16", Reserve(lambda: full))
    blocks = (long[i : i + RATE] for i in range(0, len(long), RATE))
    with ThreadPoolExecutor(streams) as pool:
        found = list(recognized(blocks, RATE, recognizer, Cutting(6.0, 0.5, batch), pool))
    assert [segment for step in found for segment in step.segments] == expected
    (told,) = [step.fallback for step in found if step.fallback]
    assert told.at == expected[3].start
    assert told is recognizer.fallback
    assert full.batches


class SlowParrot(Parrot):
    """Each call waits until another has begun, or half a second; later ones are done first."""

    streams = 2

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.now, self.most = threading.Condition(), 0, 0

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        with self.begun:
            self.now += 1
            self.most = max(self.most, self.now)
            self.begun.notify_all()
            self.begun.wait_for(lambda: self.now > 1, timeout=0.5)
        found = super().recognize(batch)
        time.sleep(0.05 * (len(self.heard) % 2))
        with self.begun:
            self.now -= 1
        return found


def test_streams_work_at_the_same_time_and_change_nothing(long: Samples) -> None:
    parrot = SlowParrot()
    found = [segment for step in steps(long, parrot) for segment in step.segments]
    assert found == [segment for step in steps(long, Parrot()) for segment in step.segments]
    assert parrot.most == 2
    assert {len(batch) for batch in parrot.batches} == {1}


def test_a_recording_left_half_way_takes_its_work_back(long: Samples) -> None:
    blocks = (long[i : i + RATE] for i in range(0, len(long), RATE))
    parrot = SlowParrot()
    with ThreadPoolExecutor(1) as pool:  # of which others are wanted too
        path = recognized(blocks, RATE, guarded(parrot), Cutting(6.0, 0.5, 4), pool)
        next(step for step in path if step.segments)
        path.close()  # type: ignore[attr-defined]
    assert len(parrot.batches) < 4
