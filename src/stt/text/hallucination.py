"""Words that a model makes up where nobody speaks, left out: one rule for files and live.

Trained on speech alone, a model answers silence and noise with what was often said: a transducer
with "Yeah." or "Mm-hmm.", several tokens at once; Whisper with "you", "Thank you." or one phrase
again and again. A word that was said takes time, or at least makes a sound, and what a model makes
of noise it is not sure of. So the VAD is asked: also where it does not decide what is heard.
"""

from __future__ import annotations

from collections.abc import Sequence

from stt.audio.segmenter import ZERO_DB, Utterance
from stt.audio.vad import FRAME
from stt.text import words
from stt.transcript import Segment, Word
from stt.types import SAMPLE_RATE

LITTLE_SPEECH_S = 0.15
"""Seconds of speech below which a text without word times must be likely to be believed: noise that
the VAD takes for speech as it begins has 0.13. Of the texts of 252 real recordings in English none
is lost; of 48 clips of one digit, chosen for how little of it the VAD hears, one right one is."""
BELIEVABLE = 0.5
"""Confidence from which a text over little speech is believed; "Thank you." in noise has 0.4."""
_REPEATED = 3
"""Times in a row that a phrase is said over little speech from which on it is not believed, however
likely."""
_SPEECH = 0.5
"""Probability from which a frame is speech; `CLEAR` would be too much to ask of faint speech."""
_NO_SPEECH = 0.15
"""Probability of speech below which nobody speaks."""
_AROUND_S = 0.32
"""Seconds (four encoder frames) before and after a burst, or a text, in which the VAD is asked."""
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
    if not utterance.heard:
        return list(segments), 0
    kept: list[Segment] = []
    dropped = 0
    times = _times_in_a_row(segments)
    for segment, repeated in zip(segments, times, strict=True):
        if _is_doubtful(segment, utterance, repeated):
            dropped += len(segment.words) or len(segment.text.split())
            continue
        genuine = [word for word in segment.words if not _is_burst(word, utterance)]
        dropped += len(segment.words) - len(genuine)
        if len(genuine) == len(segment.words):
            kept.append(segment)
        else:
            kept += words.segments(genuine)
    return kept, dropped


def _is_doubtful(segment: Segment, utterance: Utterance, repeated: int) -> bool:
    """Tell whether a text lies where nothing was recorded, or where hardly anybody spoke."""
    frames = utterance.heard
    first, last = _frames(segment.start, segment.end)
    if all(level < ZERO_DB for _, level in frames[first:last]):
        return first < len(frames)
    if segment.words or (segment.confidence >= BELIEVABLE and repeated < _REPEATED):
        return False  # where words have times, those in a burst are looked at one by one
    first, last = _frames(segment.start - _AROUND_S, segment.end + _AROUND_S)
    spoken = sum(probability >= _SPEECH for probability, _ in frames[first:last])
    return spoken * _FRAME_S < LITTLE_SPEECH_S


def _times_in_a_row(segments: Sequence[Segment]) -> list[int]:
    """Return how often, for each, its text is said in a row."""
    texts = [segment.text.casefold() for segment in segments]
    runs: list[int] = []
    for place, text in enumerate(texts):
        if place and text == texts[place - 1]:
            runs[-1] += 1
        else:
            runs.append(1)
    return [run for run in runs for _ in range(run)]


def _is_burst(word: Word, utterance: Utterance) -> bool:
    """Tell whether all of a word was emitted at once, and nobody speaks there."""
    if word.burst_at is None:
        return False
    first, last = _frames(word.burst_at - _AROUND_S, word.burst_at + _AROUND_S)
    if last > len(utterance.heard):
        return False  # a last word may be emitted late, in the silence that is put after the audio
    return all(probability < _NO_SPEECH for probability, _ in utterance.heard[first:last])


def _frames(start: float, end: float) -> tuple[int, int]:
    """Return the frames of the VAD, first and after the last, of a stretch in seconds."""
    return max(0, int(start / _FRAME_S)), int(end / _FRAME_S) + 1
