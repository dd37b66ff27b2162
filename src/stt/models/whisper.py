"""Greedy decoding with Whisper: utterances in, timed pieces of text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stt.models.whisper_features import SAMPLE_RATE, WINDOW_SECONDS, log_mel
from stt.models.whisper_loops import loop_start
from stt.models.whisper_rules import Rules, apply_rules, log_softmax
from stt.models.whisper_vocabulary import WhisperVocabulary

__all__ = [
    "Interrupted",
    "Said",
    "Step",
    "WhisperPiece",
    "WhisperResult",
    "decode_greedily",
    "split_pieces",
    "transcribe",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SPARE_S = 5.0
"""Seconds of silence encoded behind an utterance; with 2 s live text gets worse (docs/live.md)."""
_SHORTEST_REST = 0.5  # seconds; less than this behind the last piece is not looked at again


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """The result is not wanted any more."""


def _never() -> bool:
    return False


class Step(Protocol):
    """A decoder holding the state of a batch of utterances."""

    def __call__(self, tokens: Int64) -> Float32:
        """Append tokens [B, S] to the utterances kept; logits [B, vocabulary] of what follows."""

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all utterances but these, given by their place among those kept so far."""


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


@dataclass(slots=True)
class Said:
    """One utterance while it is decoded, and after."""

    language: str
    no_speech_prob: float
    tokens: list[int] = field(default_factory=list)
    """Those sampled, timestamps among them, without <|endoftext|>."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token, among those the rules allow."""


def decode_greedily(
    step: Step,
    languages: Sequence[str | None],
    rules: Rules,
    interrupted: Callable[[], bool] = _never,
) -> list[Said]:
    """The likeliest token each time, for a batch of utterances at once.

    step: stands before its first token. languages: one per utterance, as a code; None lets a
    multilingual model choose. interrupted: asked before each token; raises Interrupted if so.
    An utterance ends with <|endoftext|>, after half the positions the model has (as in OpenAI's
    code), or where it begins to repeat itself; it then leaves the batch.

    Raises ValueError for a language the model does not know.
    """
    vocabulary = rules.vocabulary
    logits = step(np.full((len(languages), 1), vocabulary.start))
    said = _judge_start(logits, vocabulary, languages)
    prompt = [_prompt(one.language, rules) for one in said]
    if prompt[0]:
        logits = step(np.array(prompt, np.int64))
    limit = min(vocabulary.max_positions // 2, vocabulary.max_positions - 1 - len(prompt[0]))
    going = said
    for left in reversed(range(limit)):
        if interrupted():
            raise Interrupted
        apply_rules(logits, [one.tokens for one in going], rules)
        chosen = logits.argmax(axis=-1)
        kept = _append(going, chosen, _logprobs(logits, chosen), vocabulary)
        if not kept or not left:
            break
        if len(kept) < len(going):
            step.keep(kept)
            going = [going[place] for place in kept]
        logits = step(chosen[kept, None])
    return said


def _judge_start(
    logits: Float32, vocabulary: WhisperVocabulary, languages: Sequence[str | None]
) -> list[Said]:
    """From what follows <|startoftranscript|>: is it speech, and in which language?"""
    known = vocabulary.languages or {"en": vocabulary.start}
    unknown = set(languages) - set(known) - {None}
    if unknown:
        raise ValueError(f"the model does not know the language {unknown.pop()!r}")
    codes = list(known)
    likeliest = logits[:, [known[code] for code in codes]].argmax(axis=-1)
    no_speech = np.exp(log_softmax(logits)[:, vocabulary.no_speech])
    return [
        Said(given or codes[i], float(p))
        for given, i, p in zip(languages, likeliest, no_speech, strict=True)
    ]


def _prompt(language: str, rules: Rules) -> list[int]:
    """What comes between <|startoftranscript|> and the first token sampled."""
    vocabulary = rules.vocabulary
    task = [vocabulary.languages[language], vocabulary.transcribe] if vocabulary.languages else []
    return task if rules.timestamps else [*task, vocabulary.no_timestamps]


def _logprobs(logits: Float32, chosen: Int64) -> Float32:
    """Logarithm of the probability of the chosen, likeliest tokens: float32 [B]."""
    best = np.take_along_axis(logits, chosen[:, None], axis=-1)
    logprobs: Float32 = -np.log(np.exp(logits - best).sum(axis=-1))
    return logprobs


def _append(
    going: Sequence[Said], chosen: Int64, logprobs: Float32, vocabulary: WhisperVocabulary
) -> list[int]:
    """Give each utterance its token; the places of those that go on."""
    kept = []
    for place, (one, token, logprob) in enumerate(zip(going, chosen, logprobs, strict=True)):
        if token == vocabulary.end:
            continue
        one.tokens.append(int(token))
        one.logprobs.append(float(logprob))
        if not _cut_loop(one, vocabulary):
            kept.append(place)
    return kept


def _cut_loop(one: Said, vocabulary: WhisperVocabulary) -> bool:
    """Whether the text repeats itself; if so all but the first time is taken back."""
    places = [i for i, token in enumerate(one.tokens) if token < vocabulary.end]
    repeated = loop_start([one.tokens[i] for i in places])
    if repeated is None:
        return False
    del one.tokens[places[repeated] :], one.logprobs[places[repeated] :]
    return True


def transcribe(
    utterances: Sequence[Float32],
    start: Callable[[Sequence[Float32]], Step],
    rules: Rules,
    *,
    language: str | None = None,
    mels: int = 80,
    batch: int = 8,
    window_s: float = WINDOW_SECONDS,
    interrupted: Callable[[], bool] = _never,
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

    def __init__(self, samples: Float32, language: str | None) -> None:
        self.samples = samples
        self.language = language
        self.position = 0  # samples recognised so far
        self.pieces: list[WhisperPiece] = []
        self.no_speech_prob: float | None = None

    @property
    def done(self) -> bool:
        return self.no_speech_prob is not None and self.position >= len(self.samples)

    def window(self) -> Float32:
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
