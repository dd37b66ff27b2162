"""The family of transducers: Parakeet TDT and its relatives, and plain ones (RNN-T).

What the decoder passed over although somebody spoke is decoded again. A prediction network can be
left in a state from which the joint answers every frame with blank: after a sentence's end and a
pause, sparse soft speech then decodes to nothing (54 of 137 s were reported lost so;
hyperaudio-lite-editor #671). The encoder's frames of such a stretch are good, and a prediction
network that starts anew reads them. So the stretch is decoded once more from the start state, and
what comes of it is kept where it is probable. CTC and Whisper have no such state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stt.audio.vad import FRAME
from stt.engine.folder import ModelFolder, plain
from stt.engine.recognizer import Decoded, DecoderStep, Feed, PartsProbe, Probe, Recognizer, Speech
from stt.engine.sessions import Runtime
from stt.engine.stages import Stages
from stt.errors import ModelError, NonFiniteOutput
from stt.models.card_decoder import load_card_decoder
from stt.models.label_looping import Decoding
from stt.models.nemo import NemoFamily, TokenRecognizer, encoding
from stt.models.nemo_graphs import Group, usable
from stt.models.onnx_asr_edge import Frames, TdtModel, load_tdt
from stt.models.split_transducer import (
    LstmState,
    SplitTransducer,
    joint_feed,
    load_parts,
)
from stt.models.tdt import Emission, greedy_tdt, until_next
from stt.types import SAMPLE_RATE, Floats, Samples

Decode = Callable[[Sequence[Frames]], Sequence[Decoding]]
"""Encoder frames of each utterance -> what they say, from the start state."""

SPOKEN_S = 3.0
"""Seconds of speech without a token that are decoded again."""
LEAST_LOGPROB = math.log(0.5)
"""Mean logarithm of probability from which what was decoded again is kept."""
_SPEECH = 0.5
"""Probability above which a frame is speech; just this is told where nobody has listened."""
_SAME_WORD = 3
"""Frames before a token within which the same one, decoded again, is that token heard early."""


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

    def decoding(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> Stages[list[list[Emission]]]:
        """Decode all together; see TokenRecognizer."""
        encoded = yield from encoding(self._model, batch, self._room)
        yield
        return self._model.working(lambda: self._decoded(encoded, speech))

    def _decoded(self, encoded: Sequence[Group], speech: Sequence[Speech]) -> list[list[Emission]]:
        frames = self._model.frames(encoded)
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


@dataclass(frozen=True, slots=True)
class _Gap:
    """Encoder frames [begin, end) of an utterance that gave no token."""

    row: int
    begin: int
    end: int
    place: int
    """How many of the utterance's tokens come before it; never 0: the start state was tried."""


def redecoded(
    decoded: Sequence[Decoding],
    frames: Sequence[Frames],
    speech: Sequence[Sequence[float]],
    decode: Decode,
    *,
    frame_s: float,
    word_starts: Collection[int] = (),
) -> list[Decoding]:
    """Decode again what gave no token for more than `SPOKEN_S` seconds of speech.

    Args:
        decoded: what was made of each utterance of a batch.
        frames: the encoder's frames of each.
        speech: probability of speech of each 512 samples of each utterance, as the VAD heard it;
            empty, or of an utterance empty, where nobody listened: nothing is done then.
        decode: decodes frames from the start state.
        frame_s: seconds per encoder frame.
        word_starts: ids of tokens that begin a word; a stretch's first words begin with one.

    Returns:
        The same with the tokens that were found in addition, marked `recovered`, in their places.

    Raises:
        NonFiniteOutput: NaN or infinity in logits; its `index` is the utterance's.
    """
    made = [Decoding(list(one.emissions), one.near_ties) for one in decoded]
    tried: set[tuple[int, int]] = set()
    while gaps := [
        gap
        for row, heard in enumerate(speech)
        for gap in _gaps(row, made[row].emissions, len(frames[row]), heard, frame_s)
        if (row, gap.begin) not in tried
    ]:
        tried |= {(gap.row, gap.begin) for gap in gaps}
        again = _decoded_anew([frames[gap.row][gap.begin : gap.end] for gap in gaps], gaps, decode)
        for gap, one in reversed(list(zip(gaps, again, strict=True))):
            emissions = made[gap.row].emissions
            found = _believed(one.emissions, gap, emissions[gap.place :], word_starts)
            emissions[gap.place : gap.place] = found
            if found:
                ties = made[gap.row].near_ties + one.near_ties
                made[gap.row] = Decoding(emissions, ties)
    return made


def _decoded_anew(
    stretches: Sequence[Frames], gaps: Sequence[_Gap], decode: Decode
) -> Sequence[Decoding]:
    try:
        return decode(stretches)
    except NonFiniteOutput as error:
        error.index = gaps[error.index].row
        raise


def _gaps(
    row: int, emissions: Sequence[Emission], frames: int, heard: Sequence[float], frame_s: float
) -> list[_Gap]:
    """Return the stretches behind tokens that hold more than `SPOKEN_S` seconds of speech."""
    gaps = []
    ends = [emission.frame for emission in emissions[1:]] + [frames]
    for place, (emission, end) in enumerate(zip(emissions, ends, strict=False), start=1):
        begin = emission.frame + max(emission.duration, 1)
        if (end - begin) * frame_s <= SPOKEN_S:
            continue
        first, last = (round(f * frame_s * SAMPLE_RATE / FRAME) for f in (begin, end))
        spoken = sum(probability > _SPEECH for probability in heard[first:last])
        if spoken * FRAME / SAMPLE_RATE > SPOKEN_S:
            gaps.append(_Gap(row, begin, end, place))
    return gaps


def _believed(
    emissions: Sequence[Emission],
    gap: _Gap,
    following: Sequence[Emission],
    word_starts: Collection[int],
) -> list[Emission]:
    """Return the tokens found in a gap at their frames of the utterance; none if improbable."""
    first = next((i for i, e in enumerate(emissions) if e.id in word_starts), 0)
    found = [replace(e, frame=e.frame + gap.begin, recovered=True) for e in emissions[first:]]
    while found and following and _heard_early(found[-1], following[0]):
        found.pop()
    if not found or sum(e.logprob for e in found) / len(found) < LEAST_LOGPROB:
        return []
    return found


def _heard_early(one: Emission, following: Emission) -> bool:
    return one.id == following.id and following.frame - one.frame <= _SAME_WORD


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
        card = load_card_decoder(self._folder, precision, Runtime())
        return _SplitProbe(parts, replace(self._model, split=parts, card=card))


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
