from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from stt.errors import ModelError
from stt.serve.engine import Engine
from stt.serve.scheduler import Priority
from stt.streaming.session import LiveSession
from stt.transcriber import ModelTranscriber
from support.live_fakes import Ears
from support.loading import load_model
from support.paths import CLIPS, DIGITS


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS, precision="fp32", provider="cpu")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """Loads, and counts how often."""

    def __init__(self, transcriber: ModelTranscriber) -> None:
        self.transcriber, self.count = transcriber, 0

    def __call__(self) -> ModelTranscriber:
        self.count += 1
        return self.transcriber


@pytest.fixture
def loads(digits: ModelTranscriber) -> Counting:
    return Counting(digits)


@pytest.fixture
def engine(loads: Counting) -> Iterator[Engine]:
    engine = Engine(loads)
    yield engine
    engine.close()


def test_it_is_loaded_once_when_it_is_first_wanted(engine: Engine, loads: Counting) -> None:
    assert (engine.state, engine.served, loads.count) == ("idle", None, 0)
    for _ in range(3):
        with engine.lent(Priority.FILE) as (transcriber, turn):
            assert transcriber.pool is turn
            assert engine.state == "loaded"
    assert loads.count == 1
    assert engine.served is not None
    assert engine.served.model == DIGITS.name


def test_many_threads_that_want_it_at_once_load_it_once(engine: Engine, loads: Counting) -> None:
    def borrow() -> None:
        with engine.lent(Priority.COMMAND):
            pass

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads.count == 1


def test_it_is_unloaded_when_nobody_has_used_it_for_long(loads: Counting) -> None:
    clock = Clock()
    engine = Engine(loads, idle_unload_s=60, clock=clock)
    with engine.lent(Priority.FILE):
        clock.now = 1000.0
        assert not engine.unload_if_idle()  # it is at work
    clock.now += 59
    assert not engine.unload_if_idle()
    clock.now += 1
    assert engine.unload_if_idle()
    assert engine.state == "idle"
    assert not engine.unload_if_idle()
    with engine.lent(Priority.FILE):
        assert engine.state == "loaded"
    assert loads.count == 2
    engine.close()


def test_without_a_limit_it_stays(loads: Counting) -> None:
    clock = Clock()
    engine = Engine(loads, clock=clock)
    engine.load()
    clock.now = 1e9
    assert not engine.unload_if_idle()
    engine.close()


def test_what_cannot_be_loaded_is_told_and_tried_again(loads: Counting) -> None:
    outcomes: list[Callable[[], ModelTranscriber]] = [failing, loads]

    def load() -> ModelTranscriber:
        return outcomes.pop(0)()

    engine = Engine(load)
    with pytest.raises(ModelError, match="damaged"), engine.lent(Priority.FILE):
        pass
    assert (engine.state, engine.failure) == ("failed", "the model is damaged")
    with engine.lent(Priority.FILE):
        assert (engine.state, engine.failure) == ("loaded", "")
    engine.close()


def test_why_a_choice_was_made_is_told_without_folders(digits: ModelTranscriber) -> None:
    reason = f"cuda passed over: {DIGITS}: not enough memory"
    engine = Engine(lambda: replace(digits, choice=replace(digits.choice, reason=reason)))
    assert engine.load().choice.reason == f"cuda passed over: {DIGITS.name}: not enough memory"
    engine.close()


def failing() -> ModelTranscriber:
    raise ModelError("the model is damaged")


def test_a_failure_that_is_nobodys_fault_leaves_no_loading_behind(loads: Counting) -> None:
    def broken() -> ModelTranscriber:
        raise OSError("no such disk")

    engine = Engine(broken)
    with pytest.raises(OSError, match="no such disk"):
        engine.load()
    assert engine.state == "failed"


def test_a_recording_says_the_same_through_it(engine: Engine, digits: ModelTranscriber) -> None:
    clip = min(CLIPS.glob("*.flac"))
    with engine.lent(Priority.COMMAND) as (transcriber, _):
        assert transcriber.transcribe(str(clip)).text == digits.transcribe(str(clip)).text


def test_a_live_session_is_recognised_by_it_and_leaves_no_work(engine: Engine) -> None:
    import soundfile

    from stt.audio.utterances import Utterance

    samples, _ = soundfile.read(min(CLIPS.glob("*.flac")), dtype="float32")
    utterance = Utterance(0, np.asarray(samples, np.float32), 0.0, ())
    with engine.lent_live(LiveSession(Ears())) as recognizer:
        (segments,) = recognizer.begin([utterance]).result()
        assert segments
        assert recognizer.fallback is None
    assert engine.waiting == 0


class Card:
    """A recogniser on a card, which counts what it gets at a time."""

    provider, streams, tells_words = "cuda", 1, True

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()

    def recognize(self, batch: Sequence[object], speech: Sequence[object] = ()) -> list[list[int]]:
        self.gate.wait(10)
        self.sizes.append(len(batch))
        return [[] for _ in batch]


def test_on_a_card_utterances_of_different_requests_share_a_batch(
    digits: ModelTranscriber,
) -> None:
    card = Card()
    cutting = replace(digits.cutting, batch_size=8)
    engine = Engine(lambda: replace(digits, recognizer=card, cutting=cutting))
    with engine.lent(Priority.FILE) as (one, turn), engine.lent(Priority.FILE) as (_, other):
        futures = [
            pool.submit(one.recognizer.recognize, [np.zeros(16_000, np.float32)])
            for pool in (turn, other, turn, other)
        ]
        while engine.waiting:
            pass
        card.gate.set()
        for future in futures:
            assert future.result(10) == [[]]
    assert sum(card.sizes) == 4
    assert max(card.sizes) > 1
    engine.close()
