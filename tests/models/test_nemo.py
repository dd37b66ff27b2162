"""Batches of utterances of like length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stt.models.nemo import PADDING, buckets


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
