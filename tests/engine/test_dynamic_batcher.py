"""Many threads' utterances recognised together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stt.engine.dynamic_batcher import DynamicBatcher
from stt.errors import NonFiniteOutput
from stt.transcript import Segment
from stt.types import Samples


class Slow:
    """Tells each utterance's first sample; the first batch waits for `go`."""

    provider, streams, tells_words = "cuda", 1, True

    def __init__(self, broken: float | None = None, error: Exception | None = None) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.batches: list[list[float]] = []
        self.broken, self.error = broken, error

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        firsts = [float(samples[0]) for samples in batch]
        self.batches.append(firsts)
        self.begun.set()
        assert self.go.wait(10)
        if self.error:
            raise self.error
        if self.broken in firsts:
            raise NonFiniteOutput("NaN in the logits", firsts.index(self.broken))
        return [[Segment(0.0, 1.0, str(first), 1.0)] for first in firsts]


def utterances(*values: float) -> list[Samples]:
    return [np.full(3, value, np.float32) for value in values]


def answers(
    slow: Slow, most: int, *batches: tuple[float, ...]
) -> list[list[str] | BaseException | None]:
    """Hand the batches over in this order, all but the first while that is recognised."""
    batcher = DynamicBatcher(slow, most)
    with ThreadPoolExecutor(len(batches)) as pool:
        futures = [pool.submit(batcher.recognize, utterances(*batches[0]))]
        assert slow.begun.wait(10)
        for number, batch in enumerate(batches[1:], start=1):
            futures.append(pool.submit(batcher.recognize, utterances(*batch)))
            while len(batcher._waiting) < number:
                pass
        slow.go.set()
        return [
            future.exception(10) or [segments[0].text for segments in future.result()]
            for future in futures
        ]


def test_what_comes_meanwhile_goes_together_and_each_gets_its_own() -> None:
    slow = Slow()
    found = answers(slow, 4, (1.0,), (2.0,), (3.0, 4.0), (5.0,), (6.0,))
    assert found == [["1.0"], ["2.0"], ["3.0", "4.0"], ["5.0"], ["6.0"]]
    assert slow.batches == [[1.0], [2.0, 3.0, 4.0, 5.0], [6.0]]


def test_a_batch_larger_than_the_most_is_not_cut() -> None:
    slow = Slow()
    assert answers(slow, 2, (1.0,), (2.0, 3.0, 4.0), (5.0,))[1] == ["2.0", "3.0", "4.0"]
    assert slow.batches == [[1.0], [2.0, 3.0, 4.0], [5.0]]


def test_one_that_collapses_has_its_error_and_the_others_go_on() -> None:
    slow = Slow(broken=4.0)
    first, second, third, last = answers(slow, 8, (1.0,), (2.0,), (3.0, 4.0), (5.0,))
    assert (first, second, last) == (["1.0"], ["2.0"], ["5.0"])
    assert isinstance(third, NonFiniteOutput)
    assert third.index == 1


def test_any_other_failure_reaches_every_caller() -> None:
    found = answers(Slow(error=MemoryError("full")), 8, (1.0,), (2.0,), (3.0,))
    assert [type(error) for error in found] == [MemoryError] * 3


def test_after_a_failure_it_works_again() -> None:
    slow = Slow(error=ValueError("once"))
    slow.go.set()
    batcher = DynamicBatcher(slow, 4)
    with pytest.raises(ValueError, match="once"):
        batcher.recognize(utterances(1.0))
    slow.error = None
    assert batcher.recognize(utterances(1.0))[0][0].text == "1.0"


def test_what_waits_is_withdrawn_and_what_is_under_way_is_finished() -> None:
    slow = Slow()
    batcher = DynamicBatcher(slow, 2)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.recognize, utterances(1.0))
        assert slow.begun.wait(10)
        others = [pool.submit(batcher.recognize, utterances(value)) for value in (2.0, 3.0, 4.0)]
        while len(batcher._waiting) < 3:
            pass
        batcher.withdraw(KeyError("nobody wants it"))
        assert all(isinstance(other.exception(10), KeyError) for other in others)
        slow.go.set()
        assert first.result(10)[0][0].text == "1.0"
    with pytest.raises(KeyError):
        batcher.recognize(utterances(5.0))
    assert slow.batches == [[1.0]]
