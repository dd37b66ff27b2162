"""The whole path with a recogniser that repeats what it was handed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stt.engine.fallback import GuardedRecognizer, Reserve
from stt.errors import NonFiniteOutput
from stt.pipeline import Cutting, Step, recognized
from stt.text import words
from stt.transcript import Coverage, Segment, Word
from stt.types import SAMPLE_RATE as RATE
from stt.types import Samples


class Parrot:
    """Says one sentence over the whole of every utterance."""

    provider = "cpu"
    streams = 1
    tells_words = True

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.heard: list[Samples] = []
        self.speech: list[Sequence[float]] = []

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        self.batches.append([len(samples) for samples in batch])
        self.heard += list(batch)
        self.speech += list(speech)
        return [self._said(len(samples) / RATE) for samples in batch]

    def _said(self, seconds: float) -> list[Segment]:
        return [Segment(0.0, seconds, "Word.", 0.9, (Word(0.0, seconds, "Word.", 0.9),))]


def steps(
    samples: Samples,
    parrot: Parrot,
    *,
    rate: int = RATE,
    block: int = RATE,
    batch: int = 4,
    threshold: float = 0.5,
) -> list[Step]:
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    cutting = Cutting(6.0, threshold, batch)
    with ThreadPoolExecutor(parrot.streams) as pool:
        return list(recognized(blocks, rate, guarded(parrot), cutting, pool))


def segments_of(found: list[Step]) -> list[Segment]:
    return [segment for step in found for segment in step.segments]


def in_blocks(samples: Samples) -> Iterator[Samples]:
    return (samples[i : i + RATE] for i in range(0, len(samples), RATE))


def guarded(parrot: Parrot) -> GuardedRecognizer:
    return GuardedRecognizer(parrot, "fp32")


@pytest.fixture(scope="module")
def long(speech: Samples) -> Samples:
    gap = np.zeros(4 * RATE, np.float32)
    return np.concatenate([gap, speech, gap, speech, gap, speech, gap])


def test_segments_lie_where_their_audio_was_and_progress_rises_to_the_end(long: Samples) -> None:
    parrot = Parrot()
    made = steps(long, parrot, batch=3)
    found = segments_of(made)
    assert len(found) == len(parrot.heard) >= 6
    for segment, audio in zip(found, parrot.heard, strict=True):
        start = round(segment.start * RATE)
        np.testing.assert_array_equal(long[start : start + len(audio)], audio)
        assert (segment.words[0].start, segment.words[0].end) == (segment.start, segment.end)
    # the model is never handed too much
    assert max(map(len, parrot.batches)) == 3
    assert max(length for batch in parrot.batches for length in batch) <= 6 * RATE
    heard = [step.heard for step in made]
    assert heard == sorted(heard)
    assert heard[-1] == len(long) / RATE


@pytest.mark.parametrize("block", [997, 160_000])
@pytest.mark.parametrize("batch", [1, 7])
def test_blocks_and_batches_change_nothing(long: Samples, block: int, batch: int) -> None:
    found = segments_of(steps(long, Parrot(), block=block, batch=batch))
    assert found == segments_of(steps(long, Parrot()))


def test_silence_and_noise_reach_no_model() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
    for samples in (np.zeros(20 * RATE, np.float32), noise):
        parrot = Parrot()
        found = steps(samples, parrot)
        assert not parrot.heard
        assert (found[-1].heard, found[-1].segments) == (20.0, ())
    assert steps(np.zeros(0, np.float32), Parrot())[-1] == Step(0.0, coverage=Coverage(0.0))


def test_another_rate_is_resampled(speech: Samples) -> None:
    parrot = Parrot()
    found = steps(np.repeat(speech, 3), parrot, rate=48_000)
    assert found[-1].heard == pytest.approx(len(speech) / RATE, abs=0.001)


def test_segments_come_while_the_recording_is_still_read(long: Samples) -> None:
    unread = in_blocks(long)
    with ThreadPoolExecutor(1) as pool:
        path = recognized(unread, RATE, guarded(Parrot()), Cutting(6.0, 0.5, 1), pool)
        next(step for step in path if step.segments)
    assert len(list(unread)) > len(long) / RATE / 2


class MuteParrot(Parrot):
    """Says nothing of some audio, or fails."""

    def __init__(self, mute: Sequence[Samples], *, fails: bool) -> None:
        super().__init__()
        self.mute, self.fails = mute, fails

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        found = super().recognize(batch, speech)
        mute = [any(np.array_equal(samples, one) for one in self.mute) for samples in batch]
        if self.fails and any(mute):
            raise NonFiniteOutput("NaN in the logits", mute.index(True))
        return [[] if silent else segments for silent, segments in zip(mute, found, strict=True)]


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (4, 1), (4, 3)])
def test_a_recording_goes_on_in_fp32_and_says_so_once(
    long: Samples, fails: bool, batch: int, streams: int
) -> None:
    parrot, full = Parrot(), Parrot()
    expected = segments_of(steps(long, parrot))
    broken = MuteParrot(parrot.heard[3:], fails=fails)
    broken.streams = full.streams = streams
    recognizer = GuardedRecognizer(broken, "fp16", Reserve(lambda: full))
    with ThreadPoolExecutor(streams) as pool:
        found = list(recognized(in_blocks(long), RATE, recognizer, Cutting(6.0, 0.5, batch), pool))
    assert segments_of(found) == expected
    (fallback,) = [step.fallback for step in found if step.fallback]
    assert fallback.at == expected[3].start
    assert fallback is recognizer.fallback
    assert full.batches


class SlowParrot(Parrot):
    """Each call waits until another has begun, or a while; later ones are done first."""

    streams = 2

    def __init__(self, patience: float = 0.5) -> None:
        super().__init__()
        self.patience = patience
        self.begun, self.now, self.most = threading.Condition(), 0, 0

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        with self.begun:
            self.now += 1
            self.most = max(self.most, self.now)
            self.begun.notify_all()
            self.begun.wait_for(lambda: self.now > 1, timeout=self.patience)
        found = super().recognize(batch, speech)
        time.sleep(0.05 * (len(self.heard) % 2))
        with self.begun:
            self.now -= 1
        return found


def test_streams_work_at_the_same_time_and_change_nothing(long: Samples) -> None:
    parrot = SlowParrot()
    found = segments_of(steps(long, parrot))
    assert found == segments_of(steps(long, Parrot()))
    assert parrot.most == 2
    assert {len(batch) for batch in parrot.batches} == {1}


def test_a_recording_left_half_way_takes_its_work_back(long: Samples) -> None:
    parrot = SlowParrot(patience=0.2)
    with ThreadPoolExecutor(1) as pool:  # of which others are wanted too
        path = recognized(in_blocks(long), RATE, guarded(parrot), Cutting(6.0, 0.5, 4), pool)
        next(step for step in path if step.segments)
        path.close()  # type: ignore[attr-defined]
    assert len(parrot.batches) < 4


def coverage(found: list[Step]) -> Coverage:
    assert found[-1].coverage is not None
    assert all(step.coverage is None for step in found[:-1])
    return found[-1].coverage


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_every_sample_is_accounted_for(long: Samples, threshold: float) -> None:
    hiss = np.random.default_rng(1).normal(0, 0.05, 5 * RATE).astype(np.float32)
    samples = np.concatenate([long, hiss, long[:77_777]])
    parrot = Parrot()
    made = coverage(steps(samples, parrot, threshold=threshold))
    assert made.decoded + sum(made.skipped.values()) == pytest.approx(len(samples) / RATE)
    assert made.failures == ()
    if threshold:
        assert made.skipped["digital zero"] > 6.0
        assert made.skipped["non-speech"] > 2.0
    else:
        assert made.skipped == {}
        assert made.decoded == len(samples) / RATE


def test_an_utterance_that_fails_is_reported_and_the_others_are_done(long: Samples) -> None:
    parrot = Parrot()
    expected = segments_of(steps(long, parrot))
    lost = expected.pop(2)
    broken = MuteParrot(parrot.heard[2:3], fails=True)
    found = steps(long, broken)
    assert segments_of(found) == expected
    made = coverage(found)
    (failure,) = made.failures
    assert failure.endswith(": NaN in the logits")
    assert made.skipped["failed"] == pytest.approx(lost.end - lost.start)
    assert made.decoded + sum(made.skipped.values()) == pytest.approx(len(long) / RATE)
    with pytest.raises(NonFiniteOutput):  # where nothing came of all of it
        steps(long, MuteParrot(parrot.heard, fails=True))


class Listener(Parrot):
    """Hears words of half a second that follow one another without a pause.

    Of a word that the edge of its audio goes through it makes something else, or nothing. It knows
    where it is as sample n of the recording has the size 0.1 + n / 2^24.
    """

    def __init__(self, sentence: int = 7) -> None:
        super().__init__()
        self.sentence = sentence

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        self.heard += list(batch)
        return [words.segments(self._words(samples)) for samples in batch]

    def _words(self, samples: Samples) -> list[Word]:
        begin = round((abs(float(samples[0])) - 0.1) * 2**24) / RATE
        end = begin + len(samples) / RATE
        made = []
        for number in range(int(begin * 2), int(end * 2) + 1):
            start, stop = number / 2, number / 2 + 0.5
            text = self.name(number)
            if start < begin or stop > end:
                start, stop, text = max(start, begin), min(stop, end), "garbage"
            if stop > start:
                made.append(Word(start - begin + 0.02, stop - begin - 0.01, text, 0.9))
        return made

    def name(self, number: int) -> str:
        return f"w{number}." if number % self.sentence == self.sentence - 1 else f"w{number}"


@pytest.mark.parametrize("seconds", [6.0, 20.0, 61.3])
@pytest.mark.parametrize("streams", [1, 3])
def test_speech_without_a_pause_is_whole(seconds: float, streams: int) -> None:
    places = np.arange(round(seconds * RATE))
    samples = ((0.1 + places / 2**24) * (-1.0) ** places).astype(np.float32)
    listener = Listener()
    listener.streams = streams
    found = steps(samples, listener, threshold=0.0)
    segments = segments_of(found)
    spoken = [word for segment in segments for word in segment.words]
    whole = int(seconds * 2)
    assert [word.text for word in spoken][:whole] == [listener.name(n) for n in range(whole)]
    assert len(spoken) - whole in (0, 1)
    for number, word in enumerate(spoken[:whole]):
        assert word.start == pytest.approx(number / 2 + 0.02, abs=1e-6)
    ends = [segment.text.endswith(".") for segment in segments[:-1]]
    assert all(ends)  # sentences are whole where cuts went through them
    assert coverage(found).decoded == len(samples) / RATE
    assert sum(map(len, listener.heard)) > len(samples) or seconds <= 6.0


class PassedOver(Parrot):
    """Finds the second half of every utterance by decoding again only, as `models.transducer`."""

    def _said(self, seconds: float) -> list[Segment]:
        middle = seconds / 2
        spoken = [
            Word(0.0, middle, "Once.", 0.9),
            Word(middle, middle + 0.25, "Found", 0.9, recovered=True),
            Word(middle + 0.25, seconds, "again.", 0.9, recovered=True),
        ]
        return words.segments(spoken)


def test_what_was_decoded_again_is_told_with_its_seconds(speech: Samples) -> None:
    recognizer = PassedOver()
    made = coverage(steps(speech[: 5 * RATE], recognizer))
    assert made.notes == (
        "0:02 to 0:05: the decoder had passed over 2.5 s of speech; decoded again, they gave 2 "
        "words",
    )
    assert made.failures == ()
    # what the VAD heard goes to the recogniser: a probability for each frame of 512 samples
    assert [len(heard) for heard in recognizer.speech] == [-(-5 * RATE // 512)]
    assert all(0.0 <= probability <= 1.0 for heard in recognizer.speech for probability in heard)


def test_zeros_reach_no_model_even_where_all_is_to_be_decoded(speech: Samples) -> None:
    zeros = np.zeros(9 * RATE, np.float32)
    parrot = Parrot()
    found = steps(zeros, parrot, threshold=0.0)
    assert not parrot.heard
    assert found[-1] == Step(9.0, coverage=Coverage(0.0, {"digital zero": 9.0}))
    # between speech they count once, though utterances without a pause overlap
    samples = np.concatenate([speech[: 5 * RATE], zeros, zeros, speech[: 5 * RATE]])
    parrot = Parrot()
    made = coverage(steps(samples, parrot, threshold=0.0))
    assert all(audio.any() for audio in parrot.heard)
    assert 10.0 < made.decoded < 28.0
    assert made.decoded + made.skipped["digital zero"] == pytest.approx(28.0)


def test_with_no_vad_words_made_up_over_silence_are_left_out_too() -> None:
    class Whispers(Parrot):
        tells_words = False

        def _said(self, seconds: float) -> list[Segment]:
            return [Segment(0.0, seconds, "Thank you.", 0.4)]

    noise = np.random.default_rng(0).normal(0, 0.01, 5 * RATE).astype(np.float32)
    last = steps(noise, Whispers(), threshold=0.0)[-1]
    assert last.segments == ()
    assert last.coverage == Coverage(5.0, invented=2)
