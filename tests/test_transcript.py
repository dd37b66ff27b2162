"""The values that transcripts are made of."""

from __future__ import annotations

from stt.transcript import Segment, Word, shifted


def test_all_times_of_a_segment_are_moved() -> None:
    words = (Word(0.5, 0.7, "one", 0.9, burst_at=0.5), Word(1.0, 1.2, "two", 0.8, recovered=True))
    moved = shifted(Segment(0.5, 1.2, "one two", 0.85, words, "left"), 10.0)
    assert (moved.start, moved.end, moved.text, moved.channel) == (10.5, 11.2, "one two", "left")
    assert [(word.start, word.end) for word in moved.words] == [(10.5, 10.7), (11.0, 11.2)]
    # compare=False hides these two from ==
    assert [word.burst_at for word in moved.words] == [10.5, None]
    assert [word.recovered for word in moved.words] == [False, True]
