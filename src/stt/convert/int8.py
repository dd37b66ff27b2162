"""INT8: 8-bit weights, activations quantised as they come.

What is quantised, and how (docs/int8.md has the measurements behind each choice):

- Products with a constant matrix: signed 8-bit weights with one scale per output column, unsigned
  8-bit activations with a scale and zero point per call. MLAS has fast kernels (AVX-512 VNNI, AMX) for
  just this pair of signs. A factor or bias that follows is taken into the product.
- One-by-one convolutions, written as products first; other convolutions stay FP32 (`ConvInteger` is
  slower than the FP32 convolution), as do products of two activations.
- FastConformer's attention is written more tightly, see `attention`; its arithmetic stays FP32.
- LSTMs: `DynamicQuantizeLSTM`. Large embeddings: one scale per row.

Nodes are written in the form that ORT's optimiser would make of them (`com.microsoft`), so what runs does
not depend on which patterns a release fuses. Weights are read twice and one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stt.convert.attention import fuse_relative_attention
from stt.convert.model_file import Array, GraphFile, Weight, read, value_of, write
from stt.convert.pointwise import pointwise_as_matmul
from stt.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Progress = Callable[[str, int, int], None]
"""Called with a stage (`measure`, `write`), bytes of weights done and bytes in all."""
Floats = npt.NDArray[np.float32]

_SMALLEST_MATRIX = 4096
"""Elements of a matrix worth quantising."""
_SMALLEST_EMBEDDING = 1 << 20
"""Elements: smaller tables are positions and the like, of which there is nothing to gain."""
_DOMAIN = "com.microsoft"
_INTEGER = frozenset(
    {
        *("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulInteger"),
        *("ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"),
        *("QLinearMatMul", "QLinearConv", "MatMulNBits"),
    }
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
    lstms: int
    embeddings: int
    kept: tuple[str, ...]
    """Names of products left in FP32 because `keep` asked for it."""
    bytes_before: int
    """Graph and weights."""
    bytes_after: int


def quantize(
    source: Path, target: Path, *, keep: Collection[str] = (), progress: Progress | None = None
) -> Report:
    """Quantise one FP32 ONNX file; names, types and shapes of inputs and outputs stay.

    Args:
        source: an FP32 model; its weights may lie inside or beside it.
        target: written under a temporary name and renamed when whole.
        keep: nodes (MatMul, Conv, LSTM, Gather) to leave in FP32: a name, or the beginning of one.
        progress: called after every weight.

    Raises:
        ModelError: the source cannot be read, is quantised already, or has nothing to quantise.
        OSError: e.g. a full disk; the target stays as it was.
    """
    file = read(source)
    done = _kinds(file.model.graph) & _INTEGER
    if done:
        raise ModelError(f"{source}: is quantised already ({min(done)}); give the FP32 file")
    before = file.model.ByteSize() + sum(weight.nbytes for weight in file.weights.values())
    convolutions, attentions = pointwise_as_matmul(file), fuse_relative_attention(file)
    work = _Work(file, tuple(keep), progress)
    for graph in _graphs(file.model.graph):
        work.quantise_graph(graph)
    counts = work.counts
    if not counts:
        raise ModelError(f"{source}: has no FP32 weights to quantise; give the FP32 file")
    weights = _finish(file)
    after = file.model.ByteSize() + sum(weight.nbytes for weight in weights)
    write(target, file.model, _reported(weights, progress))
    return Report(
        counts["MatMul"],
        convolutions,
        attentions,
        counts["LSTM"],
        counts["Gather"],
        tuple(work.kept),
        before,
        after,
    )


@dataclass(frozen=True, slots=True)
class _Quantised:
    """Names of a quantised activation, its scale and its zero point."""

    values: str
    scale: str
    zero: str


class _Work:
    """Quantises graph after graph; new constants go to the main graph, which subgraphs see."""

    def __init__(self, file: GraphFile, keep: tuple[str, ...], progress: Progress | None) -> None:
        self._file, self._keep, self._progress = file, keep, progress
        self.kept: list[str] = []
        self.counts: Counter[str] = Counter()
        self._constants: dict[tuple[str, float], tuple[str, str]] = {}
        self._done = 0
        self._total = sum(weight.nbytes for weight in file.weights.values())
        self._uses = Counter(_all_inputs(file.model.graph))
        self._uses.update(output.name for output in file.model.graph.output)

    def quantise_graph(self, graph: GraphProto) -> None:
        """Rewrite the nodes of one graph in place."""
        products = [node for node in graph.node if self._is_product(node)]
        shared = Counter(node.input[0] for node in products)
        chosen = {node.output[0] for node in products}
        followers = {node.input[i]: node for node in graph.node for i in range(len(node.input))}
        ready: dict[str, _Quantised] = {}
        nodes: list[NodeProto] = []
        absorbed: set[str] = set()
        for node in graph.node:
            if node.output[0] in absorbed:
                continue
            if node.op_type == "MatMul" and node.output[0] in chosen:
                factor, bias, output = self._absorb(node, followers, absorbed)
                if shared[node.input[0]] > 1 and node.input[0] not in ready:
                    ready[node.input[0]] = _quantised(node.input[0], nodes)
                weight, scale = self._matrix(node.input[1], factor)
                names = (weight, scale, bias, output)
                nodes.append(_product(node, ready.get(node.input[0]), *names))
                self.counts["MatMul"] += 1
            elif self._is_lstm(node):
                nodes.append(self._lstm(node))
            elif self._is_embedding(node):
                nodes += self._embedding(node)
            else:
                nodes.append(node)
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def _left(self, node: NodeProto) -> bool:
        if any(node.name.startswith(name) for name in self._keep):
            self.kept.append(node.name)
            return True
        return False

    def _weight(self, name: str, rank: int, smallest: int) -> Weight | None:
        from onnx import TensorProto

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
        if follower.op_type == "Mul" and (factor := self._scalar(other)) is not None:
            absorbed.add(follower.output[0])
            return factor, "", follower.output[0]
        if follower.op_type == "Add" and self._is_bias(other, node.input[1]):
            absorbed.add(follower.output[0])
            return 1.0, other, follower.output[0]
        return 1.0, "", output

    def _scalar(self, name: str) -> float | None:
        """The value of a positive float32 constant of one element and no dimensions."""
        value = _constants(self._file).get(name)
        if value is None or value.shape != () or value.dtype != np.float32 or value <= 0:
            return None
        return float(value)

    def _is_bias(self, name: str, matrix: str) -> bool:
        columns = self._file.weights[matrix].shape[1]
        if name in self._file.weights:
            return self._file.weights[name].shape == (columns,)
        small = {tensor.name: tuple(tensor.dims) for tensor in self._file.model.graph.initializer}
        return small.get(name) == (columns,)

    def _matrix(self, name: str, factor: float) -> tuple[str, str]:
        """Quantise a matrix [in, out] by column; returns the names of weights and scales."""
        return self._stored(self._file.weights[name], 0, factor, np.s_[:])

    def _stored(
        self, source: Weight, axis: int, factor: float, shape: object, *, swap: bool = False
    ) -> tuple[str, str]:
        """Add 8-bit weights, scales taken over an axis (after `swap` of the last two)."""
        key = (source.name, factor)
        if key in self._constants:
            return self._constants[key]
        from onnx import TensorProto, numpy_helper

        number = sum(name == source.name for name, _ in self._constants)
        values, scales = f"{source.name}/int8", f"{source.name}/scale{number or ''}"

        def floats() -> Floats:
            array = source.load().astype(np.float32, copy=False)
            return array.swapaxes(-1, -2) if swap else array

        scale = _scales(floats(), axis)

        def load() -> Array:
            return _rounded(floats(), np.expand_dims(scale, axis))

        stored = (*source.shape[:-2], *source.shape[:-3:-1]) if swap else source.shape
        self._file.weights[values] = Weight(
            values, TensorProto.INT8, stored, source.nbytes // 4, load
        )
        factored = (scale * np.float32(factor)).astype(np.float32)[shape]  # type: ignore[index]
        tensor = numpy_helper.from_array(factored, scales)
        self._file.model.graph.initializer.append(tensor)
        self._done += source.nbytes
        if self._progress:
            self._progress("measure", self._done, self._total)
        self._constants[key] = values, scales
        return values, scales

    def _lstm(self, node: NodeProto) -> NodeProto:
        """LSTM's weights are [directions, 4 * hidden, in]; the 8-bit operator wants them turned."""
        from onnx import numpy_helper
        from onnx.helper import make_node

        names = []
        for index in (1, 2):
            weight = self._file.weights[node.input[index]]
            values, scale = self._stored(weight, 1, 1.0, np.s_[:], swap=True)
            zero = f"{weight.name}/zero"
            zeros = np.zeros(weight.shape[:2], np.int8)
            self._file.model.graph.initializer.append(numpy_helper.from_array(zeros, zero))
            names.append((values, scale, zero))
        (w, w_scale, w_zero), (r, r_scale, r_zero) = names
        rest = [*node.input[3:], *[""] * (8 - len(node.input))]
        inputs = [node.input[0], w, r, *rest, w_scale, w_zero, r_scale, r_zero]
        made = make_node("DynamicQuantizeLSTM", inputs, node.output, node.name, domain=_DOMAIN)
        made.attribute.extend(node.attribute)
        self.counts["LSTM"] += 1
        return made

    def _embedding(self, node: NodeProto) -> list[NodeProto]:
        from onnx import TensorProto
        from onnx.helper import make_node

        weight, output = self._file.weights[node.input[0]], node.output[0]
        values, scale = self._stored(weight, 1, 1.0, np.s_[:, None])
        rows, floats, scales = (f"{output}/{part}" for part in ("rows", "floats", "scales"))
        self.counts["Gather"] += 1
        return [
            make_node("Gather", [values, node.input[1]], [rows], node.name, axis=0),
            make_node("Cast", [rows], [floats], floats, to=TensorProto.FLOAT),
            make_node("Gather", [scale, node.input[1]], [scales], scales, axis=0),
            make_node("Mul", [floats, scales], [output], f"{output}/product"),
        ]


def _scales(array: Floats, axis: int) -> Floats:
    """Scales that bring the largest magnitude along an axis to 127; of zeros, the smallest normal."""
    largest = np.maximum(array.max(axis), -array.min(axis))
    scales: Floats = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny)
    return scales


def _rounded(array: Floats, scale: Floats) -> npt.NDArray[np.int8]:
    return np.rint(array / scale).astype(np.int8)


def _quantised(name: str, nodes: list[NodeProto]) -> _Quantised:
    """Quantise an activation that several products share."""
    from onnx.helper import make_node

    names = _Quantised(f"{name}/uint8", f"{name}/scale", f"{name}/zero")
    outputs = [names.values, names.scale, names.zero]
    nodes.append(make_node("DynamicQuantizeLinear", [name], outputs, names.values))
    return names


def _product(
    node: NodeProto, ready: _Quantised | None, weight: str, scale: str, bias: str, output: str
) -> NodeProto:
    from onnx.helper import make_node

    if ready is None:
        kind, inputs = "DynamicQuantizeMatMul", [node.input[0], weight, scale, "", bias]
    else:
        kind = "MatMulIntegerToFloat"
        inputs = [ready.values, weight, ready.scale, scale, ready.zero, "", bias]
    while not inputs[-1]:
        inputs.pop()
    return make_node(kind, inputs, [output], node.name, domain=_DOMAIN)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all graphs inside its nodes."""
    from onnx import AttributeProto

    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _kinds(graph: GraphProto) -> set[str]:
    return {node.op_type for inner in _graphs(graph) for node in inner.node}


def _all_inputs(graph: GraphProto) -> Iterator[str]:
    for inner in _graphs(graph):
        for node in inner.node:
            yield from node.input
        if inner is not graph:
            yield from (output.name for output in inner.output)


def _constants(file: GraphFile) -> dict[str, Array]:
    """Small constants by name, from initializers and Constant nodes of all graphs."""
    found = {tensor.name: tensor for tensor in file.model.graph.initializer}
    for graph in _graphs(file.model.graph):
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
    return {name: value_of(tensor) for name, tensor in found.items() if not tensor.dims}


def _finish(file: GraphFile) -> list[Weight]:
    """Leave out what nothing uses any more; returns the weights to write."""
    graph = file.model.graph
    used = set(_all_inputs(graph)) | {output.name for output in graph.output}
    small = [tensor for tensor in graph.initializer if tensor.name in used]
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in small]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    del graph.value_info[:]  # what it says of values that are gone would be an error
    if not any(opset.domain == _DOMAIN for opset in file.model.opset_import):
        file.model.opset_import.add(domain=_DOMAIN, version=1)
    return [weight for name, weight in file.weights.items() if name in used]


def _reported(weights: list[Weight], progress: Progress | None) -> list[Weight]:
    """The same weights, with progress told as each is loaded."""
    if progress is None:
        return weights
    total, done = sum(weight.nbytes for weight in weights), 0
    told = progress

    def watched(weight: Weight) -> Weight:
        def load() -> Array:
            nonlocal done
            array = weight.load()
            done += weight.nbytes
            told("write", done, total)
            return array

        return Weight(weight.name, weight.elem_type, weight.shape, weight.nbytes, load)

    return [watched(weight) for weight in weights]
