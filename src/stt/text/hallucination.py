"""Words that a model makes up where nobody speaks, and text that is improbable.

Trained on speech alone, a model answers silence and noise with what was often said: a transducer
with "Yeah." or "Mm-hmm.", several tokens at once; Whisper with "you", "Thank you." or one phrase
again and again. A word that was said takes time, or at least makes a sound, and what a model makes
of noise it is not sure of. So the VAD is asked: also where it does not decide what is heard.

`without_invented` is for files and live: it looks at the VAD's frames beneath each text. `doubt` is
for whole live utterances besides: they begin with the first frame of speech, a cough or a click
among them, and what is shown of them cannot be taken back. A file's utterance may be faint speech,
no frame of which is clear (`stt.audio.segmenter`), or one short word: of 29 clips of one digit
(FSDD, the starter) `doubt` would leave out the text of 11, four of them right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stt.audio.utterances import ZERO_DB, Utterance
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


LITTLE_CLEAR_S = 0.3
"""Clear speech below which a text must be likely to be believed."""
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
    return evidence.clear_s < LITTLE_CLEAR_S and confidence < BELIEVABLE


_LEAST = 0.42
"""Mean probability of a token below which a text is improbable."""
_LEAST_OF_FEW = 0.30
"""The same of fewer words than `_FEW`: short English clips are as uncertain now and then."""
_FEW = 8

NOT_ENGLISH = (
    "the text is improbable; if this is not English it is made up, for this model knows English "
    "only; run `stt setup` for Parakeet (25 languages), then do it again"
)
"""One line for the user."""


class Likelihood:
    """The mean probability of what is said, weighted by the length of texts."""

    def __init__(self) -> None:
        self._words = 0
        self._letters = 0
        self._logprob = 0.0

    @property
    def words(self) -> int:
        """How many words there are so far."""
        return self._words

    @property
    def mean(self) -> float:
        """Geometric mean of the probability of a token, 0 to 1; 1 where nothing was said."""
        return math.exp(self._logprob / self._letters) if self._letters else 1.0

    @property
    def is_improbable(self) -> bool:
        """Whether it is as improbable as a text that was not said."""
        return self.mean < (_LEAST if self._words >= _FEW else _LEAST_OF_FEW)

    def take(self, segments: Iterable[Segment]) -> None:
        """Add what was said next."""
        for segment in segments:
            self._words += len(segment.text.split())
            self._letters += len(segment.text)
            self._logprob += math.log(max(segment.confidence, 1e-9)) * len(segment.text)
