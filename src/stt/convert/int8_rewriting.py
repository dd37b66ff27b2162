"""The nodes of a graph with 8-bit weights in the place of float32 ones, see `int8`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stt.convert.graph import all_inputs, graphs_of, replace_nodes
from stt.convert.model_file import GraphFile
from stt.convert.weight import Array, Weight, value_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Progress = Callable[[str, int, int], None]
"""Called with a stage (`measure`, `write`), bytes of weights done and bytes in all."""
Floats = npt.NDArray[np.float32]
_MIDDLE = 128
"""Zero point of weights that are stored unsigned."""

_SMALLEST_MATRIX = 4096
"""Elements of a matrix worth quantising."""
_SMALLEST_EMBEDDING = 1 << 20
"""Elements: smaller tables are positions and the like, of which there is nothing to gain."""
_DOMAIN = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Quantised:
    """Names of a quantised activation, its scale and its zero point."""

    values: str
    scale: str
    zero: str


class Rewriting:
    """Quantises graph after graph; new constants go to the main graph, which subgraphs see."""

    def __init__(
        self, file: GraphFile, keep: tuple[str, ...], unsigned: bool, progress: Progress | None
    ) -> None:
        self._file, self._keep, self._progress = file, keep, progress
        self._unsigned = unsigned
        self.kept: list[str] = []
        self.counts: Counter[str] = Counter()
        self._stored_as: dict[tuple[str, int, float], tuple[str, str]] = {}
        self._shapes = {t.name: tuple(t.dims) for t in file.model.graph.initializer}
        self._shapes.update((name, weight.shape) for name, weight in file.weights.items())
        self._scalars = _scalars(file)
        self._done = 0
        self._total = sum(weight.nbytes for weight in file.weights.values())
        self._uses = Counter(all_inputs(file.model.graph))
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
        if follower.op_type == "Mul" and other in self._scalars:
            absorbed.add(follower.output[0])
            return self._scalars[other], "", follower.output[0]
        if follower.op_type == "Add" and self._shapes.get(other) == self._shapes[node.input[1]][1:]:
            absorbed.add(follower.output[0])
            return 1.0, other, follower.output[0]
        return 1.0, "", output

    def _middle(self) -> str:
        """Name of the zero point of products' weights, or "" where they are signed."""
        from onnx import numpy_helper

        name = "uint8/zero" if self._unsigned else ""
        if name and name not in self._shapes:
            zero = numpy_helper.from_array(np.array(_MIDDLE, np.uint8), name)
            self._file.model.graph.initializer.append(zero)
            self._shapes[name] = ()
        return name

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
        from onnx import TensorProto, numpy_helper

        turned = len(source.shape) == 3
        unsigned = self._unsigned and not looked_up
        values = f"{source.name}/{'uint8' if unsigned else 'int8'}/{axis}"
        name = f"{values}/scale/{len(self._stored_as)}"
        scale = _scales(_floats(source), axis)

        def load() -> Array:
            rounded: Array = _rounded(_floats(source), np.expand_dims(scale, axis))
            if unsigned:
                rounded = rounded.view(np.uint8) ^ np.uint8(_MIDDLE)  # 128 more
            return rounded.swapaxes(1, 2) if turned else rounded

        stored = tuple(source.shape[i] for i in (0, 2, 1)) if turned else source.shape
        size, kind = source.nbytes // 4, TensorProto.UINT8 if unsigned else TensorProto.INT8
        self._file.weights[values] = Weight(values, kind, stored, size, load)
        tensor = numpy_helper.from_array((scale * np.float32(factor)).reshape(shape), name)
        self._file.model.graph.initializer.append(tensor)
        self._done += source.nbytes
        if self._progress:
            self._progress("measure", self._done, self._total)
        self._stored_as[key] = values, name
        return values, name

    def _lstm(self, node: NodeProto) -> NodeProto:
        """LSTM's weights are [directions, 4 * hidden, in]; the 8-bit operator wants them turned."""
        from onnx import numpy_helper
        from onnx.helper import make_node

        names = []
        for index in (1, 2):
            weight = self._file.weights[node.input[index]]
            values, scale = self._store(weight, 2, shape=weight.shape[:2])
            zero = f"{weight.name}/zero"
            zeros = np.zeros(weight.shape[:2], np.int8)
            if self._unsigned:
                zeros = np.full(weight.shape[:2], _MIDDLE, np.uint8)
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
        values, scale = self._store(weight, 1, shape=(-1, 1), looked_up=True)
        rows, floats, scales = (f"{output}/{part}" for part in ("rows", "floats", "scales"))
        self.counts["Gather"] += 1
        return [
            make_node("Gather", [values, node.input[1]], [rows], node.name, axis=0),
            make_node("Cast", [rows], [floats], floats, to=TensorProto.FLOAT),
            make_node("Gather", [scale, node.input[1]], [scales], scales, axis=0),
            make_node("Mul", [floats, scales], [output], f"{output}/product"),
        ]


def _floats(weight: Weight) -> Floats:
    return weight.load().astype(np.float32, copy=False)


def _scales(array: Floats, axis: int) -> Floats:
    """Scales that bring the largest magnitude along an axis to 127; never 0."""
    largest = np.maximum(array.max(axis), -array.min(axis))
    scales: Floats = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny)
    return scales


def _rounded(array: Floats, scale: Floats) -> npt.NDArray[np.int8]:
    scaled: Floats = array / scale
    np.rint(scaled, out=scaled)
    return scaled.astype(np.int8)


def _quantised(node: NodeProto, nodes: list[NodeProto]) -> _Quantised:
    """Quantise the activation of a product, and of others that share it."""
    from onnx.helper import make_node

    begin = f"{node.output[0]}/input"
    names = _Quantised(f"{begin}/uint8", f"{begin}/scale", f"{begin}/zero")
    outputs = [names.values, names.scale, names.zero]
    nodes.append(make_node("DynamicQuantizeLinear", [node.input[0]], outputs, begin))
    return names


def _product(
    node: NodeProto, ready: _Quantised | None, constants: tuple[str, str, str, str], output: str
) -> NodeProto:
    """The integer product; `constants`: weight, scale, zero point or "", bias or ""."""
    from onnx.helper import make_node

    weight, scale, zero, bias = constants
    if ready is None:
        kind, inputs = "DynamicQuantizeMatMul", [node.input[0], weight, scale, zero, bias]
    else:
        kind = "MatMulIntegerToFloat"
        inputs = [ready.values, weight, ready.scale, scale, ready.zero, zero, bias]
    while not inputs[-1]:
        inputs.pop()
    return make_node(kind, inputs, [output], node.name, domain=_DOMAIN)


def _scalars(file: GraphFile) -> dict[str, float]:
    """Positive float32 constants without dimensions, from initializers and Constant nodes."""
    from onnx import TensorProto

    found = {tensor.name: tensor for tensor in file.model.graph.initializer}
    for graph in graphs_of(file.model.graph):
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
    kept = {n: t for n, t in found.items() if not t.dims and t.data_type == TensorProto.FLOAT}
    values = {name: float(value_of(tensor)) for name, tensor in kept.items()}
    return {name: value for name, value in values.items() if value > 0}
