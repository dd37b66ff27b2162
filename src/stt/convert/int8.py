"""INT8: 8-bit weights, activations quantised as they come.

What is quantised, and how (docs/measurements/int8.md has the figures behind each choice):

- Products with a constant matrix: signed 8-bit weights with one scale per output column, unsigned
  8-bit activations with a scale and zero point per call. MLAS has fast kernels (AVX-512 VNNI, AMX)
  for just this pair of signs. Where the processor's clip sums (`cpu_saturates`), the same integers
  are stored unsigned with a zero point of 128: exact everywhere. A factor or bias that follows is
  taken into the product.
- One-by-one convolutions, written as products first; other convolutions stay FP32 (`ConvInteger`
  is slower than the FP32 convolution), as do products of two activations.
- FastConformer's attention is written more tightly, see `attention`, and what it makes of positions
  is a constant; its arithmetic stays FP32.
- Channels are evened out behind each LayerNormalization, exactly, see `products`.
- LSTMs: `DynamicQuantizeLSTM`. Large embeddings: one scale per row.

Nodes are written in the form that ORT's optimiser would make of them (`com.microsoft`), so what
runs does not depend on which patterns a release fuses. Weights are read twice and one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper
from onnx.helper import make_node

from stt.convert.attention import fuse_relative_attention, precompute_positions
from stt.convert.graph import CONTRIB, all_inputs, graphs_of, replace_nodes, scalars, tidied
from stt.convert.model_file import GraphFile, read, write
from stt.convert.products import cpu_saturates, even_out, pointwise_as_matmul
from stt.convert.weight import Array, Floats, Weight, floats, reported
from stt.errors import ModelError
from stt.types import ReportProgress

_MIDDLE = 128
"""Zero point of weights that are stored unsigned."""

_SMALLEST_MATRIX = 4096
"""Elements of a matrix worth quantising."""
_SMALLEST_EMBEDDING = 1 << 20
"""Elements: smaller tables are positions and the like, of which there is nothing to gain."""
_INTEGER = frozenset(
    {"DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger"}
    | {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "QLinearMatMul"}
    | {"QLinearConv", "MatMulNBits"}
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one ONNX file."""

    products: int
    """Matrix products quantised, rewritten convolutions among them."""
    convolutions: int
    """One-by-one convolutions rewritten as products."""
    attentions: int
    """Layers whose relative-position attention was rewritten."""
    smoothed: int
    """Layer normalisations whose channels were evened out, see `products`."""
    lstms: int
    embeddings: int
    kept: tuple[str, ...]
    """Names of products left in FP32 because `keep` asked for it."""
    bytes_before: int
    """Graph and weights."""
    bytes_after: int


def quantize(
    source: Path,
    target: Path,
    *,
    keep: Collection[str] = (),
    unsigned: bool | None = None,
    progress: ReportProgress = lambda *_: None,
) -> Report:
    """Quantise one FP32 ONNX file; names, types and shapes of inputs and outputs stay.

    Args:
        source: an FP32 model; its weights may lie inside or beside it.
        target: written under a temporary name and renamed when whole.
        keep: nodes (MatMul, Conv, LSTM, Gather) to leave in FP32: a name, or a path before a slash,
            such as `/layers.0`.
        unsigned: store the weights of products and LSTMs unsigned, which is exact on every
            processor; None: only where this one needs it.
        progress: called after every weight with a stage (`measure`, `write`), bytes of weights done
            and bytes in all.

    Raises:
        ModelError: the source cannot be read, is quantised already, or has nothing to quantise.
        OSError: e.g. a full disk; the target stays as it was.
    """
    file = read(source)
    kinds = {node.op_type for graph in graphs_of(file.model.graph) for node in graph.node}
    if done := kinds & _INTEGER:
        raise ModelError(f"{source}: is quantised already ({min(done)}); give the FP32 file")
    before = file.model.ByteSize() + sum(weight.nbytes for weight in file.weights.values())
    convolutions, attentions = pointwise_as_matmul(file), fuse_relative_attention(file)
    precompute_positions(file)
    smoothed = even_out(file)
    work = _Rewriting(file, keep, cpu_saturates() if unsigned is None else unsigned, progress)
    for graph in graphs_of(file.model.graph):
        work.quantise_graph(graph)
    counts = work.counts
    if not counts:
        raise ModelError(f"{source}: has no FP32 weights to quantise; give the FP32 file")
    weights = tidied(file)
    after = file.model.ByteSize() + sum(weight.nbytes for weight in weights)
    write(target, file.model, reported(weights, "write", progress))
    return Report(
        counts["MatMul"],
        convolutions,
        attentions,
        smoothed,
        counts["LSTM"],
        counts["Gather"],
        tuple(work.kept),
        before,
        after,
    )


class _Rewriting:
    """Quantises graph after graph; new constants go to the main graph, which subgraphs see."""

    def __init__(
        self, file: GraphFile, keep: Collection[str], unsigned: bool, progress: ReportProgress
    ) -> None:
        self._file, self._keep, self._unsigned, self._progress = file, keep, unsigned, progress
        self.kept: list[str] = []
        self.counts: Counter[str] = Counter()
        self._stored_as: dict[tuple[str, int, float], tuple[str, str]] = {}
        self._shapes = {t.name: tuple(t.dims) for t in file.model.graph.initializer}
        self._shapes.update((name, weight.shape) for name, weight in file.weights.items())
        self._scalars = scalars(file)
        self._done = 0
        self._total = sum(weight.nbytes for weight in file.weights.values())
        self._uses = Counter(all_inputs(file.model.graph))
        self._uses.update(output.name for output in file.model.graph.output)

    def quantise_graph(self, graph: GraphProto) -> None:
        """Rewrite the nodes of one graph in place."""
        products = {node.output[0]: node for node in graph.node if self._is_product(node)}
        shared = Counter(node.input[0] for node in products.values())
        followers = {name: node for node in graph.node for name in node.input}
        ready: dict[str, list[str]] = {}
        nodes: list[NodeProto] = []
        absorbed: set[str] = set()
        for node in graph.node:
            if node.output[0] in absorbed:
                continue
            if node.output[0] in products:
                factor, bias, output = self._absorb(node, followers, absorbed)
                if shared[node.input[0]] > 1 and node.input[0] not in ready:
                    ready[node.input[0]] = _quantised(node, nodes)
                stored = self._store(self._file.weights[node.input[1]], 0, factor)
                constants = (*stored, self._middle(), bias)
                nodes.append(_product(node, ready.get(node.input[0]), constants, output))
                self.counts["MatMul"] += 1
            elif self._is_lstm(node):
                nodes.append(self._lstm(node))
            elif self._is_embedding(node):
                nodes += self._embedding(node)
            else:
                nodes.append(node)
        replace_nodes(graph, nodes)

    def _left(self, node: NodeProto) -> bool:
        if any(f"{node.name}/".startswith(f"{name.rstrip('/')}/") for name in self._keep):
            self.kept.append(node.name)
            return True
        return False

    def _weight(self, name: str, rank: int, smallest: int) -> Weight | None:
        weight = self._file.weights.get(name)
        if weight is None or weight.elem_type != TensorProto.FLOAT or len(weight.shape) != rank:
            return None
        return weight if np.prod(weight.shape) >= smallest else None

    def _is_product(self, node: NodeProto) -> bool:
        return (
            node.op_type == "MatMul"
            and self._weight(node.input[1], 2, _SMALLEST_MATRIX) is not None
            and not self._left(node)
        )

    def _is_lstm(self, node: NodeProto) -> bool:
        return (
            node.op_type == "LSTM"
            and all(self._weight(node.input[i], 3, _SMALLEST_MATRIX) for i in (1, 2))
            and not self._left(node)
        )

    def _is_embedding(self, node: NodeProto) -> bool:
        return (
            node.op_type == "Gather"
            and self._weight(node.input[0], 2, _SMALLEST_EMBEDDING) is not None
            and all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
            and not self._left(node)
        )

    def _absorb(
        self, node: NodeProto, followers: dict[str, NodeProto], absorbed: set[str]
    ) -> tuple[float, str, str]:
        """Take a scalar factor, or else a bias, that alone uses a product into it.

        Returns:
            The factor, the bias's name or "", and the name of what then comes out.
        """
        output = node.output[0]
        follower = followers.get(output)
        if follower is None or self._uses[output] != 1 or len(follower.input) != 2:
            return 1.0, "", output
        other = follower.input[1 if follower.input[0] == output else 0]
        if follower.op_type == "Mul" and other in self._scalars:
            absorbed.add(follower.output[0])
            return self._scalars[other], "", follower.output[0]
        if follower.op_type == "Add" and self._shapes.get(other) == self._shapes[node.input[1]][1:]:
            absorbed.add(follower.output[0])
            return 1.0, other, follower.output[0]
        return 1.0, "", output

    def _middle(self) -> str:
        """Name of the zero point of products' weights, or "" where they are signed."""
        name = "uint8/zero" if self._unsigned else ""
        if name and name not in self._shapes:
            self._add(name, np.array(_MIDDLE, np.uint8))
            self._shapes[name] = ()
        return name

    def _add(self, name: str, value: Array) -> None:
        self._file.model.graph.initializer.append(numpy_helper.from_array(value, name))

    def _store(
        self,
        source: Weight,
        axis: int,
        factor: float = 1.0,
        shape: tuple[int, ...] = (-1,),
        *,
        looked_up: bool = False,
    ) -> tuple[str, str]:
        """Add 8-bit weights with a scale for all that lies along an axis.

        Args:
            source: FP32 weights; of rank 3 (LSTM), they are stored with the last two axes swapped.
            axis: over which magnitudes are taken, in `source`.
            factor: taken into the scale.
            shape: of the scale.
            looked_up: they are not multiplied in integers, so they are always signed.

        Returns:
            Names of the weights and of their scale.
        """
        key = (source.name, axis, factor)
        if key in self._stored_as:
            return self._stored_as[key]
        turned = len(source.shape) == 3
        unsigned = self._unsigned and not looked_up
        values = f"{source.name}/{'uint8' if unsigned else 'int8'}/{axis}"
        name = f"{values}/scale/{len(self._stored_as)}"
        scale = _scales(floats(source), axis)

        def load() -> Array:
            rounded: Array = _rounded(floats(source), np.expand_dims(scale, axis))
            if unsigned:
                rounded = rounded.view(np.uint8) ^ np.uint8(_MIDDLE)  # 128 more
            return rounded.swapaxes(1, 2) if turned else rounded

        stored = tuple(source.shape[i] for i in (0, 2, 1)) if turned else source.shape
        size, kind = source.nbytes // 4, TensorProto.UINT8 if unsigned else TensorProto.INT8
        self._file.weights[values] = Weight(values, kind, stored, size, load)
        self._add(name, (scale * np.float32(factor)).reshape(shape))
        self._done += source.nbytes
        self._progress("measure", self._done, self._total)
        self._stored_as[key] = values, name
        return values, name

    def _lstm(self, node: NodeProto) -> NodeProto:
        """LSTM's weights are [directions, 4 * hidden, in]; the 8-bit operator wants them turned."""
        names = []
        for index in (1, 2):
            weight = self._file.weights[node.input[index]]
            values, scale = self._store(weight, 2, shape=weight.shape[:2])
            zero = f"{weight.name}/zero"
            middle, dtype = (_MIDDLE, np.uint8) if self._unsigned else (0, np.int8)
            self._add(zero, np.full(weight.shape[:2], middle, dtype))
            names.append((values, scale, zero))
        (w, w_scale, w_zero), (r, r_scale, r_zero) = names
        rest = [*node.input[3:], *[""] * (8 - len(node.input))]
        inputs = [node.input[0], w, r, *rest, w_scale, w_zero, r_scale, r_zero]
        made = make_node("DynamicQuantizeLSTM", inputs, node.output, node.name, domain=CONTRIB)
        made.attribute.extend(node.attribute)
        self.counts["LSTM"] += 1
        return made

    def _embedding(self, node: NodeProto) -> list[NodeProto]:
        weight, output = self._file.weights[node.input[0]], node.output[0]
        values, scale = self._store(weight, 1, shape=(-1, 1), looked_up=True)
        rows, wide, scales = (f"{output}/{part}" for part in ("rows", "floats", "scales"))
        self.counts["Gather"] += 1
        return [
            make_node("Gather", [values, node.input[1]], [rows], node.name, axis=0),
            make_node("Cast", [rows], [wide], wide, to=TensorProto.FLOAT),
            make_node("Gather", [scale, node.input[1]], [scales], scales, axis=0),
            make_node("Mul", [wide, scales], [output], f"{output}/product"),
        ]


def _scales(array: Floats, axis: int) -> Floats:
    """Scales that bring the largest magnitude along an axis to 127; never 0."""
    largest = np.maximum(array.max(axis), -array.min(axis))
    scales: Floats = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny)
    return scales


def _rounded(array: Floats, scale: Floats) -> npt.NDArray[np.int8]:
    scaled: Floats = array / scale
    return np.rint(scaled, out=scaled).astype(np.int8)


def _quantised(node: NodeProto, nodes: list[NodeProto]) -> list[str]:
    """Quantise the activation of a product and of others that share it: names of what comes out."""
    begin = f"{node.output[0]}/input"
    outputs = [f"{begin}/{part}" for part in ("uint8", "scale", "zero")]
    nodes.append(make_node("DynamicQuantizeLinear", [node.input[0]], outputs, begin))
    return outputs


def _product(
    node: NodeProto, ready: list[str] | None, constants: tuple[str, str, str, str], output: str
) -> NodeProto:
    """The integer product; `constants`: weight, scale, zero point or "", bias or ""."""
    weight, scale, zero, bias = constants
    if ready is None:
        kind, inputs = "DynamicQuantizeMatMul", [node.input[0], weight, scale, zero, bias]
    else:
        values, values_scale, values_zero = ready
        kind = "MatMulIntegerToFloat"
        inputs = [values, weight, values_scale, scale, values_zero, zero, bias]
    while not inputs[-1]:
        inputs.pop()
    return make_node(kind, inputs, [output], node.name, domain=CONTRIB)
