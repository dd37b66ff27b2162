"""The path: blocks of audio -> 16 kHz -> utterances -> batches -> segments. Lazy all the way."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from stt.audio.conditioning import AHEAD, Conditioner, conditioned
from stt.audio.samples import resampled
from stt.audio.segmenter import Segmenter
from stt.audio.utterances import Skipped, Utterance, utterances
from stt.audio.vad import FRAME, SpeechProbability
from stt.engine.fallback import Attempt, Fallback, GuardedRecognizer, clock
from stt.errors import AudioError, ModelError, NonFiniteOutput
from stt.text.hallucination import without_invented
from stt.text.stitching import Stitcher
from stt.transcript import Coverage, Segment, Word
from stt.types import SAMPLE_RATE, Samples


@dataclass(frozen=True, slots=True)
class Step:
    """Progress through a recording."""

    heard: float
    """Seconds of the recording done with."""
    segments: tuple[Segment, ...] = ()
    """Those that became final with this step, in absolute seconds."""
    fallback: Fallback | None = None
    """Set in the one step, if any, with which the recording goes on in FP32."""
    coverage: Coverage | None = None
    """Set in the last step, of each part."""
    part: int = 1
    """Which of the channels or tracks that are heard one after the other, from 1."""
    parts: int = 1
    """How many there are."""

    def overall(self, duration: float | None) -> Step:
        """Return the step as progress through all parts of a recording of so many seconds."""
        if self.parts == 1 or not duration:
            return self
        return replace(self, heard=((self.part - 1) * duration + self.heard) / self.parts)


class UtteranceCache(Protocol):
    """What an earlier, interrupted run found out about the same recording."""

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """Remember what an utterance says, and the fallback in force after it."""
        ...

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """Return what is remembered of an utterance, if anything is."""
        ...


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a recording is cut and batched."""

    max_utterance_s: float
    """Longest utterance handed to the model."""
    vad_threshold: float
    """Probability from which a frame counts as speech; 0: every frame does, all is decoded."""
    batch_size: int
    """Utterances recognised together."""


def recognized(
    blocks: Iterable[Samples],
    rate: int,
    recognizer: GuardedRecognizer,
    cutting: Cutting,
    pool: Executor,
    *,
    cache: UtteranceCache | None = None,
    start: float = 0.0,
    whole_batches: bool = False,
) -> Iterator[Step]:
    """Recognise float32 [n] mono blocks at `rate` Hz, yielding segments as they become final.

    `recognizer` is this recording's own; `pool`'s threads call it, and may serve other recordings
    too. While they are at work, the next utterances are read and cut here. Memory holds a few
    batches of utterances, whatever the length of the recording. What `cache` holds is not
    recognised again, and comes out the same. All times are of a recording that began `start`
    seconds before the first block. With `whole_batches` each stream takes a batch at a time, else
    an utterance where there are several.

    Raises:
        AudioError: no utterance could be read.
        ModelError: the model made nothing of any utterance.
    """
    conditioner = Conditioner(AHEAD)
    # streams balance best, and end together, when each has one utterance at a time
    size = cutting.batch_size if whole_batches or recognizer.streams == 1 else 1
    run = _Run(recognizer, size, pool, cache)
    readable = _Readable(blocks)
    max_frames = int(cutting.max_utterance_s * SAMPLE_RATE) // FRAME
    # where it is not to cut (a threshold of 0) the VAD still tells what is to be believed
    segmenter = Segmenter(max_frames, cutting.vad_threshold, overlap=recognizer.tells_words)
    try:
        heard = conditioned(resampled(readable, rate), conditioner)
        cut = utterances(heard, SpeechProbability(), segmenter)
        for item in _placed(cut, round(start * SAMPLE_RATE), conditioner):
            yield from run.take(item)
        yield from run.finish(readable.error, conditioner.notes(start))
    finally:
        run.cancel()


class _Readable:
    """Blocks as far as a recording can be read."""

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks = blocks
        self.error: AudioError | None = None
        """Why not to its end."""

    def __iter__(self) -> Iterator[Samples]:
        try:
            yield from self._blocks
        except AudioError as error:
            self.error = error


def _placed(
    items: Iterable[Utterance | Skipped | int], offset: int, conditioner: Conditioner
) -> Iterator[Utterance | Skipped | int]:
    """Move what was cut by so many samples, and tell the conditioner where there is speech."""
    for item in items:
        if isinstance(item, Utterance):
            conditioner.speech(item.start // FRAME, item.end // FRAME)
            yield replace(item, start=item.start + offset)
        elif isinstance(item, Skipped):
            yield replace(item, start=item.start + offset, end=item.end + offset)
        else:
            yield item + offset


class _UnderWay(NamedTuple):
    """A batch that is being recognised."""

    batch: list[Utterance]
    heard: int
    """Samples that were done with when it was complete."""
    attempt: Future[Attempt] | None
    """What comes of it; None where all of it is remembered."""
    remembered: list[tuple[list[Segment], Fallback | None]]

    @property
    def is_settled(self) -> bool:
        return self.attempt is None or self.attempt.done()


class _Run:
    """One recording: what is being recognised, and what became of the rest."""

    def __init__(
        self,
        recognizer: GuardedRecognizer,
        batch_size: int,
        pool: Executor,
        cache: UtteranceCache | None,
    ) -> None:
        self._recognizer, self._pool, self._cache = recognizer, pool, cache
        self._streams = recognizer.streams
        self._size = batch_size
        self._batch: list[Utterance] = []
        self._under_way: deque[_UnderWay] = deque()
        self._heard = 0
        self._stitcher = Stitcher()
        self._account = _Account()

    def take(self, item: Utterance | Skipped | int) -> Iterator[Step]:
        """Take what the segmenter gives, and yield what became final meanwhile."""
        if isinstance(item, Utterance):
            self._account.hear(item)
            if not item.is_zero:
                self._batch.append(item)
        elif isinstance(item, Skipped):
            self._account.skip(item)
        else:
            self._heard = item
            if not self._batch and not self._under_way:
                yield Step(item / SAMPLE_RATE)
        if len(self._batch) == self._size:
            self._begin()
        waiting = self._under_way
        while waiting and (len(waiting) > self._streams or waiting[0].is_settled):
            yield self._settled()

    def finish(self, unread: AudioError | None, notes: Sequence[str]) -> Iterator[Step]:
        """Yield the rest; `unread`: why there is no more of it; `notes`: on how it was read."""
        if self._batch:
            self._begin()
        while self._under_way:
            yield self._settled()
        self._account.check(unread)
        rest = self._stitcher.finish()
        self._account.recovered(rest)
        coverage = self._account.coverage(unread, (*notes, *self._recognizer.notes))
        yield Step(self._heard / SAMPLE_RATE, rest, coverage=coverage)

    def cancel(self) -> None:
        """Leave what has not begun."""
        for one in self._under_way:
            if one.attempt:
                one.attempt.cancel()

    def _begin(self) -> None:
        batch, self._batch = self._batch, []
        recalled = [self._cache.recall(one) for one in batch] if self._cache else [None]
        remembered = [one for one in recalled if one is not None]
        if len(remembered) == len(batch):
            self._under_way.append(_UnderWay(batch, self._heard, None, remembered))
        else:  # whole batches alone: what a model makes of one may depend on the others
            attempt = self._pool.submit(self._recognizer.attempt, batch)
            self._under_way.append(_UnderWay(batch, self._heard, attempt, []))

    def _settled(self) -> Step:
        one = self._under_way.popleft()
        before = self._recognizer.fallback
        found: list[Segment] = []
        for utterance, segments in self._results(one):
            genuine, dropped = without_invented(segments, utterance)
            self._account.invented += dropped
            found += self._stitcher.push(utterance, genuine)
        self._account.recovered(found)
        # silence after it may have been reported already: progress never goes back
        done = max(one.heard, one.batch[-1].end)
        fallback = None if before else self._recognizer.fallback
        return Step(done / SAMPLE_RATE, tuple(found), fallback)

    def _results(self, one: _UnderWay) -> Sequence[tuple[Utterance, list[Segment]]]:
        """Return what each utterance says; nothing for one of which the model makes nothing."""
        if one.attempt is None:
            found = [segments for segments, _ in one.remembered]
            self._recognizer.repeat(one.batch, found, one.remembered[-1][1])
            return list(zip(one.batch, found, strict=True))
        try:
            found = self._recognizer.settle(one.batch, one.attempt.result())
            if self._cache:
                for utterance, segments in zip(one.batch, found, strict=True):
                    self._cache.keep(utterance, segments, self._recognizer.fallback)
            return list(zip(one.batch, found, strict=True))
        except ModelError as error:
            if len(one.batch) == 1:
                self._account.fail(one.batch[0], error)
                return [(one.batch[0], [])]
        return [(utterance, self._alone(utterance)) for utterance in one.batch]

    def _alone(self, utterance: Utterance) -> list[Segment]:
        """Recognise one of a batch that failed: the others are not to suffer."""
        try:
            return self._recognizer.recognize([utterance])[0]
        except ModelError as error:
            self._account.fail(utterance, error)
            return []


class _Account:
    """What became of every sample."""

    def __init__(self) -> None:
        self._heard: list[tuple[int, int]] = []  # samples of each utterance
        self._zero: set[tuple[int, int]] = set()  # those of them in which all samples are zero
        self._failed: dict[int, ModelError] = {}  # place in _heard -> why
        self._skipped: Counter[str] = Counter()
        self._like_speech = 0
        self._recovered: list[list[Word]] = []  # runs of words
        self._last: Word | None = None
        self.invented = 0

    def hear(self, utterance: Utterance) -> None:
        self._heard.append((utterance.start, utterance.end))
        if utterance.is_zero:
            self._zero.add((utterance.start, utterance.end))

    def skip(self, part: Skipped) -> None:
        self._skipped[part.reason] += part.end - part.start
        if part.like_speech:
            self._like_speech += part.end - part.start

    def recovered(self, segments: Sequence[Segment]) -> None:
        """Note the words, among those that are next, that were found by decoding again."""
        for word in (word for segment in segments for word in segment.words):
            if word.recovered and not (self._last and self._last.recovered):
                self._recovered.append([])
            if word.recovered:
                self._recovered[-1].append(word)
            self._last = word

    def fail(self, utterance: Utterance, error: ModelError) -> None:
        """Note that the model made nothing of an utterance, heard before."""
        self._failed[self._heard.index((utterance.start, utterance.end))] = error

    def check(self, unread: AudioError | None) -> None:
        """Raise the first failure where nothing else came of the recording."""
        if len(self._failed) < len(self._heard):
            return
        for error in (*self._failed.values(), unread):
            if error is not None:
                raise error

    def coverage(self, unread: AudioError | None, notes: Sequence[str]) -> Coverage:
        read = [span for place, span in enumerate(self._heard) if place not in self._failed]
        skipped = Counter(self._skipped)
        decoded = _length([span for span in read if span not in self._zero])
        if zero := _length(read) - decoded:
            skipped["digital zero"] += zero
        if lost := _length(self._heard) - _length(read):
            skipped["failed"] = lost
        failures = [_failure(self._heard[place], error) for place, error in self._failed.items()]
        return Coverage(
            decoded / SAMPLE_RATE,
            {reason: count / SAMPLE_RATE for reason, count in sorted(skipped.items())},
            self._like_speech / SAMPLE_RATE,
            (*failures, *([] if unread is None else [f"it ends early: {unread}"])),
            self.invented,
            (*map(_recovered, self._recovered), *notes),
        )


def _length(spans: Sequence[tuple[int, int]]) -> int:
    """Samples in rising spans, those that two share once."""
    total = reached = 0
    for start, end in spans:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _recovered(run: Sequence[Word]) -> str:
    begin, end = run[0].start, run[-1].end
    return (
        f"{clock(begin)} to {clock(end)}: the decoder had passed over {end - begin:.1f} s of "
        f"speech; decoded again, they gave {len(run)} word{'s' * (len(run) != 1)}"
    )


def _failure(span: tuple[int, int], error: ModelError) -> str:
    begin, end = (clock(place / SAMPLE_RATE) for place in span)
    return f"{begin} to {end}: {error.what if isinstance(error, NonFiniteOutput) else error}"
