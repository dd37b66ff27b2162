"""Words that a transducer makes up over silence: bursts of tokens on one frame, left out.

Trained on speech alone, a transducer may answer silence with "Yeah." or "Mm-hmm.": several tokens
at once, where nobody speaks. A word that was said takes time, or at least makes a sound.
"""

from __future__ import annotations

from collections.abc import Sequence

from stt import words
from stt.audio.resample import SAMPLE_RATE
from stt.audio.segmenter import Utterance
from stt.audio.vad import FRAME
from stt.transcript import Segment, Word

_NO_SPEECH = 0.15
"""Probability of speech below which nobody speaks."""
_AROUND_S = 0.32
"""Seconds (four encoder frames) before and after the burst in which nobody may speak."""
_FRAME_S = FRAME / SAMPLE_RATE


def without_invented(
    segments: Sequence[Segment], utterance: Utterance
) -> tuple[list[Segment], int]:
    """Leave out invented words.

    Args:
        segments: of the utterance, in seconds from its own start.
        utterance: with what the VAD heard in it; where that is not known nothing is left out.

    Returns:
        The segments, and how many words were left out.
    """
    kept: list[Segment] = []
    dropped = 0
    for segment in segments:
        genuine = [word for word in segment.words if not _is_invented(word, utterance)]
        dropped += len(segment.words) - len(genuine)
        if len(genuine) == len(segment.words):
            kept.append(segment)
        else:
            kept += words.segments(genuine)
    return kept, dropped


def _is_invented(word: Word, utterance: Utterance) -> bool:
    if word.burst_at is None or not utterance.heard:
        return False
    first = max(0, int((word.burst_at - _AROUND_S) / _FRAME_S))
    last = int((word.burst_at + _AROUND_S) / _FRAME_S) + 1
    if last > len(utterance.heard):
        return False  # a last word may be emitted late, in the silence that is put after the audio
    return all(probability < _NO_SPEECH for probability, _ in utterance.heard[first:last])
