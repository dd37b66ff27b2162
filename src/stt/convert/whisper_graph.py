"""The encoder and decoder graphs of Whisper, as ONNX.

Architecture: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision"
(arXiv 2212.04356), section 2.2; parameter names are those of CTranslate2's `WhisperSpec`.

Large weights are streamed into a file beside the `.onnx` file: ONNX Runtime maps them there instead
of parsing and copying them, so that neither writing nor loading ever holds the model twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from stt.convert.ctranslate2 import Ctranslate2Model, WhisperSize
from stt.convert.graph import CONTRIB
from stt.convert.weight import Array

_END = 2**62  # a Slice up to here goes to the end
_EPSILON = 1e-5  # of every layer norm, PyTorch's default, which Whisper was trained with
_OPSET = 20  # Gelu became an operator here; ONNX Runtime 1.17 and later read it
_IR_VERSION = 9
_INLINE_BYTES = 1024  # shape inference looks into small constants only when they are in the file
_ALIGNMENT = 4096  # whole pages, so that a weight can be mapped by itself


def write_graphs(
    model: Ctranslate2Model, size: WhisperSize, folder: Path, layer_done: Callable[[], None]
) -> None:
    """Write encoder_model.onnx and decoder_model_merged.onnx, each with a .data file beside it.

    Encoder: input_features float32 [B, mels, F] -> last_hidden_state float32 [B, F / 2, width].
    Whisper was trained on F = 3000 only; docs/measurements/live.md has what comes of less.

    Decoder: one step with its cache, in the layout of optimum's merged decoders. Inputs: input_ids
    int64 [B, S]; encoder_hidden_states float32 [B, F / 2, width]; for each layer i
    past_key_values.i.{decoder,encoder}.{key,value} float32 [B, heads, positions, head width];
    use_cache_branch bool [1], False at the first step. Then the pasts may be empty in any dimension
    that varies; afterwards S must be 1 and encoder_hidden_states is not looked at. Outputs: logits
    float32 [B, 1, vocabulary] of the last position; the pasts' successors as present.*, of which
    those of the encoder have batch 0 unless they were computed in this step.
    """
    parts = {"encoder_model": _write_encoder, "decoder_model_merged": _write_decoder}
    for name, write in parts.items():
        path = folder / f"{name}.onnx"
        with path.with_name(f"{path.name}.data").open("wb") as data:
            graph = _GraphWriter(path.stem, data, f"{path.name}.data")
            write(model, size, graph, layer_done)
            graph.save(path)


class _GraphWriter:
    """Collects nodes, inputs, outputs and weights of one graph, or of a branch inside it."""

    def __init__(self, name: str, data: BinaryIO, location: str) -> None:
        """`data` receives the large weights; `location` is its file name beside the model."""
        self._name, self._data, self._location = name, data, location
        self._ids = count()
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def input(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> str:
        """Declare an input; a string in the shape names a dimension that varies."""
        self._inputs.append(helper.make_tensor_value_info(name, _type_id(dtype), shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Declare the value `name`, which a node gives, as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def node(
        self, op: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any
    ) -> str:
        """Append an operator with one output, called `name` or something new; returns its name."""
        names = [name or self.new_name(op)]
        return self.nodes(op, *inputs, names=names, domain=domain, **attributes)[0]

    def nodes(
        self, op: str, *inputs: str, names: Sequence[str], domain: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Append an operator whose outputs are called `names`; returns them."""
        node = helper.make_node(op, inputs, names, self.new_name(op), domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def new_name(self, stem: str) -> str:
        """A name used nowhere else in the model."""
        return f"{stem}_{next(self._ids)}"

    def constant(self, values: npt.ArrayLike, dtype: str = "int64") -> str:
        """A small constant inside the file."""
        return self.weight(self.new_name("constant"), np.asarray(values, dtype))

    def weight(self, name: str, values: Array) -> str:
        """A weight; large ones go to the data file at once."""
        values = np.ascontiguousarray(values)
        if values.nbytes < _INLINE_BYTES:
            self._initializers.append(numpy_helper.from_array(values, name))
            return name
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = _type_id(values.dtype.name)
        place = {"location": self._location, "offset": self._data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(values.data.cast("B"))
        self._initializers.append(tensor)
        return name

    def branch(self, name: str) -> _GraphWriter:
        """A graph for one side of an `If`: it sees this graph's values and weights by name."""
        inner = _GraphWriter(name, self._data, self._location)
        inner._ids = self._ids  # names must differ from the outer graph's
        return inner

    def graph(self) -> onnx.GraphProto:
        """The graph collected so far."""
        ends = (self._inputs, self._outputs)
        return helper.make_graph(self._nodes, self._name, *ends, self._initializers)

    def save(self, path: Path) -> None:
        """Check the model and write it to `path`; `onnx.checker.ValidationError` if it is wrong."""
        model = helper.make_model(
            self.graph(),
            producer_name="stt",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)],
        )
        path.write_bytes(model.SerializeToString())
        self._data.flush()
        onnx.checker.check_model(path)


def _type_id(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class _Weights:
    """Puts named layers of the model into a graph, ready for the operators that use them."""

    def __init__(self, model: Ctranslate2Model, graph: _GraphWriter) -> None:
        self.model, self.graph = model, graph

    def plain(self, name: str) -> str:
        return self.graph.weight(name, self.model.float32(name))

    def transposed(self, name: str) -> str:
        """CTranslate2 keeps [outputs, inputs]; x @ weight wants it the other way round."""
        return self.graph.weight(f"{name}/transposed", self.model.float32(name).T)

    def norm(self, x: str, name: str, output: str = "") -> str:
        scale, bias = self.plain(f"{name}/gamma"), self.plain(f"{name}/beta")
        return self.graph.node("LayerNormalization", x, scale, bias, name=output, epsilon=_EPSILON)

    def linear(self, x: str, name: str, branch: _GraphWriter | None = None) -> str:
        """Multiply by a weight and add a bias, in the graph or in a branch of it."""
        weight, bias = self.transposed(f"{name}/weight"), self.plain(f"{name}/bias")
        graph = branch or self.graph
        return graph.node("Add", graph.node("MatMul", x, weight), bias)

    def feed_forward(self, x: str, name: str) -> str:
        """Return x plus its feed-forward layer."""
        inner = self.linear(self.norm(x, f"{name}/layer_norm"), f"{name}/linear_0")
        outer = self.linear(self.graph.node("Gelu", inner), f"{name}/linear_1")
        return self.graph.node("Add", x, outer)

    def query_key_value(self, x: str, name: str) -> Sequence[str]:
        """The three projections of a self-attention layer, by one product."""
        fused = self.linear(self.norm(x, f"{name}/layer_norm"), f"{name}/linear_0")
        names = [self.graph.new_name(part) for part in ("query", "key", "value")]
        return self.graph.nodes("Split", fused, names=names, axis=2, num_outputs=3)


def _write_encoder(
    model: Ctranslate2Model, size: WhisperSize, graph: _GraphWriter, layer_done: Callable[[], None]
) -> None:
    weights = _Weights(model, graph)
    x = graph.input("input_features", ["batch", size.mels, "frames"])
    for name, stride in (("conv1", 1), ("conv2", 2)):
        filters = [weights.plain(f"encoder/{name}/{part}") for part in ("weight", "bias")]
        x = graph.node("Gelu", graph.node("Conv", x, *filters, pads=[1, 1], strides=[stride]))
    x = graph.node("Transpose", x, perm=[0, 2, 1])
    positions = graph.node("Shape", x, start=1, end=2)
    encodings = weights.plain("encoder/position_encodings/encodings")
    first, rows = graph.constant([0]), graph.constant([0])
    x = graph.node("Add", x, graph.node("Slice", encodings, first, positions, rows))
    for i in range(size.encoder_layers):
        scope = f"encoder/layer_{i}/self_attention"
        parts = weights.query_key_value(x, scope)
        # the contrib operator streams over the keys: no 1500 x 1500 scores in memory
        mixed = graph.node("MultiHeadAttention", *parts, domain=CONTRIB, num_heads=size.heads)
        x = graph.node("Add", x, weights.linear(mixed, f"{scope}/linear_1"))
        x = weights.feed_forward(x, f"encoder/layer_{i}/ffn")
        layer_done()
    out = weights.norm(x, "encoder/layer_norm", output="last_hidden_state")
    graph.output(out, ["batch", "positions", size.width])


def _write_decoder(
    model: Ctranslate2Model, size: WhisperSize, graph: _GraphWriter, layer_done: Callable[[], None]
) -> None:
    decoder = _Decoder(model, size, graph)
    ids = graph.input("input_ids", ["batch", "tokens"], "int64")
    graph.input("encoder_hidden_states", ["batch", "positions", size.width])
    cached = [(i, *sides) for i in range(size.decoder_layers) for sides in _CACHES]
    for i, side, batch, positions, *_ in cached:
        for part in ("key", "value"):
            name = f"past_key_values.{i}.{side}.{part}"
            graph.input(name, [batch, size.heads, positions, size.head_width])
    graph.input("use_cache_branch", [1], "bool")
    x = decoder.embed(ids)
    for i in range(size.decoder_layers):
        x = decoder.self_attention(x, i)
        x = decoder.cross_attention(x, i)
        x = decoder.weights.feed_forward(x, f"decoder/layer_{i}/ffn")
        layer_done()
    decoder.logits(x)
    graph.output("logits", ["batch", 1, size.vocabulary])
    for i, side, *_, batch, positions in cached:
        for name in _present(i, side):
            graph.output(name, [batch, size.heads, positions, size.head_width])


_CACHES = (
    ("decoder", "past_batch", "past", "batch", "past_and_tokens"),
    ("encoder", "past_source_batch", "past_source", "source_batch", "source"),
)
"""Names of dimensions: batch and positions of the cache that comes in, and of what goes out."""


class _Decoder:
    def __init__(self, model: Ctranslate2Model, size: WhisperSize, graph: _GraphWriter) -> None:
        self.size, self.graph = size, graph
        self.weights = _Weights(model, graph)
        self.split_heads = graph.constant([0, 0, size.heads, size.head_width])
        self.join_heads = graph.constant([0, 0, size.width])
        self.scale = graph.constant(size.head_width**-0.5, "float32")

    def embed(self, ids: str) -> str:
        """Token plus position embeddings; also names the cache's true shape for the layers."""
        graph, model = self.graph, self.weights.model
        name = "decoder/embeddings/weight"
        # A copy apart from the output projection's, in the source's own width: only the rows used
        # are ever read, while the projection is repacked by the runtime and its original dropped.
        half = model.variable(name).dtype == "float16"
        table = graph.weight(f"{name}/rows", model.array(name) if half else model.float32(name))
        rows = graph.node("Gather", table, ids, axis=0)
        if half:
            rows = graph.node("Cast", rows, to=1)  # TensorProto.FLOAT
        batch = graph.node("Shape", ids, start=0, end=1)
        tokens = graph.node("Shape", ids, start=1, end=2)
        past = graph.node("Shape", "past_key_values.0.decoder.key", start=2, end=3)
        heads, head_width = (graph.constant([n]) for n in (self.size.heads, self.size.head_width))
        self.cache_shape = graph.node("Concat", batch, heads, past, head_width, axis=0)
        encodings = self.weights.plain("decoder/position_encodings/encodings")
        end, rows_axis = graph.node("Add", past, tokens), graph.constant([0])
        return graph.node("Add", rows, graph.node("Slice", encodings, past, end, rows_axis))

    def self_attention(self, x: str, layer: int) -> str:
        graph, weights = self.graph, self.weights
        scope = f"decoder/layer_{layer}/self_attention"
        query, key, value = weights.query_key_value(x, scope)
        # An empty cache may come with batch 0: give it the batch of the tokens
        pasts = [
            graph.node("Reshape", f"past_key_values.{layer}.decoder.{part}", self.cache_shape)
            for part in ("key", "value")
        ]
        mixed, *_ = graph.nodes(
            "MultiHeadAttention",
            *(query, key, value),
            *("", "", ""),  # no bias, no padding mask, no attention bias
            *pasts,
            names=[graph.new_name("mixed"), *_present(layer, "decoder")],
            domain=CONTRIB,
            num_heads=self.size.heads,
            unidirectional=1,
        )
        return graph.node("Add", x, weights.linear(mixed, f"{scope}/linear_1"))

    def cross_attention(self, x: str, layer: int) -> str:
        """Attention to the encoder; its keys and values are computed where there are none yet.

        The attention itself is inside both branches: an `If` whose branch only hands the cached
        values on would copy them, 18 MB per utterance and step with tiny.
        """
        graph, weights = self.graph, self.weights
        scope = f"decoder/layer_{layer}/attention"
        query = weights.linear(weights.norm(x, f"{scope}/layer_norm"), f"{scope}/linear_0")
        query = graph.node("Reshape", graph.node("Mul", query, self.scale), self.split_heads)
        query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
        cached, new = self._attend_cached(query, layer), self._attend_new(query, layer)
        names = [graph.new_name("mixed"), *_present(layer, "encoder")]
        mixed, *_ = graph.nodes(
            "If", "use_cache_branch", names=names, then_branch=cached, else_branch=new
        )
        mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = graph.node("Reshape", mixed, self.join_heads)
        return graph.node("Add", x, weights.linear(mixed, f"{scope}/linear_2"))

    def _attend_cached(self, query: str, layer: int) -> onnx.GraphProto:
        branch = self.graph.branch(f"cached_{layer}")
        size = self.size
        shape = branch.constant([0, size.heads, size.source_positions, size.head_width])
        pasts = [f"past_key_values.{layer}.encoder.{part}" for part in ("key", "value")]
        empty = [branch.node("ConstantOfShape", shape) for _ in pasts]
        return self._finish(branch, _attend(branch, query, *pasts), empty)

    def _attend_new(self, query: str, layer: int) -> onnx.GraphProto:
        branch = self.graph.branch(f"new_{layer}")
        scope = f"decoder/layer_{layer}/attention/linear_1"
        fused = self.weights.linear("encoder_hidden_states", scope, branch)
        names = [branch.new_name(part) for part in ("key", "value")]
        parts = branch.nodes("Split", fused, names=names, axis=2, num_outputs=2)
        heads = (branch.node("Reshape", part, self.split_heads) for part in parts)
        split = [branch.node("Transpose", part, perm=[0, 2, 1, 3]) for part in heads]
        return self._finish(branch, _attend(branch, query, *split), split)

    def _finish(self, branch: _GraphWriter, mixed: str, cache: Sequence[str]) -> onnx.GraphProto:
        heads, head_width = self.size.heads, self.size.head_width
        branch.output(mixed, ["batch", heads, "tokens", head_width])
        for part in cache:
            branch.output(part, ["source_batch", heads, "source", head_width])
        return branch.graph()

    def logits(self, x: str) -> None:
        """Only the last position's: a step is asked for one token."""
        graph = self.graph
        last = graph.node("Slice", x, *(graph.constant([n]) for n in (-1, _END, 1)))
        normed = self.weights.norm(last, "decoder/layer_norm")
        projection = self.weights.transposed("decoder/projection/weight")
        graph.node("MatMul", normed, projection, name="logits")


def _attend(graph: _GraphWriter, query: str, key: str, value: str) -> str:
    """softmax(query @ key.T) @ value, all [B, heads, positions, head width]; query is scaled."""
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    return graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)


def _present(layer: int, side: str) -> list[str]:
    return [f"present.{layer}.{side}.{part}" for part in ("key", "value")]
