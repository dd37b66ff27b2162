"""Whisper: utterances in, timed pieces of text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stt.models.whisper_decoding import Rules, Said, Step, decode_greedily, never
from stt.models.whisper_session import WINDOW_SECONDS, log_mel
from stt.models.whisper_vocabulary import WhisperVocabulary
from stt.types import SAMPLE_RATE, Floats

SPARE_S = 5.0
"""Seconds of silence encoded behind an utterance; with 2 s live text gets worse (docs/live.md)."""
_SHORTEST_REST = 0.5  # seconds; less than this behind the last piece is not looked at again


@dataclass(frozen=True, slots=True)
class WhisperPiece:
    """Some words with their place in the utterance."""

    start: float
    """Seconds from the start of the utterance."""
    end: float
    """Seconds from the start of the utterance; never before `start`."""
    text: str
    logprob: float
    """Mean natural logarithm of the probability of its tokens, timestamps not counted."""


@dataclass(frozen=True, slots=True)
class WhisperResult:
    """What was said in one utterance."""

    pieces: tuple[WhisperPiece, ...]
    no_speech_prob: float
    """Probability that there is no speech, 0 to 1, as Whisper judges the first 30 s."""
    language: str
    """Code as in Whisper's tokens, e.g. en."""

    @property
    def text(self) -> str:
        """All pieces on one line."""
        return " ".join(piece.text for piece in self.pieces)


def transcribe(
    utterances: Sequence[Floats],
    start: Callable[[Sequence[Floats]], Step],
    rules: Rules,
    *,
    language: str | None = None,
    mels: int = 80,
    batch: int = 8,
    window_s: float = WINDOW_SECONDS,
    interrupted: Callable[[], bool] = never,
) -> list[WhisperResult]:
    """Recognise utterances, float32 [n] at 16 kHz each; results in the same order.

    start: encodes a batch of features [mels, F] and returns its decoder: `OrtWhisper.start`.
    window_s: seconds encoded at least, silence behind the utterance among them, of which there are
    `SPARE_S` at least. 30 s is what Whisper was trained on; less is faster.
    interrupted: as for `decode_greedily`.
    Utterances may have any length; those over 30 s take several windows, cut where a piece ends
    when timestamps are predicted and hard otherwise. Cut in pauses before calling.
    """
    works = [_Work(samples, language) for samples in utterances]
    while pending := [work for work in works if not work.done]:
        now = pending[:batch]
        frames = _frames(max(len(work.window()) for work in now), window_s)
        step = start([log_mel(work.window(), mels)[:, :frames] for work in now])
        said = decode_greedily(step, [work.language for work in now], rules, interrupted)
        for work, one in zip(now, said, strict=True):
            work.take(one, rules)
    return [work.result() for work in works]


def _frames(samples: int, window_s: float) -> int:
    """Feature frames (10 ms) to encode for an utterance of so many samples: an even number."""
    seconds = min(max(samples / SAMPLE_RATE + SPARE_S, window_s), WINDOW_SECONDS)
    return 2 * round(50 * seconds)


class _Work:
    """An utterance on its way through one or more windows of 30 s."""

    def __init__(self, samples: Floats, language: str | None) -> None:
        self.samples = samples
        self.language = language
        self.position = 0  # samples recognised so far
        self.pieces: list[WhisperPiece] = []
        self.no_speech_prob: float | None = None

    @property
    def done(self) -> bool:
        return self.no_speech_prob is not None and self.position >= len(self.samples)

    def window(self) -> Floats:
        return self.samples[self.position : self.position + WINDOW_SECONDS * SAMPLE_RATE]

    def take(self, said: Said, rules: Rules) -> None:
        offset = self.position / SAMPLE_RATE
        seconds = len(self.window()) / SAMPLE_RATE
        pieces, used = split_pieces(said, rules, seconds)
        self.pieces += [
            replace(piece, start=piece.start + offset, end=piece.end + offset) for piece in pieces
        ]
        self.position += len(self.window()) if used >= seconds else round(used * SAMPLE_RATE)
        if self.no_speech_prob is None:
            self.no_speech_prob = said.no_speech_prob
            self.language = said.language

    def result(self) -> WhisperResult:
        return WhisperResult(tuple(self.pieces), self.no_speech_prob or 0.0, self.language or "en")


def split_pieces(said: Said, rules: Rules, seconds: float) -> tuple[list[WhisperPiece], float]:
    """The pieces of one window of that length, and up to where in it they go, in seconds.

    Without timestamps that is one piece over everything. With them, text after the last timestamp
    goes to the end of the window; a window whose tokens end by opening another piece was left
    there: the rest of its audio is yet to be recognised, from that time on.
    """
    vocabulary = rules.vocabulary
    count = len(said.tokens)
    if not rules.timestamps:
        return _piece(said, slice(0, count), (0.0, seconds), vocabulary), seconds
    pieces: list[WhisperPiece] = []
    start, first = 0.0, 0
    times = [i for i, token in enumerate(said.tokens) if token >= vocabulary.timestamp_begin]
    for i in times:
        time = min(vocabulary.time(said.tokens[i]), seconds)
        pieces += _piece(said, slice(first, i), (start, time), vocabulary)
        start, first = time, i + 1
    pieces += _piece(said, slice(first, count), (start, seconds), vocabulary)
    opened_at_end = len(times) > 1 and times[-1] == count - 1 == times[-2] + 1
    if opened_at_end and 0 < start < seconds - _SHORTEST_REST:
        return pieces, start
    return pieces, seconds


def _piece(
    said: Said, part: slice, place: tuple[float, float], vocabulary: WhisperVocabulary
) -> list[WhisperPiece]:
    """The piece made of some of the tokens, or none when they have no text."""
    text = vocabulary.text(said.tokens[part]).strip()
    if not text:
        return []
    logprobs = said.logprobs[part]
    return [WhisperPiece(*place, text, sum(logprobs) / len(logprobs))]
