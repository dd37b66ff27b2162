"""The family of transducers: Parakeet TDT and its relatives, and plain ones (RNN-T)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stt.engine.folder import ModelFolder, plain
from stt.engine.recognizer import Decoded, DecoderStep, Feed, PartsProbe, Probe, Recognizer, Speech
from stt.engine.sessions import Runtime
from stt.errors import ModelError, NonFiniteOutput
from stt.models.nemo import NemoFamily, TokenRecognizer, encode_batch
from stt.models.onnx_asr_edge import TdtModel, load_tdt, usable
from stt.models.redecoding import redecoded
from stt.models.split_transducer import (
    LstmState,
    SplitTransducer,
    joint_feed,
    load_parts,
    load_step,
)
from stt.models.tdt import Emission, greedy_tdt, until_next
from stt.types import Floats, Samples


@dataclass(frozen=True)
class Transducer(NemoFamily):
    """Encoder, and prediction network with joint in one graph, which is taken apart as well."""

    name: str
    durations: tuple[int, ...]
    """Frames it may move on after a token; none for a plain transducer."""
    graph_stems = ("encoder-model", "decoder_joint-model")
    part_stems = ("prediction-model", "encoder_projection-model", "joint-model")
    step_stem = "decoding_step-model"

    @property
    def step_durations(self) -> int:
        """See ModelFamily."""
        return len(self.durations)

    def load(self, folder: ModelFolder, precision: str, runtime: Runtime) -> Recognizer:
        """See ModelFamily."""
        model = load_tdt(folder, precision, runtime, self.durations)
        return TdtRecognizer(model, runtime.streams)

    def probe(self, folder: ModelFolder, precision: str) -> Probe:
        """See ModelFamily."""
        model = load_tdt(folder, precision, Runtime(), self.durations)
        return _TransducerProbe(folder, precision, model)


class TdtRecognizer(TokenRecognizer):
    """A transducer with what it takes from frames to segments."""

    def __init__(self, model: TdtModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        super().__init__(model, streams)
        self._model = model
        self._word_starts = frozenset(i for i, p in model.pieces.items() if p.startswith(" "))

    def decode(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Emission]]:
        """Decode all together; see TokenRecognizer."""
        frames = encode_batch(self._model, batch, self._room)
        decoded = redecoded(
            self._model.decode(frames),
            frames,
            speech,
            self._model.decode,
            frame_s=self._frame_s,
            word_starts=self._word_starts,
        )
        found = [decoding.emissions for decoding in decoded]
        if self._model.vocabulary.durations:
            return found
        return [until_next(e, len(f)) for e, f in zip(found, frames, strict=True)]


class _TransducerProbe(Probe):
    """The decoder_joint as a whole, a token at a time, as onnx-asr does it."""

    def __init__(self, folder: ModelFolder, precision: str, model: TdtModel) -> None:
        self._folder, self._precision, self._model = folder, precision, model

    def encode(self, samples: Samples) -> tuple[Floats, int]:
        """See Probe."""
        return self._model.encode_all(samples)

    def decode(self, frames: Floats, valid: int) -> Decoded:
        """See Probe; a step is told by last token, state and frame."""
        model, steps = self._model, list[DecoderStep]()

        def step(last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
            logits, after = model.step(last, state, frame)
            steps.append(DecoderStep((last, state, frame), logits))
            return logits, after

        try:
            real = usable(frames, valid)
            emissions = greedy_tdt(step, model.initial_state(), real, model.vocabulary)
        except NonFiniteOutput:
            emissions = []
        return _decoded(emissions, model, tuple(steps))

    def repeat(self, frames: Floats, steps: Sequence[DecoderStep]) -> tuple[Floats, ...]:
        """See Probe; the other precision's frames are fed, so that the joint is judged alone."""
        del frames
        return tuple(self._model.logits(*step.fed)[0] for step in steps)

    def encoder_feed(self, samples: Samples) -> Feed:
        """See Probe."""
        return self._model.feed(samples)

    def decoder_feed(self, step: DecoderStep) -> Feed:
        """See Probe."""
        return joint_feed(*step.fed)

    def in_parts(self) -> PartsProbe:
        """See Probe."""
        parts = load_parts(self._folder, self._precision, Runtime())
        if parts is None:
            raise ModelError(f"{self._folder.path}: has no parts for {self._precision}")
        return _SplitProbe(parts, replace(self._model, split=parts))

    def in_one_step(self) -> PartsProbe:
        """See Probe."""
        precision = plain(self._precision)
        parts = load_parts(self._folder, precision, Runtime())
        if parts is None:
            raise ModelError(f"{self._folder.path}: has no parts for {precision}")
        rounds = load_step(self._folder, precision, Runtime())
        return _SplitProbe(parts, replace(self._model, split=parts, rounds=rounds))


class _SplitProbe:
    """A transducer that decodes in parts: a PartsProbe."""

    def __init__(self, parts: SplitTransducer, model: TdtModel) -> None:
        self._parts, self._model = parts, model

    def decode(self, batch: Sequence[Floats]) -> list[Decoded]:
        """See PartsProbe."""
        return [
            replace(_decoded(one.emissions, self._model), near_ties=one.near_ties)
            for one in self._model.decode(batch)
        ]

    def logits(self, step: DecoderStep) -> Floats:
        """See PartsProbe."""
        return np.asarray(self._parts.step(*step.fed)[0])


def _decoded(
    emissions: Sequence[Emission], model: TdtModel, steps: tuple[DecoderStep, ...] = ()
) -> Decoded:
    tokens = tuple(emission.id for emission in emissions)
    text = "".join(model.pieces.get(token, "") for token in tokens)
    places = tuple((emission.frame, emission.duration) for emission in emissions)
    return Decoded(tokens, text, steps, places)
