"""What a model family gives: a recogniser for utterances, and a probe for the proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from stt.errors import ModelError
from stt.transcript import Segment
from stt.types import Floats, Samples

Speech = Sequence[float]
"""Probability of speech of each frame of 512 samples of an utterance."""

Feed = dict[str, npt.NDArray[Any]]
"""Inputs of a graph by name."""

TRAILING_SILENCE = 8_000
"""Samples (0.5 s) of silence after each utterance: without it a transducer that hears speech run to
the very end often drops the last word. Never before it: that moves the first."""


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """The result is not wanted any more."""


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

    def hasty(self, interrupted: Callable[[], bool]) -> Recognizer:
        """Return one of the same model for live recognition, which computes no more than it needs.

        While `interrupted()`, its `recognize` may raise Interrupted.
        """
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


@dataclass(frozen=True, slots=True)
class DecoderStep:
    """One run of the graph behind the encoder."""

    fed: Any
    """What its family needs to run it again."""
    logits: Floats
    """What came out, float32 [outputs]."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was decoded of one utterance."""

    tokens: tuple[int, ...] = ()
    """Empty also where the model gave NaN or infinity."""
    text: str = ""
    steps: tuple[DecoderStep, ...] = ()
    """In order; none where there is no graph behind the encoder."""
    places: tuple[tuple[int, int], ...] = ()
    """(encoder frame, duration in frames) of each token, where the family tells them."""
    near_ties: int = 0
    """Decisions that rounding may have made, where they are counted."""


class Probe(ABC):
    """One precision's files, loaded on the CPU to be held against another's."""

    @abstractmethod
    def encode(self, samples: Samples) -> tuple[Floats, int]:
        """Return the encoder's frames, float32 [T, D], and how many the model says are real."""

    @abstractmethod
    def decode(self, frames: Floats, valid: int) -> Decoded:
        """Decode what `encode` gave of one utterance."""

    def repeat(self, frames: Floats, steps: Sequence[DecoderStep]) -> tuple[Floats, ...]:
        """Return the logits given here for the inputs of another precision's steps, in their order.

        Args:
            frames: what `encode` gave here of the utterance they are of.
            steps: all of one utterance, from its first.
        """
        del frames
        if steps:
            raise ModelError("this model has no steps to repeat")
        return ()

    def encoder_feed(self, samples: Samples) -> Feed:
        """Return the inputs of the first graph for an utterance."""
        raise ModelError("the inputs of this model's graphs are not known")

    def decoder_feed(self, step: DecoderStep) -> Feed:
        """Return the inputs of the second graph in a step."""
        raise ModelError("the inputs of this model's graphs are not known")

    def in_parts(self) -> PartsProbe:
        """Load the second graph in parts, see `ModelFamily.parts`.

        Raises:
            ModelError: it has none, or they do not load.
        """
        raise ModelError("this model has no parts")

    def in_one_step(self) -> PartsProbe:
        """Load a round of the decoder as one graph, see `ModelFamily.step_stem`.

        Raises:
            ModelError: it has none, or it does not load.
        """
        raise ModelError("this model decodes in no rounds")


class PartsProbe(Protocol):
    """A decoder in parts, to be held against the whole one."""

    def decode(self, batch: Sequence[Floats]) -> list[Decoded]:
        """Decode encoder frames, float32 [T, D] of each utterance, together."""
        ...

    def logits(self, step: DecoderStep) -> Floats:
        """Return the logits for the inputs of one step of the whole decoder, float32 [outputs]."""
        ...


def recognizing_pool(recognizer: Recognizer) -> ThreadPoolExecutor:
    """Return as many threads as it is good for; to be closed."""
    return ThreadPoolExecutor(recognizer.streams, "recognizer")
