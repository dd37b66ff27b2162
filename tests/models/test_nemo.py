"""Batches of utterances of like length, that fit into memory."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from stt.engine.stages import finished
from stt.models.nemo import PADDING, SAMPLES, Room, buckets, encoding
from stt.models.nemo_graphs import usable_frames
from stt.models.onnx_asr_edge import NemoModel
from stt.types import Floats, Samples


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(1, 20_000))
def test_each_utterance_once_little_padding_and_bounded_size(lengths: list[int], most: int) -> None:
    groups = buckets(lengths, most)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        longest, shortest = lengths[group[0]], lengths[group[-1]]
        assert shortest >= (1 - PADDING) * longest
        assert len(group) == 1 or len(group) * longest <= most


def test_like_goes_with_like() -> None:
    assert buckets([100, 30, 95, 29, 1000], most=10_000) == [[4], [0, 2], [1, 3]]


class SmallCard:
    """Has memory for so many samples of a batch; an utterance's frame is its first sample."""

    provider = "cuda"

    def __init__(self, room: int) -> None:
        self.room, self.encoded = room, list[int]()

    def features(self, batch: list[Samples]) -> Any:
        return batch

    def encode_features(self, batch: list[Samples]) -> tuple[Floats, Any]:
        if len(batch) * max(map(len, batch)) > self.room:
            raise RuntimeException("Failed to allocate memory for requested buffer of size 1")
        self.encoded.append(len(batch))
        frames = np.stack([samples[:1, None] for samples in batch])
        return frames, np.ones(len(batch), np.int64)


class Broken(SmallCard):
    def encode_features(self, batch: list[Samples]) -> tuple[Floats, Any]:
        raise RuntimeException("bad graph")


def encoded(card: SmallCard, lengths: list[int], room: Room | None = None) -> list[float]:
    batch = [np.full(n, place, np.float32) for place, n in enumerate(lengths)]
    return [
        float(f[0, 0])
        for f in usable_frames(finished(encoding(cast(NemoModel, card), batch, room)))
    ]


@given(st.lists(st.integers(1, 400), max_size=30), st.integers(400, 3000))
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    lengths: list[int], room: int
) -> None:
    assert encoded(SmallCard(room), lengths) == list(range(len(lengths)))


def test_what_did_not_fit_is_not_tried_again_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    card, room = SmallCard(900), Room()
    assert encoded(card, [400] * 8, room) == list(range(8))
    assert card.encoded == [2] * 4
    card.encoded.clear()
    encoded(card, [400] * 8, room)
    assert (card.encoded, room.samples) == ([2] * 4, 800)
    assert room.samples < SAMPLES
    (record,) = caplog.records
    assert "batches are smaller" in record.getMessage()


def test_what_is_known_not_to_fit_is_not_even_tried() -> None:
    card, room, asked = SmallCard(900), Room(), list[int]()
    encode = card.encode_features

    def noted(batch: list[Samples]) -> tuple[Floats, Any]:
        asked.append(sum(map(len, batch)))
        return encode(batch)

    card.encode_features = noted  # type: ignore[method-assign]
    lengths = [400] * 8 + [100] * 16
    assert encoded(card, lengths, room) == list(range(24))
    assert asked == [3200, 1600, 800, 800, 800, 800, 800, 800], "two were too large, found once"
    room.halve(100, 400)
    assert room.samples == 800, "it never grows"


def test_one_that_does_not_fit_alone_and_other_failures_are_raised() -> None:
    with pytest.raises(RuntimeException, match="allocate"):
        encoded(SmallCard(100), [50, 400])
    with pytest.raises(RuntimeException, match="bad graph"):
        encoded(Broken(900), [50, 40])
