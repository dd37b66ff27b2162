"""How probable a recording's text is: speech in another language becomes improbable English.

An English-only Whisper writes English whatever is spoken, and is not sure of it. Measured with the
starter on clips of 1 to 16 s: of 162 in 24 other languages 124 are told (77 %), of 252 in English
(LibriSpeech, telephone and accents, read sentences) 4 (1.6 %), all misheard throughout. Taken
together as in longer recordings, 24 of 24 languages are told, and of 31 English speakers and sets
one, three noisy clips that are misheard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from stt.transcript import Segment

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
