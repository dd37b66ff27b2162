"""Falling back to FP32 within a recording, with recognisers that do as they are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.utterances import Utterance
from stt.engine.fallback import CLEAR_SPEECH_S, GuardedRecognizer, Reserve
from stt.engine.sessions import finite
from stt.errors import ModelError, NonFiniteOutput
from stt.transcript import Segment
from stt.types import Samples

SPOKEN, SILENT, BROKEN = 1.0, 0.0, -1.0


class Scripted:
    """Says its name for utterances of SPOKEN, nothing for SILENT, and collapses on BROKEN."""

    provider = "cpu"
    streams = 1
    tells_words = True

    def __init__(self, name: str, hears: dict[float, float] | None = None) -> None:
        self.name = name
        self.hears = hears or {}
        """What is in an utterance -> what this one makes of it, where that differs."""
        self.asked = 0

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        self.asked += len(batch)
        return [self._one(index, float(samples[0])) for index, samples in enumerate(batch)]

    def _one(self, index: int, content: float) -> list[Segment]:
        heard = self.hears.get(content, content)
        if heard == BROKEN:
            raise NonFiniteOutput("NaN in the encoder output", index)
        return [Segment(0.0, 1.0, self.name, 0.9)] if heard == SPOKEN else []


def utterance(content: float, second: float = 0.0, clear: float = 5.0) -> Utterance:
    return Utterance(round(second * 16_000), np.full(16_000, content, np.float32), clear)


def said(found: list[list[Segment]]) -> list[str]:
    return ["".join(segment.text for segment in segments) for segments in found]


def guard(chosen: Scripted, full: Scripted) -> GuardedRecognizer:
    return GuardedRecognizer(chosen, "fp16", Reserve(lambda: full))


class Card(Scripted):
    """Runs on a card, which fails on what it is told to."""

    provider = "cuda"

    def __init__(self, fails_on: float) -> None:
        super().__init__("card")
        self.fails_on = fails_on

    def _one(self, index: int, content: float) -> list[Segment]:
        if content == self.fails_on:
            raise ModelError("the model cannot run") from RuntimeError("CUDA failure 700")
        return super()._one(index, content)


def test_a_batch_on_which_a_card_fails_runs_on_the_cpu_and_the_rest_on_the_card() -> None:
    spare = Scripted("cpu")
    guarded = GuardedRecognizer(Card(7.0), "fp32", spare=Reserve(lambda: spare, name="the CPU"))
    spare.hears = {7.0: SPOKEN}
    assert said(guarded.recognize([utterance(SPOKEN)])) == ["card"]
    assert guarded.notes == []
    assert said(guarded.recognize([utterance(7.0), utterance(SPOKEN)])) == ["cpu", "cpu"]
    assert said(guarded.recognize([utterance(SPOKEN)])) == ["card"]
    assert guarded.notes == ["2.0 s ran on the CPU: cuda failed (CUDA failure 700)"]
    assert guarded.fallback is None


def test_without_a_spare_a_failure_is_an_error() -> None:
    with pytest.raises(ModelError, match="cannot run"):
        GuardedRecognizer(Card(7.0), "fp32").recognize([utterance(7.0)])


def test_a_collapse_on_the_cpu_is_a_collapse() -> None:
    spare, full = Scripted("cpu", {7.0: BROKEN}), Scripted("full", {7.0: SPOKEN})
    guarded = GuardedRecognizer(
        Card(7.0), "fp16", Reserve(lambda: full), Reserve(lambda: spare, name="the CPU")
    )
    assert said(guarded.recognize([utterance(7.0)])) == ["full"]
    assert guarded.fallback


def test_while_all_is_well_fp32_is_not_even_loaded() -> None:
    def load() -> Scripted:
        raise AssertionError("loaded")

    recognizer = GuardedRecognizer(Scripted("half"), "fp16", Reserve(load))
    batch = [utterance(SPOKEN), utterance(SILENT, clear=CLEAR_SPEECH_S - 0.1)]
    assert said(recognizer.recognize(batch)) == ["half", ""]
    assert recognizer.fallback is None


def test_nan_makes_the_recording_go_on_in_fp32() -> None:
    half = Scripted("half", {9.0: BROKEN})
    full = Scripted("full", {9.0: SPOKEN})
    recognizer = guard(half, full)
    assert said(recognizer.recognize([utterance(SPOKEN)])) == ["half"]
    batch = [utterance(SPOKEN, 10), utterance(9.0, 12.9), utterance(SPOKEN, 20)]
    assert said(recognizer.recognize(batch)) == ["full"] * 3
    fallback = recognizer.fallback
    assert fallback is not None
    message = "fp16 gave nothing usable at 0:12 (NaN in the encoder output)"
    assert str(fallback) == f"{message}; this recording goes on in fp32"
    assert fallback.choice.precision == "fp32"
    assert fallback.choice.provider == "cpu"
    assert fallback.choice.reason == f"{message}; fp32 from there on"
    asked = half.asked
    assert said(recognizer.recognize([utterance(SPOKEN, 700)])) == ["full"]
    assert half.asked == asked
    assert recognizer.fallback is fallback


def test_no_word_where_speech_was_clear_makes_it_go_on_in_fp32() -> None:
    half, full = Scripted("half", {9.0: SILENT}), Scripted("full", {9.0: SPOKEN})
    recognizer = guard(half, full)
    batch = [utterance(SPOKEN), utterance(9.0, 65), utterance(9.0, 70), utterance(SPOKEN, 75)]
    # what was usable is kept, what was not is asked again
    assert said(recognizer.recognize(batch)) == ["half", "full", "full", "half"]
    assert str(recognizer.fallback) == (
        "fp16 gave nothing usable at 1:05 (no word where speech was clear); "
        "this recording goes on in fp32"
    )
    assert said(recognizer.recognize([utterance(SPOKEN, 80)])) == ["full"]
    asked = full.asked
    assert said(recognizer.recognize([utterance(SILENT, 90)])) == [""]
    assert full.asked == asked + 1  # FP32's own silence is not asked about again


@pytest.mark.parametrize("answer", [SILENT, BROKEN])
def test_where_fp32_hears_nothing_either_the_chosen_one_goes_on(answer: float) -> None:
    half, full = Scripted("half"), Scripted("full", {SILENT: answer})
    recognizer = guard(half, full)
    assert said(recognizer.recognize([utterance(SILENT), utterance(SPOKEN)])) == ["", "half"]
    assert recognizer.fallback is None


@given(st.integers(1, 300), st.integers(1, 8))
def test_silence_is_asked_about_ever_more_rarely(utterances: int, batch: int) -> None:
    full = Scripted("full")
    recognizer = guard(Scripted("half"), full)
    for begin in range(0, utterances, batch):
        count = min(batch, utterances - begin)
        recognizer.recognize([utterance(SILENT)] * count)
    assert full.asked == utterances.bit_length()  # the 1st, 2nd, 4th, 8th ...


def test_a_precision_that_collapses_late_is_found_out() -> None:
    half, full = Scripted("half", {9.0: SILENT}), Scripted("full", {9.0: SPOKEN})
    recognizer = guard(half, full)
    recognizer.recognize([utterance(SILENT)] * 5)
    lost = 0
    while recognizer.fallback is None:
        lost += said(recognizer.recognize([utterance(9.0)])) == [""]
    assert lost == 2  # the 6th and 7th


def test_fp32_is_loaded_once_for_all_recordings() -> None:
    loaded = []

    def load() -> Scripted:
        loaded.append(Scripted("full", {9.0: SPOKEN}))
        return loaded[0]

    reserve = Reserve(load)
    for _ in range(3):
        recognizer = GuardedRecognizer(Scripted("half", {9.0: BROKEN}), "fp16", reserve)
        assert said(recognizer.recognize([utterance(SPOKEN)])) == ["half"]
        assert said(recognizer.recognize([utterance(9.0)])) == ["full"]
    assert len(loaded) == 1


def test_fp32_that_does_not_load_is_tried_once_and_its_reason_told() -> None:
    tries = []

    def load() -> Scripted:
        tries.append(1)
        raise ModelError("encoder-model.onnx is not an ONNX file")

    reserve = Reserve(load)
    for _ in range(2):
        recognizer = GuardedRecognizer(Scripted("half"), "fp16", reserve)
        assert said(recognizer.recognize([utterance(SILENT)])) == [""]
        message = (
            r"fp16 gave nothing usable at 0:03 \(NaN .*\), and fp32 cannot .* not an ONNX file"
        )
        with pytest.raises(ModelError, match=message):
            recognizer.recognize([utterance(SPOKEN), utterance(BROKEN, 3)])
    assert len(tries) == 1


def test_without_a_reserve_a_collapse_is_an_error_and_silence_an_answer() -> None:
    recognizer = GuardedRecognizer(Scripted("full"), "fp32")
    assert said(recognizer.recognize([utterance(SILENT)])) == [""]
    with pytest.raises(ModelError, match=r"NaN in the encoder output.*stt setup"):
        recognizer.recognize([utterance(BROKEN)])
    empty = GuardedRecognizer(Scripted("half"), "fp16", Reserve(None, "`strict` is set"))
    with pytest.raises(ModelError, match=r"fp16 gave nothing usable at 0:00 .* `strict` is set"):
        empty.recognize([utterance(BROKEN)])


def test_a_collapse_of_both_is_an_error() -> None:
    recognizer = guard(Scripted("half"), Scripted("full"))
    with pytest.raises(ModelError, match="NaN in the encoder output"):
        recognizer.recognize([utterance(BROKEN)])
    with pytest.raises(ModelError, match="NaN in the encoder output"):
        recognizer.recognize([utterance(BROKEN)])


contents = st.sampled_from([SPOKEN, SILENT, BROKEN])
scripts = st.dictionaries(st.integers(0, 9).map(lambda n: n + 2.0), contents)


@given(
    half=scripts,
    full=st.dictionaries(
        st.integers(0, 9).map(lambda n: n + 2.0), st.sampled_from([SPOKEN, SILENT])
    ),
    recording=st.lists(st.lists(st.integers(0, 9).map(lambda n: n + 2.0), min_size=1), max_size=9),
)
def test_every_utterance_gets_one_answer_and_words_that_were_heard_are_kept(
    half: dict[float, float], full: dict[float, float], recording: list[list[float]]
) -> None:
    recognizer = guard(Scripted("half", half), Scripted("full", full))
    for batch in recording:
        before = recognizer.fallback
        found = said(recognizer.recognize([utterance(content) for content in batch]))
        assert len(found) == len(batch)
        for content, words in zip(batch, found, strict=True):
            if words:
                assert {"half": half, "full": full}[words].get(content) == SPOKEN
            elif before or any(half.get(one) == BROKEN for one in batch):
                assert full.get(content) != SPOKEN
            else:
                assert half.get(content) != SPOKEN
        if before:
            assert recognizer.fallback is before
            assert "half" not in found


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_finite(values: list[float]) -> None:
    array = np.array(values, np.float32)
    if np.isfinite(array).all():
        assert finite(array, "logits") is array
        return
    what = "NaN" if np.isnan(array).any() else "infinity"
    with pytest.raises(NonFiniteOutput, match=f"^{what} in the logits: "):
        finite(array, "logits")
