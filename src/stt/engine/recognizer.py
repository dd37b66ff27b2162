"""A recogniser turns utterances into segments. One is loaded by walking the precision selector."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stt.engine import sessions
from stt.engine.folder import ModelFolder
from stt.engine.precision import Known, choose
from stt.engine.sessions import Share, running_graphs, share_of
from stt.errors import ModelError
from stt.models.ctc import greedy_ctc
from stt.models.onnx_asr_edge import (
    CtcModel,
    TdtModel,
    WhisperModel,
    encode_batch,
    load_ctc,
    load_tdt,
    load_whisper,
)
from stt.models.redecoding import redecoded
from stt.models.tdt import Emission, until_next
from stt.models.whisper import WhisperPiece, transcribe
from stt.models.whisper_decoding import Rules
from stt.models.whisper_session import WINDOW_SECONDS
from stt.text import words
from stt.text.words import lengthened
from stt.transcript import Choice, Segment, Token

Samples = npt.NDArray[np.float32]

Speech = Sequence[float]
"""Probability of speech of each frame of 512 samples of an utterance."""

TRAILING_SILENCE = 8_000
"""Samples (0.5 s) of silence after each utterance: without it a transducer that hears speech run to
the very end often drops the last word. Never before it: that moves the first."""
_HASTY_WINDOW_S = 10.0
"""Seconds that Whisper encodes at least in a hurry: as good as 30, and faster (docs/live.md)."""
_MIN_SAMPLES = 1_600
"""An utterance shorter than 0.1 s has too few feature frames for the encoder's subsampling."""


class Recognizer(Protocol):
    """What the pipeline needs of a loaded model."""

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        ...

    @property
    def streams(self) -> int:
        """How many threads may call `recognize` at once, to good purpose."""
        ...

    @property
    def tells_words(self) -> bool:
        """Whether it tells when each word was said."""
        ...

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise float32 [n] utterances at 16 kHz.

        Args:
            batch: the utterances.
            speech: what the VAD heard of each; none, or empty ones, where it did not listen.

        Returns:
            For each utterance its segments, in seconds from the utterance's own start.

        Raises:
            NonFiniteOutput: the model's output for one of them cannot be read.
        """
        ...


class TokenRecognizer(ABC):
    """Models that give tokens on a grid of encoder frames."""

    tells_words = True

    def __init__(self, model: TdtModel | CtcModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        self._streams = streams
        self._pieces = model.pieces
        self._frame_s = model.frame_s
        self._provider = model.provider

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._provider

    @property
    def streams(self) -> int:
        """See Recognizer."""
        return self._streams

    @abstractmethod
    def decode(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Emission]]:
        """Decode utterances, float32 [n] at 16 kHz, exactly as given; `speech`: see Recognizer."""

    def emissions(self, samples: Samples) -> list[Emission]:
        """Decode one utterance, float32 [n] at 16 kHz, exactly as given."""
        return self.decode([samples])[0]

    def tokens(self, samples: Samples) -> list[Token]:
        """Recognise one utterance, float32 [n] at 16 kHz, exactly as given."""
        return [self._token(emission) for emission in self.emissions(samples)]

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise utterances; see Recognizer."""
        with running_graphs():
            decoded = self.decode([_padded(samples) for samples in batch], speech)
        return [
            self._segments(emissions, samples)
            for emissions, samples in zip(decoded, batch, strict=True)
        ]

    def _token(self, emission: Emission) -> Token:
        e = emission
        return Token(e.id, self._pieces[e.id], e.frame, e.duration, e.logprob, e.recovered)

    def _segments(self, emissions: Sequence[Emission], samples: Samples) -> list[Segment]:
        tokens = [token for token in map(self._token, emissions) if not _is_special(token.text)]
        seconds = len(samples) / 16_000
        spoken = words.words(tokens, self._frame_s, 0.0, seconds)
        return words.segments(lengthened(words.refined(spoken, samples), seconds))


class TdtRecognizer(TokenRecognizer):
    """Transducers: Parakeet TDT and its relatives, and plain ones (RNN-T)."""

    def __init__(self, model: TdtModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        super().__init__(model, streams)
        self._model = model
        self._word_starts = frozenset(i for i, p in model.pieces.items() if p.startswith(" "))
        self.near_ties = 0
        """Decisions so far that rounding may have made, see `label_looping.NEAR`; counted where
        the decoder_joint is in parts."""
        self._counting = Lock()

    def decode(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Emission]]:
        """Decode all together; see TokenRecognizer."""
        frames = encode_batch(self._model, batch)
        decoded = redecoded(
            self._model.decode(frames),
            frames,
            speech,
            self._model.decode,
            frame_s=self._frame_s,
            word_starts=self._word_starts,
        )
        with self._counting:
            self.near_ties += sum(decoding.near_ties for decoding in decoded)
        found = [decoding.emissions for decoding in decoded]
        if self._model.vocabulary.durations:
            return found
        return [until_next(e, len(f)) for e, f in zip(found, frames, strict=True)]


class CtcRecognizer(TokenRecognizer):
    """CTC models: all frames of an utterance at once."""

    def __init__(self, model: CtcModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        super().__init__(model, streams)
        self._model = model

    def decode(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Emission]]:
        """Decode one utterance after the other; see TokenRecognizer."""
        return [greedy_ctc(f, self._model.blank) for f in encode_batch(self._model, batch)]


class WhisperRecognizer:
    """Whisper: English by default, timed segments without words."""

    tells_words = False

    def __init__(
        self,
        model: WhisperModel,
        window_s: float = WINDOW_SECONDS,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`window_s` and `interrupted` as for `whisper.transcribe`."""
        self._model, self._window_s, self._interrupted = model, window_s, interrupted

    def hasty(self, interrupted: Callable[[], bool]) -> WhisperRecognizer:
        """Return one of the same model that encodes no more silence than it needs.

        While `interrupted()`, its `recognize` raises `whisper_decoding.Interrupted`.
        """
        return WhisperRecognizer(self._model, _HASTY_WINDOW_S, interrupted)

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._model.provider

    @property
    def english_only(self) -> bool:
        """Whether it writes English whatever is spoken."""
        return not self._model.vocabulary.languages

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
            lengthened([_segment(piece) for piece in result.pieces], len(samples) / 16_000)
            for result, samples in zip(results, batch, strict=True)
        ]


def _segment(piece: WhisperPiece) -> Segment:
    return Segment(piece.start, piece.end, piece.text, math.exp(piece.logprob))


def _padded(samples: Samples) -> Samples:
    silence = max(TRAILING_SILENCE, _MIN_SAMPLES - len(samples))
    return np.concatenate([samples, np.zeros(silence, np.float32)])


def _is_special(piece: str) -> bool:
    """Tell control tokens such as <unk> and <|nospeech|>, which are no text."""
    return piece.startswith("<") and piece.endswith(">")


def load_recognizer(
    folder: ModelFolder,
    *,
    precision: str = "auto",
    provider: str = "auto",
    threads: int = 0,
    strict: bool = False,
    auto_int8: bool = False,
    jobs: int | None = None,
) -> tuple[Recognizer, Choice]:
    """Load a model in the best precision on the best provider that really work.

    `strict` and `auto_int8` are `precision.choose`'s; `jobs`: so many utterances a CPU's cores work
    on side by side, 0 for as many as is fastest; None: all on one.

    Raises:
        ModelError: no precision loads, or `strict` forbids what would.
        ProviderError: the provider asked for by name cannot be had.
    """
    import onnxruntime

    folder.check_vocabulary()
    if provider != "cpu":
        sessions.preload(onnxruntime)
    candidates = sessions.to_try(provider, onnxruntime.get_available_providers())
    note = ""
    for candidate in candidates:
        try:
            recognizer, choice = _load_on(
                candidate,
                folder,
                precision=precision,
                threads=threads,
                strict=strict,
                auto_int8=auto_int8,
                jobs=jobs,
            )
        except ModelError as error:
            if candidate == candidates[-1]:
                raise
            note = f"; {candidate} passed over: {error}"
            continue
        if recognizer.provider == candidate:
            return recognizer, Choice(choice.precision, candidate, choice.reason + note)
        if provider != "auto":
            raise sessions.not_running(provider, recognizer.provider)
        note = f"; {candidate} passed over: ONNX Runtime lists it but could not start it"
    raise ModelError(f"{folder.path}: ran on no provider{note}")


_LOADERS: Mapping[str, Callable[[ModelFolder, str, str, Share], Recognizer]] = {
    "nemo-conformer-tdt": lambda f, p, on, s: TdtRecognizer(load_tdt(f, p, on, s.each), s.streams),
    "nemo-conformer-rnnt": lambda f, p, on, s: TdtRecognizer(load_tdt(f, p, on, s.each), s.streams),
    "nemo-conformer-ctc": lambda f, p, on, s: CtcRecognizer(load_ctc(f, p, on, s.each), s.streams),
    "whisper": lambda f, p, on, s: WhisperRecognizer(load_whisper(f, p, on, s.whole)),
}
"""Kind of model -> (folder, precision, provider, threads) -> recogniser."""


def _load_on(
    provider: str,
    folder: ModelFolder,
    *,
    precision: str,
    threads: int,
    strict: bool,
    auto_int8: bool,
    jobs: int | None,
) -> tuple[Recognizer, Choice]:
    """Try precisions in the selector's order until one loads."""
    share = Share(threads, threads)
    if jobs is not None and provider == "cpu":
        share = share_of(threads, jobs)
    failed: dict[str, str] = {}
    known = Known.of(folder, provider, failed)
    while True:
        try:
            choice = choose(precision, known, strict=strict, auto_int8=auto_int8)
        except ModelError as error:
            raise ModelError(f"{folder.path}: {error}") from error
        try:
            return _LOADERS[folder.kind](folder, choice.precision, provider, share), choice
        except ModelError as error:
            failed[choice.precision] = f"did not load ({error})"
