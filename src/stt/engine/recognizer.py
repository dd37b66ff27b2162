"""A recogniser turns utterances into segments. One is loaded by walking the precision selector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stt import words
from stt.engine import providers
from stt.engine.onnx_asr_models import TdtModel, WhisperModel, load_tdt, load_whisper
from stt.engine.precision import choose
from stt.engine.tdt import greedy_tdt
from stt.engine.whisper import transcribe
from stt.engine.whisper_rules import Rules
from stt.errors import ModelError
from stt.models.folder import ModelFolder
from stt.transcript import Choice, Segment, Token

Samples = npt.NDArray[np.float32]

TRAILING_SILENCE = 8_000
"""Samples (0.5 s) of silence after each utterance: without it a transducer that hears speech run to
the very end often drops the last word. Never before it: that moves the first."""
_MIN_SAMPLES = 1_600
"""An utterance shorter than 0.1 s has too few feature frames for the encoder's subsampling."""


class Recognizer(Protocol):
    """What the pipeline needs of a loaded model."""

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        ...

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        """Recognise float32 [n] utterances at 16 kHz.

        Returns:
            For each utterance its segments, in seconds from the utterance's own start.
        """
        ...


class TdtRecognizer:
    """Parakeet and its relatives."""

    def __init__(self, model: TdtModel) -> None:
        self._model = model

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._model.provider

    def tokens(self, samples: Samples) -> list[Token]:
        """Recognise one utterance, float32 [n] at 16 kHz, exactly as given."""
        model = self._model
        frames = model.encode(samples)
        emissions = greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary)
        return [Token(e.id, model.pieces[e.id], e.frame, e.duration, e.logprob) for e in emissions]

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        """Recognise utterances one by one; see Recognizer."""
        return [self._recognize(samples) for samples in batch]

    def _recognize(self, samples: Samples) -> list[Segment]:
        silence = max(TRAILING_SILENCE, _MIN_SAMPLES - len(samples))
        padded = np.concatenate([samples, np.zeros(silence, np.float32)])
        tokens = [token for token in self.tokens(padded) if not _is_special(token.text)]
        limit_s = len(samples) / 16_000
        return words.segments(words.words(tokens, self._model.frame_s, 0.0, limit_s))


class WhisperRecognizer:
    """Whisper: English by default, timed segments without words."""

    def __init__(self, model: WhisperModel) -> None:
        self._model = model

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._model.provider

    def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
        """Recognise utterances of at most 30 s together; see Recognizer."""
        model = self._model
        rules = Rules(model.vocabulary, timestamps=True)
        results = transcribe(
            batch, model.sessions.start, rules, mels=model.sessions.mels, batch=len(batch)
        )
        return [
            [Segment(p.start, p.end, p.text, math.exp(p.logprob)) for p in result.pieces]
            for result in results
        ]


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
) -> tuple[Recognizer, Choice]:
    """Load a model in the best precision on the best provider that really work.

    Raises:
        ModelError: no precision loads, or `strict` forbids what would.
        ProviderError: the provider asked for by name cannot be had.
    """
    import onnxruntime

    loaders: dict[str, Callable[[ModelFolder, str, str, int], Recognizer]] = {
        "nemo-conformer-tdt": lambda *args: TdtRecognizer(load_tdt(*args)),
        "whisper": lambda *args: WhisperRecognizer(load_whisper(*args)),
    }
    load = loaders[folder.kind]
    if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries of installed wheels
    candidates = providers.to_try(provider, onnxruntime.get_available_providers())
    note = ""
    for candidate in candidates:
        try:
            recognizer, choice = _load_on(
                candidate, load, folder, precision=precision, threads=threads, strict=strict
            )
        except ModelError as error:
            if candidate == candidates[-1]:
                raise
            note = f"; {candidate} passed over: {error}"
            continue
        if recognizer.provider == candidate:
            return recognizer, Choice(choice.precision, candidate, choice.reason + note)
        if provider != "auto":
            raise providers.not_running(provider, recognizer.provider)
        note = f"; {candidate} passed over: ONNX Runtime lists it but could not start it"
    raise ModelError(f"{folder.path}: ran on no provider{note}")


def _load_on(
    provider: str,
    load: Callable[[ModelFolder, str, str, int], Recognizer],
    folder: ModelFolder,
    *,
    precision: str,
    threads: int,
    strict: bool,
) -> tuple[Recognizer, Choice]:
    """Try precisions in the selector's order until one loads."""
    failed: dict[str, str] = {}
    while True:
        try:
            choice = choose(
                precision, provider, folder.problems, folder.measured, failed, strict=strict
            )
        except ModelError as error:
            raise ModelError(f"{folder.path}: {error}") from error
        try:
            return load(folder, choice.precision, provider, threads), choice
        except ModelError as error:
            failed[choice.precision] = f"did not load ({error})"
