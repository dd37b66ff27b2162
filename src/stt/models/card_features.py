"""NeMo's log-mel features as a graph, for a card: what `nemo_features` computes, to rounding.

onnx-asr's own graph has a `Conv`, of which CUDA builds a plan for every length, and on CUDA a
product of floats may be one of TensorFloat-32, whose 11 bits lose the quiet bands. Here frames are
slices of the samples, the transform is a product with a matrix, and products and sums are in
double precision, which also keeps a band without sound at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from stt.engine import bound
from stt.engine.folder import ModelFolder
from stt.engine.sessions import (
    Runtime,
    load_error,
    runtime_errors,
    session_options,
    session_providers,
)
from stt.models.nemo_features import EPSILON, FFT, GUARD, HOP, PREEMPHASIS, WINDOW, hann_window
from stt.models.nemo_graphs import Features
from stt.types import Floats, Samples

_BLOCK = 80
"""Samples: the greatest number of which both hop and window are multiples."""
_END = np.iinfo(np.int64).max


class CardFeatures:
    """A session of the graph, which leaves the features where it runs."""

    def __init__(self, filters: Floats, runtime: Runtime) -> None:
        """`filters`: of the mel bands, float32 [257 bins, mels]."""
        from onnxruntime import InferenceSession

        options = session_options(runtime.threads_each)
        providers = session_providers(runtime.provider)
        self._session = InferenceSession(features_graph(filters), options, providers)

    def __call__(self, utterances: Sequence[Samples]) -> Features:
        """Compute the features of float32 [n] utterances at 16 kHz; see `nemo_features`.

        Returns:
            OrtValue float32 [B, mels, longest n // 160 + 1], and int64 [B].
        """
        lengths = np.array([len(samples) for samples in utterances], np.int64)
        frames = lengths // HOP
        padded = np.zeros((len(utterances), int(frames.max()) * HOP + WINDOW), np.float32)
        for row, samples in zip(padded, utterances, strict=True):
            # a frame sees as much before its time as behind it
            row[WINDOW // 2 :][: len(samples)] = samples
        inputs = {"samples": padded, "lengths": lengths, "frames": frames}
        (features,) = bound.run(self._session, inputs, ["features"])
        return features, frames


def load_card_features(folder: ModelFolder, filters: Floats, runtime: Runtime) -> CardFeatures:
    """Load the graph for a model.

    Raises:
        ModelError: it does not load, e.g. for lack of memory.
    """
    refusals = runtime_errors()
    try:
        return CardFeatures(filters, runtime)
    except refusals as error:
        raise load_error(error, folder.path) from error


def features_graph(filters: Floats) -> bytes:
    """Write the graph.

    samples float32 [B, 160 (T - 1) + 400], of which the first 200 are none; lengths int64 [B], of
    the utterances without padding; frames int64 [B], how many of T are an utterance's own.
    features float32 [B, mels, T], zero behind them.
    """
    writer = _Writer()
    writer.emphasise()
    writer.cut()
    writer.transform(np.asarray(filters, np.float64))
    writer.normalise()
    inputs = [
        helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "samples"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("frames", TensorProto.INT64, ["batch"]),
    ]
    shape = ["batch", filters.shape[1], "time"]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(value, name) for name, value in writer.constants.items()]
    graph = helper.make_graph(writer.nodes, "features", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


class _Writer:
    """Nodes and constants of the graph, in order."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def emphasise(self) -> None:
        """Raise high frequencies: `sound` float32, zero where there are no samples."""
        before = self._slice("samples", 1, 0, -1, "before")
        self._node("Mul", [before, self._constant(PREEMPHASIS)], "before/part")
        after = self._slice("samples", 1, 1, _END, "after")
        self._node("Sub", [after, "before/part"], "emphasised/rest")
        first = self._slice("samples", 1, 0, 1, "first")
        self._node("Concat", [first, "emphasised/rest"], "emphasised", axis=1)
        end = self._node("Add", ["lengths", self._constant(np.int64(WINDOW // 2))], "end")
        within = self._before(end, "samples", 1, "within")
        self._node("Where", [within, "emphasised", self._constant(np.float32(0))], "sound")

    def cut(self) -> None:
        """Cut frames: `cut` double [B, T, 400], each frame some of the blocks, two further on."""
        shape = self._constant(np.array([0, -1, _BLOCK]))
        self._node("Reshape", ["sound", shape], "blocks")
        each = WINDOW // _BLOCK
        parts = [
            # as many of each as there are frames
            self._slice("blocks", 1, k, k - each + 2 if k < each - 2 else _END, f"part{k}", step=2)
            for k in range(each)
        ]
        self._node("Concat", parts, "cut/float", axis=2)
        self._node("Cast", ["cut/float"], "cut", to=TensorProto.DOUBLE)

    def transform(self, filters: npt.NDArray[np.float64]) -> None:
        """Logarithms of energies in bands: `logs` double, of float32, [B, T, mels]."""
        bins = FFT // 2 + 1
        angles = 2 * np.pi / FFT * np.outer(np.arange(WINDOW), np.arange(bins))
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        self.constants["waves"] = hann_window()[:, None] * waves
        self._node("MatMul", ["cut", "waves"], "spectrum")
        self._node("Mul", ["spectrum", "spectrum"], "squares")
        # a bin's two squares are summed as its bands are
        self.constants["filters"] = np.concatenate([filters, filters])
        self._node("MatMul", ["squares", "filters"], "energies/double")
        self._node("Cast", ["energies/double"], "energies", to=TensorProto.FLOAT)
        self._node("Add", ["energies", self._constant(GUARD)], "guarded")
        self._node("Log", ["guarded"], "logs/float")
        self._node("Cast", ["logs/float"], "logs", to=TensorProto.DOUBLE)

    def normalise(self) -> None:
        """Give each band mean 0 and deviation 1 over an utterance's own frames: `features`."""
        own = self._before("frames", "logs", 1, "own/frames")
        own = self._node("Unsqueeze", [own, self._constant(np.array([2]))], "own")
        shape, one = self._constant(np.array([-1, 1, 1])), self._constant(np.int64(1))
        self._node("Reshape", ["frames", shape], "frames/column")
        fewer = self._node("Sub", ["frames/column", one], "fewer")
        nothing = self._constant(np.float64(0))
        for name, value in (("count", "frames/column"), ("count/less", fewer)):
            least = self._node("Max", [value, one], f"{name}/least")
            self._node("Cast", [least], name, to=TensorProto.DOUBLE)
        self._node("Where", [own, "logs", nothing], "own/logs")
        self._sum("own/logs", "total")
        self._node("Div", ["total", "count"], "mean")
        self._node("Sub", ["logs", "mean"], "apart/all")
        self._node("Where", [own, "apart/all", nothing], "apart")
        self._node("Mul", ["apart", "apart"], "apart/squares")
        self._sum("apart/squares", "apart/total")
        self._node("Div", ["apart/total", "count/less"], "variance")
        self._node("Sqrt", ["variance"], "deviation")
        self._node("Add", ["deviation", self._constant(np.float64(EPSILON))], "divisor")
        self._node("Div", ["apart", "divisor"], "normal")
        self._node("Cast", ["normal"], "normal/float", to=TensorProto.FLOAT)
        self._node("Transpose", ["normal/float"], "features", perm=[0, 2, 1])

    def _before(self, ends: str, like: str, axis: int, name: str) -> str:
        """Which places along an axis lie before each row's end, bool [B, places]."""
        count = self._node("Shape", [like], f"{name}/shape", start=axis, end=axis + 1)
        number = self._node("Squeeze", [count], f"{name}/count")
        bounds = [self._constant(np.int64(0)), number, self._constant(np.int64(1))]
        places = self._node("Range", bounds, f"{name}/places")
        column = self._node("Unsqueeze", [ends, self._constant(np.array([1]))], f"{name}/ends")
        return self._node("Less", [places, column], name)

    def _sum(self, value: str, name: str) -> str:
        return self._node("ReduceSum", [value, self._constant(np.array([1]))], name, keepdims=1)

    def _slice(
        self, value: str, axis: int, start: int, end: int, name: str, *, step: int = 1
    ) -> str:
        bounds = [self._constant(np.array([one])) for one in (start, end, axis, step)]
        return self._node("Slice", [value, *bounds], name)

    def _constant(self, value: Any) -> str:
        array = np.asarray(value)
        name = f"constant/{array.dtype}/{array.shape}/{array.tolist()}"
        self.constants[name] = array
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output
