"""The encoder and decoder graphs of Whisper, as ONNX.

Architecture: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision"
(arXiv 2212.04356), section 2.2; parameter names are those of CTranslate2's `WhisperSpec`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from stt.convert.ctranslate2 import Ctranslate2Model
from stt.convert.graph_writer import CONTRIB, GraphWriter
from stt.errors import ModelError

__all__ = ["WhisperSize", "whisper_size", "write_decoder", "write_encoder"]

_GELU = 3  # CTranslate2's number for the exact, erf-based GELU
_END = 2**62  # a Slice up to here goes to the end
_EPSILON = 1e-5  # of every layer norm, PyTorch's default, which Whisper was trained with

LayerDone = Callable[[], None]


@dataclass(frozen=True, slots=True)
class WhisperSize:
    """The dimensions of one Whisper model."""

    mels: int
    width: int
    """Features per position, the same in encoder and decoder."""
    heads: int
    """Attention heads, the same in encoder and decoder."""
    encoder_layers: int
    decoder_layers: int
    source_positions: int
    """Positions of the encoder's output, 1500 for 30 s."""
    target_positions: int
    """Longest sequence of tokens the decoder takes, prompt included."""
    vocabulary: int

    @property
    def head_width(self) -> int:
        """Features per head."""
        return self.width // self.heads


def whisper_size(model: Ctranslate2Model) -> WhisperSize:
    """The dimensions, read off the shapes of the weights.

    Raises ModelError when the file holds another architecture or a variant of Whisper unknown here.
    """
    if model.spec != "WhisperSpec":
        raise ModelError(f"{model.path} holds a {model.spec}, not a Whisper model")
    for flag, wanted in (("activation", _GELU), ("pre_norm", 1), ("scale_embeddings", 0)):
        if model.scalar(f"decoder/{flag}") != wanted:
            raise ModelError(f"{model.path}: decoder/{flag} is not {wanted} as in OpenAI's Whisper")
    mels = model.variable("encoder/conv1/weight").shape[1]
    source_positions, width = model.variable("encoder/position_encodings/encodings").shape
    heads = model.scalar("encoder/num_heads")
    if width % heads or heads != model.scalar("decoder/num_heads"):
        raise ModelError(f"{model.path}: {heads} heads do not fit a width of {width}")
    return WhisperSize(
        mels=mels,
        width=width,
        heads=heads,
        encoder_layers=_layers(model, "encoder"),
        decoder_layers=_layers(model, "decoder"),
        source_positions=source_positions,
        target_positions=model.variable("decoder/position_encodings/encodings").shape[0],
        vocabulary=model.variable("decoder/embeddings/weight").shape[0],
    )


def _layers(model: Ctranslate2Model, part: str) -> int:
    layers = 0
    while f"{part}/layer_{layers}/ffn/layer_norm/beta" in model:
        layers += 1
    return layers


class _Weights:
    """Puts named layers of the model into a graph, ready for the operators that use them."""

    def __init__(self, model: Ctranslate2Model, graph: GraphWriter) -> None:
        self.model = model
        self.graph = graph

    def plain(self, name: str) -> str:
        return self.graph.weight(name, self.model.float32(name))

    def transposed(self, name: str) -> str:
        """CTranslate2 keeps [outputs, inputs]; x @ weight wants it the other way round."""
        return self.graph.weight(f"{name}/transposed", self.model.float32(name).T)

    def norm(self, x: str, name: str, output: str = "") -> str:
        scale, bias = self.plain(f"{name}/gamma"), self.plain(f"{name}/beta")
        return self.graph.node("LayerNormalization", x, scale, bias, name=output, epsilon=_EPSILON)

    def linear(self, x: str, name: str, branch: GraphWriter | None = None) -> str:
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


def write_encoder(
    model: Ctranslate2Model, size: WhisperSize, graph: GraphWriter, layer_done: LayerDone
) -> None:
    """input_features float32 [B, mels, F] -> last_hidden_state float32 [B, F / 2, width].

    Whisper was trained on F = 3000 only; what comes of less is measured in docs/live.md.
    """
    weights = _Weights(model, graph)
    x = graph.input("input_features", "float32", ["batch", size.mels, "frames"])
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
    graph.output(out, "float32", ["batch", "positions", size.width])


def write_decoder(
    model: Ctranslate2Model, size: WhisperSize, graph: GraphWriter, layer_done: LayerDone
) -> None:
    """One decoder step with its cache, in the layout of optimum's merged decoders.

    Inputs: input_ids int64 [B, S]; encoder_hidden_states float32 [B, F / 2, width]; for each layer
    i past_key_values.i.{decoder,encoder}.{key,value} float32 [B, heads, positions, head width];
    use_cache_branch bool [1], False at the first step. Then the pasts may be empty in any dimension
    that varies; afterwards S must be 1 and encoder_hidden_states is not looked at.

    Outputs: logits float32 [B, 1, vocabulary] of the last position; the pasts' successors as
    present.*, of which those of the encoder have batch 0 unless they were computed in this step.
    """
    _Decoder(model, size, graph).write(layer_done)


class _Decoder:
    def __init__(self, model: Ctranslate2Model, size: WhisperSize, graph: GraphWriter) -> None:
        self.size = size
        self.graph = graph
        self.weights = _Weights(model, graph)
        self.split_heads = graph.constant([0, 0, size.heads, size.head_width])
        self.join_heads = graph.constant([0, 0, size.width])
        self.scale = graph.constant(size.head_width**-0.5, "float32")

    def write(self, layer_done: LayerDone) -> None:
        graph, size, weights = self.graph, self.size, self.weights
        ids = graph.input("input_ids", "int64", ["batch", "tokens"])
        graph.input("encoder_hidden_states", "float32", ["batch", "positions", size.width])
        self._inputs()
        graph.input("use_cache_branch", "bool", [1])

        x = self._embed(ids)
        for i in range(size.decoder_layers):
            x = self._self_attention(x, i)
            x = self._cross_attention(x, i)
            x = weights.feed_forward(x, f"decoder/layer_{i}/ffn")
            layer_done()
        self._logits(x)
        self._outputs()

    def _inputs(self) -> None:
        for i in range(self.size.decoder_layers):
            for side, positions in (("decoder", "past"), ("encoder", "past_source")):
                shape: list[int | str] = [
                    f"{positions}_batch",
                    self.size.heads,
                    positions,
                    self.size.head_width,
                ]
                for part in ("key", "value"):
                    self.graph.input(f"past_key_values.{i}.{side}.{part}", "float32", shape)

    def _outputs(self) -> None:
        self.graph.output("logits", "float32", ["batch", 1, self.size.vocabulary])
        for i in range(self.size.decoder_layers):
            for side, batch, positions in (
                ("decoder", "batch", "past_and_tokens"),
                ("encoder", "source_batch", "source"),
            ):
                shape: list[int | str] = [batch, self.size.heads, positions, self.size.head_width]
                for part in ("key", "value"):
                    self.graph.output(f"present.{i}.{side}.{part}", "float32", shape)

    def _embed(self, ids: str) -> str:
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
        positions = graph.node(
            "Slice",
            self.weights.plain("decoder/position_encodings/encodings"),
            past,
            graph.node("Add", past, tokens),
            graph.constant([0]),
        )
        return graph.node("Add", rows, positions)

    def _self_attention(self, x: str, layer: int) -> str:
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

    def _cross_attention(self, x: str, layer: int) -> str:
        """Attention to the encoder; its keys and values are computed where there are none yet.

        The attention itself is inside both branches: an `If` whose branch only hands the cached
        values on would copy them, 18 MB per utterance and step with tiny.
        """
        graph, weights = self.graph, self.weights
        scope = f"decoder/layer_{layer}/attention"
        query = weights.linear(weights.norm(x, f"{scope}/layer_norm"), f"{scope}/linear_0")
        query = graph.node("Reshape", graph.node("Mul", query, self.scale), self.split_heads)
        query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
        branches = {
            "then_branch": self._attend_cached(query, layer),
            "else_branch": self._attend_new(query, layer),
        }
        mixed, *_ = graph.nodes(
            "If",
            "use_cache_branch",
            names=[graph.new_name("mixed"), *_present(layer, "encoder")],
            **branches,
        )
        mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = graph.node("Reshape", mixed, self.join_heads)
        return graph.node("Add", x, weights.linear(mixed, f"{scope}/linear_2"))

    def _attend_cached(self, query: str, layer: int) -> onnx.GraphProto:
        branch = self.graph.branch(f"cached_{layer}")
        shape = branch.constant(
            [0, self.size.heads, self.size.source_positions, self.size.head_width]
        )
        pasts = [f"past_key_values.{layer}.encoder.{part}" for part in ("key", "value")]
        empty = [branch.node("ConstantOfShape", shape) for _ in pasts]
        return self._finish(branch, _attend(branch, query, *pasts), empty)

    def _attend_new(self, query: str, layer: int) -> onnx.GraphProto:
        branch = self.graph.branch(f"new_{layer}")
        scope = f"decoder/layer_{layer}/attention/linear_1"
        fused = self.weights.linear("encoder_hidden_states", scope, branch)
        names = [branch.new_name(part) for part in ("key", "value")]
        parts = branch.nodes("Split", fused, names=names, axis=2, num_outputs=2)
        split = [
            branch.node(
                "Transpose", branch.node("Reshape", part, self.split_heads), perm=[0, 2, 1, 3]
            )
            for part in parts
        ]
        return self._finish(branch, _attend(branch, query, *split), split)

    def _finish(self, branch: GraphWriter, mixed: str, cache: Sequence[str]) -> onnx.GraphProto:
        heads, head_width = self.size.heads, self.size.head_width
        branch.output(mixed, "float32", ["batch", heads, "tokens", head_width])
        for part in cache:
            branch.output(part, "float32", ["source_batch", heads, "source", head_width])
        return branch.graph()

    def _logits(self, x: str) -> None:
        """Only the last position's: a step is asked for one token."""
        graph = self.graph
        last = graph.node("Slice", x, *(graph.constant([n]) for n in (-1, _END, 1)))
        normed = self.weights.norm(last, "decoder/layer_norm")
        projection = self.weights.transposed("decoder/projection/weight")
        graph.node("MatMul", normed, projection, name="logits")


def _attend(graph: GraphWriter, query: str, key: str, value: str) -> str:
    """softmax(query @ key.T) @ value, all [B, heads, positions, head width]; query is scaled."""
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    return graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)


def _present(layer: int, side: str) -> list[str]:
    return [f"present.{layer}.{side}.{part}" for part in ("key", "value")]
