"""Text that is doubted, and text that must not be."""

from __future__ import annotations

import pytest

from stt.text.hallucination import LITTLE_CLEAR_S, Evidence, doubt
from stt.transcript import Segment


def said(text: str, confidence: float = 0.9) -> list[Segment]:
    return [Segment(0.0, 1.0, text, confidence)]


@pytest.mark.parametrize(
    ("text", "confidence", "clear_s", "voiced_s"),
    [
        ("Thank you for watching.", 0.9, 0.0, 1.0),  # nothing was clear speech
        ("Bye.", 0.3, 0.1, 0.8),  # little was, and the model is unsure
        ("so " * 30, 0.9, 1.0, 2.0),  # nobody speaks so fast
    ],
)
def test_doubted(text: str, confidence: float, clear_s: float, voiced_s: float) -> None:
    assert doubt(said(text, confidence), Evidence(clear_s, voiced_s))


@pytest.mark.parametrize(
    ("text", "confidence", "clear_s", "voiced_s"),
    [
        ("Yes.", 0.9, 0.1, 0.7),  # short and sure
        ("Yes.", 0.2, LITTLE_CLEAR_S, 1.0),  # unsure, but it was speech
        ("I do not know.", 0.6, 0.4, 1.0),
        ("", 0.0, 0.0, 1.0),  # nothing to doubt
    ],
)
def test_believed(text: str, confidence: float, clear_s: float, voiced_s: float) -> None:
    assert not doubt(said(text, confidence), Evidence(clear_s, voiced_s))


def test_nothing_is_not_doubted() -> None:
    assert not doubt([], Evidence(0.0, 0.0))


def test_confidence_counts_by_words() -> None:
    long, short = said("one two three four", 0.9), said("five", 0.1)
    assert not doubt([*long, *short], Evidence(0.1, 2.0))
    assert doubt([*said("one", 0.9), *said("two three four five", 0.1)], Evidence(0.1, 2.0))
