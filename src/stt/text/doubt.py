"""Is it speech? Text that a model makes of coughs, clicks, breath and noise is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stt.transcript import Segment

LITTLE_SPEECH_S = 0.3
"""Clear speech below which a text must be likely to be believed."""
_BELIEVABLE = 0.5
"""Confidence from which a text over little clear speech is believed."""
_WORDS_PER_SECOND = 8.0
"""Nobody says more words in a second of sound; a burst of tokens does."""
_GRACE_WORDS = 3
"""Words that may be said in next to no time: the VAD does not hear all of a short answer."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the VAD heard of an utterance."""

    clear_s: float
    """Seconds of clear speech."""
    voiced_s: float
    """Seconds up to the last moment of speech, pre-roll included."""


def doubt(segments: Sequence[Segment], evidence: Evidence) -> bool:
    """Tell whether a text is better left out than shown."""
    words = sum(len(segment.text.split()) for segment in segments)
    if not words:
        return False
    if words > _GRACE_WORDS + _WORDS_PER_SECOND * evidence.voiced_s:
        return True
    if evidence.clear_s == 0.0:
        return True
    confidence = sum(s.confidence * len(s.text.split()) for s in segments) / words
    return evidence.clear_s < LITTLE_SPEECH_S and confidence < _BELIEVABLE
