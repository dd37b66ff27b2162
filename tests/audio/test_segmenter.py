"""Cutting, tested on lists of numbers: nothing lost, nothing doubled, nothing too long."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from types import GeneratorType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio import segmenter as cutting
from stt.audio.conditioning import Heard
from stt.audio.segmenter import Segmenter, Span, quietest
from stt.audio.utterances import Skipped, Utterance, utterances
from stt.audio.vad import FRAME, levels
from stt.types import Samples
from support.frames import LOUD, QUIET, Frames, pause, runs_of_speech, speech, stretches

SHORTEST_MAX = 156
"""Frames in the shortest utterance limit that settings allow: 5 s."""


def run(
    frames: Frames, max_frames: int = 875, threshold: float = 0.5, *, overlap: bool = False
) -> list[Span]:
    segmenter = Segmenter(max_frames, threshold, overlap=overlap)
    found = [span for frame in frames if (span := segmenter.push(*frame))]
    if last := segmenter.finish():
        found.append(last)
    return found


def covered_by(spans: list[Span], frames: int) -> npt.NDArray[np.bool_]:
    covered = np.zeros(frames, bool)
    for span in spans:
        covered[span.start : span.end] = True
    return covered


# --- spans --------------------------------------------------------------------------------------


def test_speech_keeps_real_audio_around_it() -> None:
    (span,) = run(pause(100) + speech(50) + pause(200))
    assert span.start == 100 - cutting.PRE_ROLL
    assert span.end == 150 + cutting.POST_ROLL


def test_speech_at_the_very_start_and_end() -> None:
    assert run(speech(50)) == [Span(0, 50)]


def test_a_span_knows_its_clear_speech() -> None:
    faint = [(0.7, QUIET)] * 20
    assert [span.clear for span in run(speech(50) + faint + pause(100) + speech(40))] == [50, 40]
    spans = run(speech(400), max_frames=SHORTEST_MAX)
    assert [span.clear for span in spans] == [span.end - span.start for span in spans]


def test_silence_and_clicks_give_nothing() -> None:
    assert run(pause(2000)) == []
    assert run(pause(100) + speech(cutting.MIN_SPEECH - 1) + pause(200)) == []


def test_a_long_silence_ends_an_utterance_and_a_short_pause_does_not() -> None:
    short = run(speech(50) + pause(cutting.END_SILENCE // 2) + speech(50))
    assert len(short) == 1
    long = run(speech(50) + pause(cutting.END_SILENCE + 40) + speech(50))
    assert len(long) == 2


def test_what_may_be_faint_speech_is_heard() -> None:
    faint = [(0.3, -45.0)] * 100
    (span,) = run(pause(200) + faint + pause(200))
    assert span.start <= 200
    assert span.end >= 300
    assert run(pause(200) + [(0.12, -45.0)] * 500 + pause(200)) == []


def test_doubt_that_comes_after_the_first_word_reaches_back() -> None:
    frames = [(0.285, QUIET)] * 32 + [(1.0, LOUD)] + [(0.5, QUIET)] * 4
    assert run(frames, threshold=0.75) == [Span(1, 37)]
    clear = [(0.285, QUIET)] * 32 + speech(40) + [(0.5, QUIET)] * 4
    assert run(clear, threshold=0.75) == [Span(32 - cutting.PRE_ROLL, 76)]


def test_a_second_of_doubt_that_a_cut_goes_through_is_heard_to_its_end() -> None:
    frames = [(1.0, 0.0)] * 602 + [(0.5, -41.0)] * 200 + [(0.0, 0.0)] * 73
    first, second = run(frames, threshold=0.75)
    assert first.end == second.start < 802 < second.end


def test_nothing_is_heard_twice_that_ends_in_the_overlap() -> None:
    frames = speech(117) + [(0.25, -37.0)] * 10 + [(0.0, LOUD)] * 70
    (only,) = run(frames, SHORTEST_MAX, 0.25, overlap=True)
    assert only.end > 127


@settings(max_examples=60)
@given(stretches(200, 12), st.floats(0.2, 0.95))
def test_no_doubtful_second_is_skipped(frames: Frames, threshold: float) -> None:
    covered = covered_by(run(frames, 875, threshold), len(frames))
    faint = np.array([p if p < threshold - 0.15 else 0.0 for p, _ in frames])
    width = cutting.SHORT_LEAD
    for first in range(len(frames) - width + 1):
        if faint[first : first + width].sum() >= cutting.DOUBT * threshold * width + 1e-6:
            assert covered[first : first + width].all(), f"frames {first} to {first + width}"


def test_hysteresis_keeps_a_weak_ending() -> None:
    weak = [(0.4, LOUD)] * 30
    (span,) = run(speech(50) + weak + pause(200))
    assert span.end >= 80 + cutting.POST_ROLL


@pytest.mark.parametrize("at", [100, 120, 140])
def test_a_cut_lies_in_the_pause(at: int) -> None:
    first, second, *_ = run(speech(at) + pause(10) + speech(200), SHORTEST_MAX)
    assert first.end == second.start
    assert at <= first.end <= at + 10


def test_the_longer_of_two_pauses_is_cut() -> None:
    frames = speech(90) + pause(20) + speech(20) + pause(5) + speech(100)
    assert 90 <= run(frames, SHORTEST_MAX)[0].end <= 110


def test_the_end_of_a_word_that_was_cut_is_kept() -> None:
    assert run(speech(SHORTEST_MAX), SHORTEST_MAX)[-1].end == SHORTEST_MAX
    assert run(speech(SHORTEST_MAX + 1), SHORTEST_MAX)[-1].end == SHORTEST_MAX + 1


def test_speech_without_any_pause_is_cut_and_whole() -> None:
    spans = run(speech(1000), SHORTEST_MAX)
    assert spans[0].start == 0
    assert spans[-1].end == 1000
    assert all(before.end == after.start for before, after in pairwise(spans))


@given(stretches(200, 12), st.integers(SHORTEST_MAX, 875), st.floats(0.05, 0.95), st.booleans())
def test_spans_rise_fit_the_model_and_lose_no_speech(
    frames: Frames, max_frames: int, threshold: float, overlap: bool
) -> None:
    spans = run(frames, max_frames, threshold, overlap=overlap)
    assert all(0 <= span.start < span.end <= len(frames) for span in spans)
    assert all(len(span.heard) == span.end - span.start <= max_frames for span in spans)
    for before, after in pairwise(spans):
        assert before.start < after.start and before.end < after.end
        assert after.start >= before.end or (before.seam and overlap)
        assert before.end - after.start <= 2 * cutting.OVERLAP
    covered = covered_by(spans, len(frames))
    for start, end in runs_of_speech(frames, threshold, cutting.MIN_SPEECH):
        assert covered[start:end].all(), f"frames {start} to {end}"


def test_only_a_cut_through_speech_overlaps() -> None:
    pausing = (speech(80) + pause(12)) * 8
    assert all(a.end <= b.start for a, b in pairwise(run(pausing, SHORTEST_MAX, overlap=True)))
    fluent = run(speech(1000), SHORTEST_MAX, overlap=True)
    assert {a.end - b.start for a, b in pairwise(fluent)} == {2 * (SHORTEST_MAX // 8)}
    assert (fluent[0].start, fluent[-1].end) == (0, 1000)


@settings(max_examples=50)
@given(stretches(200, 12).filter(lambda frames: len(frames) >= 2))
def test_quietest_stays_in_bounds(frames: Frames) -> None:
    first = len(frames) // 2
    assert first <= quietest(frames, first) < len(frames)


def test_levels_in_decibels() -> None:
    frames = np.stack([np.ones(FRAME), np.zeros(FRAME), np.full(FRAME, 0.1)]).astype(np.float32)
    np.testing.assert_allclose(levels(frames), [0.0, -100.0, -20.0], atol=0.01)


# --- audio --------------------------------------------------------------------------------------


def loud_is_speech(frames: Samples) -> npt.NDArray[np.float32]:
    """Stands in for the network: speech is what is loud."""
    return np.clip((levels(frames) + 60) / 40, 0, 1).astype(np.float32)


def babble(seed: int, runs: int) -> Samples:
    """Loud and silent stretches of noise, not in whole frames."""
    random = np.random.default_rng(seed)
    parts = [
        random.normal(0, gain, random.integers(1, 60_000)).astype(np.float32)
        for _ in range(runs)
        for gain in (0.2, 0.0001)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def items(
    samples: Samples, places: list[int], *, overlap: bool = False
) -> list[Utterance | Skipped | int]:
    inside = sorted(place for place in places if place <= len(samples))
    edges = [0, *inside, len(samples)]
    blocks = (samples[a:b] for a, b in pairwise(edges))
    segmenter = Segmenter(SHORTEST_MAX, overlap=overlap)
    return list(utterances((Heard(block, block) for block in blocks), loud_is_speech, segmenter))


def heard_of(found: list[Utterance | Skipped | int]) -> list[Utterance]:
    return [item for item in found if isinstance(item, Utterance)]


@settings(max_examples=30)
@given(st.integers(0, 9), st.integers(0, 6), st.lists(st.integers(0, 300_000)), st.booleans())
def test_every_sample_is_heard_or_skipped_in_order(
    seed: int, runs: int, places: list[int], overlap: bool
) -> None:
    samples = babble(seed, runs)
    reached = settled = 0
    for item in items(samples, places, overlap=overlap):
        if isinstance(item, int):
            settled = item
            continue
        assert item.start <= reached if isinstance(item, Utterance) else item.start == reached
        assert item.start == reached or overlap
        reached = max(reached, item.end)
        assert settled <= reached
    assert reached == settled == len(samples)


def test_why_it_is_skipped() -> None:
    random = np.random.default_rng(0)
    parts = [
        np.zeros(32_000),
        random.normal(0, 1e-4, 32_000),
        random.normal(0, 0.01, 32_000),
        random.normal(0, 0.2, FRAME),  # a click
        np.zeros(64_000),
    ]
    samples = np.concatenate(parts).astype(np.float32)

    def only_the_click(frames: Samples) -> npt.NDArray[np.float32]:
        return np.where(levels(frames) > -18, 0.9, 0.02).astype(np.float32)

    total: Counter[tuple[str, bool]] = Counter()
    for item in utterances([Heard(samples, samples)], only_the_click, Segmenter(SHORTEST_MAX)):
        if isinstance(item, Skipped):
            total[item.reason, item.like_speech] += item.end - item.start
    assert total["digital zero", False] == pytest.approx(96_000, abs=3 * FRAME)
    assert total["silence", False] == pytest.approx(32_000, abs=3 * FRAME)
    assert total["non-speech", False] == pytest.approx(32_000, abs=3 * FRAME)
    assert 0 < total["non-speech", True] <= 2 * FRAME


@settings(max_examples=30)
@given(
    st.integers(0, 9),
    st.integers(0, 6),
    st.lists(st.integers(0, 300_000), max_size=30),
    st.booleans(),
)
def test_what_is_heard_and_skipped_is_the_recording_whatever_the_blocks(
    seed: int, runs: int, places: list[int], overlap: bool
) -> None:
    samples = babble(seed, runs)
    whole, found = (items(samples, cuts, overlap=overlap) for cuts in ([], places))
    skipped = [Counter[str](), Counter[str]()]
    for total, made in zip(skipped, (whole, found), strict=True):
        for item in made:
            if isinstance(item, Skipped):
                total[item.reason] += item.end - item.start
    assert skipped[0] == skipped[1]
    for one, other in zip(heard_of(found), heard_of(whole), strict=True):
        assert one.start == other.start
        assert 0 < len(one.samples) <= SHORTEST_MAX * FRAME
        np.testing.assert_array_equal(one.samples, other.samples)
        np.testing.assert_array_equal(one.samples, samples[one.start : one.end])
    settled = [item for item in found if isinstance(item, int)]
    assert settled == sorted(settled) and settled[-1] == len(samples)


def test_the_last_part_of_a_frame_is_heard() -> None:
    samples = babble(3, 1)[:20_001]
    (utterance,) = heard_of(items(samples, []))
    assert utterance.end == len(samples)


def test_memory_stays_within_an_utterance() -> None:
    """Over a long silence nothing is kept but the blocks that the roll before speech lies in."""

    def silent(frames: Samples) -> npt.NDArray[np.float32]:
        return np.zeros(len(frames), np.float32)

    block = np.zeros(16_000, np.float32)
    items = utterances((Heard(block, block) for _ in range(300)), silent, Segmenter(SHORTEST_MAX))
    assert isinstance(items, GeneratorType)
    kept = dict.fromkeys(("audio", "ahead"), 0)
    for _ in items:
        found = items.gi_frame.f_locals
        sizes = {"audio": sum(map(len, found["audio"]._blocks)), "ahead": len(found["ahead"])}
        kept = {name: max(most, sizes[name]) for name, most in kept.items()}
    assert 0 < kept["audio"] <= 2 * 16_000 + (cutting.SHORT_LEAD + 1) * FRAME
    assert kept["ahead"] < FRAME
