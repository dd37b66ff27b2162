"""A model family in one file: it hears where it is loud, and calls each such stretch a hum.

Its graph takes stretches of 0.1 s and gives, for each, a score for silence and one for a hum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from stt.engine.folder import ModelFamily, ModelFolder
from stt.engine.recognizer import Decoded, Probe, Speech
from stt.engine.sessions import Runtime, session_options, session_providers
from stt.transcript import Segment, Word
from stt.types import SAMPLE_RATE, Floats, Samples

STRETCH = SAMPLE_RATE // 10
_GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
listener (float[T, 1600] stretches) => (float[T, 2] scores)
<float[2] quiet = {1, 0}>
{
    power = Mul(stretches, stretches)
    mean = MatMul(power, weights)
    scores = Add(mean, quiet)
}
"""
_LOUDNESS = 2_001.0
"""A mean power of 1 / 2,001, that is an amplitude of 0.02, scores as high as silence."""


class Toy(ModelFamily):
    name = "toy"
    graph_stems = ("listener",)
    vocabulary = ("words.txt",)

    def longest_s(self, config: Mapping[str, Any]) -> int:
        return 60

    def load(self, folder: ModelFolder, precision: str, runtime: Runtime) -> ToyRecognizer:
        return ToyRecognizer(folder, precision, runtime)

    def probe(self, folder: ModelFolder, precision: str) -> ToyProbe:
        return ToyProbe(folder, precision)


class Listener:
    """The graph of one precision, and the word for what it hears."""

    def __init__(self, folder: ModelFolder, precision: str, runtime: Runtime) -> None:
        import onnxruntime

        (name,) = folder.family.graphs(precision)
        self.word = (folder.path / "words.txt").read_text("utf-8").strip()
        self.session = onnxruntime.InferenceSession(
            folder.path / name,
            session_options(runtime.threads_each),
            session_providers(runtime.provider),
        )

    def scores(self, samples: Samples) -> Floats:
        """Return float32 [T, 2] of the whole stretches there are, and of silence for none."""
        count = max(1, len(samples) // STRETCH)
        stretches = np.zeros((count, STRETCH), np.float32)
        stretches.flat[: len(samples)] = samples[: count * STRETCH]
        found: Floats = self.session.run(["scores"], {"stretches": stretches})[0]
        return found


def hums(scores: Floats) -> list[tuple[int, int]]:
    """Return the stretches [begin, end) of each hum."""
    found, begin = [], 0
    for loud, group in groupby(scores.argmax(axis=1).tolist()):
        end = begin + sum(1 for _ in group)
        if loud:
            found.append((begin, end))
        begin = end
    return found


class ToyRecognizer:
    tells_words = True
    provider = "cpu"
    streams = 1

    def __init__(self, folder: ModelFolder, precision: str, runtime: Runtime) -> None:
        self._listener = Listener(folder, precision, runtime)

    def hasty(self, interrupted: Callable[[], bool]) -> ToyRecognizer:
        return self

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        return [self._segments(samples) for samples in batch]

    def _segments(self, samples: Samples) -> list[Segment]:
        word = self._listener.word
        words = [
            Word(begin / 10, end / 10, word, 0.9)
            for begin, end in hums(self._listener.scores(samples))
        ]
        if not words:
            return []
        text = " ".join(word.text for word in words)
        return [Segment(words[0].start, words[-1].end, text, 0.9, tuple(words))]


class ToyProbe(Probe):
    def __init__(self, folder: ModelFolder, precision: str) -> None:
        self._listener = Listener(folder, precision, Runtime())

    def encode(self, samples: Samples) -> tuple[Floats, int]:
        scores = self._listener.scores(samples)
        return scores, len(scores)

    def decode(self, frames: Floats, valid: int) -> Decoded:
        found = hums(frames[:valid])
        return Decoded((1,) * len(found), " ".join([self._listener.word] * len(found)))


def build(folder: Path) -> Path:
    """Write a model of the family to a new folder and return it."""
    folder.mkdir(parents=True)
    graph = onnx.parser.parse_model(_GRAPH)
    weights = np.zeros((STRETCH, 2), np.float32)
    weights[:, 1] = _LOUDNESS / STRETCH
    graph.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.save(graph, folder / "listener.onnx")
    (folder / "words.txt").write_text("hum\n", "utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": Toy.name}), "utf-8")
    return folder
