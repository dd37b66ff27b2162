"""The family of Whisper models: utterances in, timed pieces of text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stt.engine.folder import ModelFamily, ModelFolder
from stt.engine.recognizer import Decoded, DecoderStep, Probe, Recognizer, Speech
from stt.engine.sessions import Runtime, running_graphs
from stt.errors import NonFiniteOutput
from stt.models.onnx_asr_edge import WhisperModel, load_whisper
from stt.models.whisper_decoding import (
    Int64,
    Rules,
    Said,
    Step,
    WhisperVocabulary,
    decode_greedily,
    never,
)
from stt.models.whisper_session import WINDOW_SECONDS, log_mel
from stt.text.words import lengthened
from stt.transcript import Segment
from stt.types import SAMPLE_RATE, Floats, Samples

SPARE_S = 5.0
"""Seconds of silence encoded behind an utterance; with 2 s live text gets worse
(docs/measurements/live.md)."""
_HASTY_WINDOW_S = 10.0
"""Seconds encoded at least in a hurry: as good as 30, and faster (docs/measurements/live.md)."""
_SHORTEST_REST = 0.5  # seconds; less than this behind the last piece is not looked at again


class Whisper(ModelFamily):
    """Encoder and decoder with a cache, in the layout of optimum's exports."""

    name = "whisper"
    graph_stems = ("encoder_model", "decoder_model_merged")
    vocabulary = ("vocab.json", "added_tokens.json")
    language = "en"
    is_set_up = False  # the starter alone, which is built

    def longest_s(self, config: Mapping[str, Any]) -> int:
        """See ModelFamily."""
        del config
        return WINDOW_SECONDS

    def english_only(self, config: Mapping[str, Any]) -> bool:
        """See ModelFamily."""
        return not config["is_multilingual"]

    def load(self, folder: ModelFolder, precision: str, runtime: Runtime) -> Recognizer:
        """See ModelFamily; all threads work on all utterances together."""
        together = Runtime(runtime.provider, runtime.threads)
        return WhisperRecognizer(load_whisper(folder, precision, together))

    def probe(self, folder: ModelFolder, precision: str) -> Probe:
        """See ModelFamily."""
        return _WhisperProbe(load_whisper(folder, precision, Runtime()))


class WhisperRecognizer:
    """English by default, timed segments without words."""

    tells_words = False

    def __init__(
        self,
        model: WhisperModel,
        window_s: float = WINDOW_SECONDS,
        interrupted: Callable[[], bool] = never,
    ) -> None:
        """`window_s` and `interrupted` as for `transcribe`."""
        self._model, self._window_s, self._interrupted = model, window_s, interrupted

    def hasty(self, interrupted: Callable[[], bool]) -> WhisperRecognizer:
        """Return one of the same model that encodes no more silence than it needs."""
        return WhisperRecognizer(self._model, _HASTY_WINDOW_S, interrupted)

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._model.provider

    @property
    def streams(self) -> int:
        """One: its utterances are decoded together, by all cores."""
        return 1

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise utterances of at most 30 s together; see Recognizer."""
        model = self._model
        rules = Rules(model.vocabulary, timestamps=True)
        with running_graphs():
            results = transcribe(
                batch,
                model.sessions.start,
                rules,
                mels=model.sessions.mels,
                batch=len(batch),
                window_s=self._window_s,
                interrupted=self._interrupted,
            )
        return [
            lengthened([_segment(piece) for piece in result.pieces], len(samples) / SAMPLE_RATE)
            for result, samples in zip(results, batch, strict=True)
        ]


def _segment(piece: WhisperPiece) -> Segment:
    return Segment(piece.start, piece.end, piece.text, math.exp(piece.logprob))


class _WhisperProbe(Probe):
    """Encoder and decoder on the first 30 s of an utterance, in English, with timestamps."""

    def __init__(self, model: WhisperModel) -> None:
        self._sessions, self._vocabulary = model.sessions, model.vocabulary

    def encode(self, samples: Samples) -> tuple[Floats, int]:
        """See Probe."""
        features = log_mel(samples[: WINDOW_SECONDS * SAMPLE_RATE], self._sessions.mels)
        encoded = self._sessions.encode([features])
        hidden = encoded.numpy()[0].copy()  # the OrtValue's memory goes with it
        return hidden, len(hidden)

    def decode(self, frames: Floats, valid: int) -> Decoded:
        """See Probe; timestamps are among the tokens, and a step is told by the tokens fed."""
        recorder = _Recorder(self._sessions.decoder(frames[None, :valid]))
        try:
            (said,) = decode_greedily(recorder, ["en"], Rules(self._vocabulary, timestamps=True))
        except NonFiniteOutput:
            return Decoded(steps=tuple(recorder.steps))
        text = self._vocabulary.text(said.tokens)
        return Decoded(tuple(said.tokens), text, tuple(recorder.steps))

    def repeat(self, frames: Floats, steps: Sequence[DecoderStep]) -> tuple[Floats, ...]:
        """See Probe; each step builds on those before, and on the frames given here."""
        decoder = self._sessions.decoder(frames[None])
        try:
            return tuple(decoder(step.fed)[0] for step in steps)
        except NonFiniteOutput:
            return tuple(np.full_like(step.logits, np.nan) for step in steps)


class _Recorder:
    """A decoder that remembers what went in and came out: a `whisper_decoding.Step`."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.steps: list[DecoderStep] = []

    def __call__(self, tokens: Int64) -> Floats:
        """See Step."""
        logits = self._step(tokens)
        # copies: the rules write into the logits
        self.steps.append(DecoderStep(tokens.copy(), logits[0].copy()))
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See Step."""
        self._step.keep(rows)


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
