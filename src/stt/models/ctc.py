"""The family of connectionist temporal classification (CTC): a token for every frame at once.

The likeliest output of each frame is taken; a run of the same token is that token once, and blanks
are none (Graves et al. 2006). A blank between two runs of one token makes them two tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stt.engine.folder import ModelFolder
from stt.engine.recognizer import Decoded, Feed, Probe, Recognizer, Speech
from stt.engine.sessions import Runtime
from stt.engine.stages import Stages
from stt.errors import NonFiniteOutput
from stt.models.nemo import NemoFamily, TokenRecognizer, encoding
from stt.models.nemo_graphs import usable, usable_frames
from stt.models.onnx_asr_edge import CtcModel, load_ctc
from stt.models.tdt import Emission, logprob
from stt.types import Floats, Samples


class Ctc(NemoFamily):
    """One graph from features to the tokens of every frame."""

    name = "nemo-conformer-ctc"
    graph_stems = ("model",)

    def load(self, folder: ModelFolder, precision: str, runtime: Runtime) -> Recognizer:
        """See ModelFamily."""
        return CtcRecognizer(load_ctc(folder, precision, runtime), runtime.streams)

    def probe(self, folder: ModelFolder, precision: str) -> Probe:
        """See ModelFamily."""
        return _CtcProbe(load_ctc(folder, precision, Runtime()))


class CtcRecognizer(TokenRecognizer):
    """A CTC model with what it takes from frames to segments."""

    def __init__(self, model: CtcModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        super().__init__(model, streams)
        self._model = model

    def decoding(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> Stages[list[list[Emission]]]:
        """Decode one utterance after the other; see TokenRecognizer."""
        encoded = yield from encoding(self._model, batch, self._room)
        yield
        return [greedy_ctc(frames, self._model.blank) for frames in usable_frames(encoded)]


class _CtcProbe(Probe):
    """A CTC model: there is nothing behind its one graph."""

    def __init__(self, model: CtcModel) -> None:
        self._model = model

    def encode(self, samples: Samples) -> tuple[Floats, int]:
        """See Probe."""
        return self._model.encode_all(samples)

    def decode(self, frames: Floats, valid: int) -> Decoded:
        """See Probe."""
        try:
            emissions = greedy_ctc(usable(frames, valid), self._model.blank)
        except NonFiniteOutput:
            return Decoded()
        tokens = tuple(emission.id for emission in emissions)
        return Decoded(tokens, "".join(self._model.pieces.get(token, "") for token in tokens))

    def encoder_feed(self, samples: Samples) -> Feed:
        """See Probe."""
        return self._model.feed(samples)


def greedy_ctc(frames: Floats, blank: int) -> list[Emission]:
    """Decode one utterance.

    Args:
        frames: logits or log-probabilities, float32 [T, V], padding already removed.
        blank: id of the blank.

    Returns:
        The tokens in order. One begins where its run begins, lasts as long as the run, and has the
        probability of the run's best frame: the others only lead to it and away from it.
    """
    emissions: list[Emission] = []
    start = 0
    for token, group in groupby(frames.argmax(axis=-1).tolist()):
        length = sum(1 for _ in group)
        if token != blank:
            run = frames[start : start + length]
            best = max(logprob(frame, token) for frame in run)
            emissions.append(Emission(token, start, length, best))
        start += length
    return emissions
