"""Batches beside one another, each in another stage of a recogniser."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from stt.engine.dynamic_batcher import DynamicBatcher, batches_in_stages
from stt.engine.stages import STAGES, Line, finished
from stt.errors import NonFiniteOutput
from stt.transcript import Segment
from stt.types import Samples

Found = list[list[Segment]]


class Staged:
    """Tells each utterance's first sample, and notes who is in which stage."""

    provider, streams, tells_words = "cuda", 1, True

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[tuple[float, int]] = []
        self.inside: Counter[int] = Counter()
        self.waits: dict[tuple[float, int], tuple[float, int]] = {}
        self.fails: dict[tuple[float, int], BaseException] = {}

    def in_stages(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> Generator[None, None, Found]:
        firsts = [float(samples[0]) for samples in batch]
        for stage in range(STAGES):
            if stage:
                yield
            self._work(firsts, stage)
        return [[Segment(0.0, 1.0, str(first), 1.0)] for first in firsts]

    def recognize(self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()) -> Found:
        return finished(self.in_stages(batch, speech))

    def _work(self, firsts: list[float], stage: int) -> None:
        """Begin a stage of a batch, and stay until another has begun where it is to wait for it."""
        with self.changed:
            self.inside[stage] += 1
            assert self.inside[stage] == 1, "two in one stage"
            self.begun += [(first, stage) for first in firsts]
            self.changed.notify_all()
            for first in firsts:
                if awaited := self.waits.get((first, stage)):
                    assert self.changed.wait_for(lambda a=awaited: a in self.begun, timeout=10), (
                        f"{(first, stage)} is done only when {awaited} has begun"
                    )
            self.inside[stage] -= 1
            for first in firsts:
                if failure := self.fails.get((first, stage)):
                    if isinstance(failure, NonFiniteOutput):
                        failure.index = firsts.index(first)
                    raise failure


def utterances(*values: float) -> list[Samples]:
    return [np.full(3, value, np.float32) for value in values]


def together(batcher: DynamicBatcher, *batches: Sequence[float]) -> list[object]:
    """What each caller gets, or the error; all call at once."""
    with ThreadPoolExecutor(len(batches)) as pool:
        futures = [pool.submit(batcher.recognize, utterances(*batch)) for batch in batches]
        return [
            future.exception(10) or [segments[0].text for segments in future.result()]
            for future in futures
        ]


def test_one_is_decoded_while_the_next_is_encoded_and_the_one_after_has_its_features() -> None:
    staged = Staged()
    for number in range(1, 8):
        staged.waits[number, 2] = (number + 1, 1)
        staged.waits[number, 1] = (number + 1, 0)
    staged.waits[8, 0] = (7, 0)
    del staged.waits[7, 2]
    batcher = batches_in_stages(staged, 1)
    assert (batcher.streams, batcher.stages) == (3, 3)
    with ThreadPoolExecutor(8) as pool:
        futures = []
        for number in range(1, 9):  # in this order
            futures.append(pool.submit(batcher.recognize, utterances(number)))
            with staged.changed:
                staged.changed.wait_for(
                    lambda n=number: (n, 0) in staged.begun or len(batcher._waiting) > 0, timeout=10
                )
        assert [f.result(10)[0][0].text for f in futures] == [f"{n}.0" for n in range(1, 9)]
    for one, after in pairwise(range(1, 8)):
        at = staged.begun.index
        assert at((one, 1)) < at((after, 1)) < at((after, 2))


@pytest.mark.parametrize("stage", range(STAGES))
def test_a_failure_in_any_stage_leaves_it_to_the_next(stage: int) -> None:
    staged = Staged()
    staged.fails[2.0, stage] = ValueError("broken")
    batcher = DynamicBatcher(staged, 1)
    found = together(batcher, [1.0], [2.0], [3.0], [4.0])
    assert isinstance(found.pop(1), ValueError)
    assert found == [["1.0"], ["3.0"], ["4.0"]]
    assert together(batcher, [5.0], [6.0]) == [["5.0"], ["6.0"]]


@pytest.mark.parametrize("stage", range(STAGES))
def test_one_that_collapses_keeps_its_place_and_the_others_go_on(stage: int) -> None:
    staged = Staged()
    staged.fails[4.0, stage] = NonFiniteOutput("NaN in the logits")
    line = Line(staged)
    calls: list[None] = []
    with pytest.raises(NonFiniteOutput):
        line.recognize(utterances(3.0, 4.0), [(), ()], lambda: calls.append(None))
    assert len(calls) == 1, "the first stage is free"
    batcher = DynamicBatcher(staged, 8)
    first, broken, last = together(batcher, [1.0], [3.0, 4.0], [5.0])
    assert (first, last) == (["1.0"], ["5.0"])
    assert isinstance(broken, NonFiniteOutput)


def test_one_without_stages_takes_one_batch_at_a_time() -> None:
    class Whole(Staged):
        in_stages = None  # type: ignore[assignment]

        def recognize(
            self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
        ) -> Found:
            self._work([float(samples[0]) for samples in batch], 0)
            return [[Segment(0.0, 1.0, str(float(one[0])), 1.0)] for one in batch]

    batcher = DynamicBatcher(Whole(), 2)
    assert batcher.stages == 1
    assert together(batcher, [1.0], [2.0], [3.0]) == [["1.0"], ["2.0"], ["3.0"]]
