"""An encoder without convolutions, for CUDA.

ONNX Runtime's CUDA `Conv` keeps one cuDNN plan per node, of the last shape it saw: each change of
shape rebuilds 77 of them, 0.3 to 0.6 s (docs/measurements/speed.md). Here FastConformer's
convolutions are products of matrices, whose cost does not depend on the shapes before:

- over one frame (pointwise): a product with every frame, `products.pointwise_as_matmul`;
- over time (depthwise): ONNX Runtime's `CausalConvWithState`, one kernel without a plan, which
  looks back only; what it gives lies `kernel - 1` frames later, where it is cut;
- the subsampling's, 3 by 3 with stride 2: channels come first, before the batch, so that all of a
  batch are the columns of one matrix. The first is a product with the nine shifted inputs. A
  depthwise one is a product with a band matrix over frequency for each channel and row: an output
  row takes an even row and its two odd neighbours.

The same function up to rounding, of any length and batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, numpy_helper
from onnx.helper import get_attribute_value, make_node

from stt.convert.graph import Lookup, replace_nodes, tidied, use_contrib
from stt.convert.model_file import GraphFile, read, write_beside
from stt.convert.products import pointwise_as_matmul
from stt.convert.weight import Array

_TO_FRONT = [1, 0, 2, 3]
"""Batch and channels change places."""
_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Conv:
    """A convolution with all that is known of it."""

    node: NodeProto
    weight: Array
    """[out, in / group, *kernel]."""
    bias: Array
    """[out]; zeros where it has none."""
    group: int
    strides: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved for itself."""
        return self.group == len(self.weight) and self.weight.shape[1] == 1

    @property
    def halves(self) -> bool:
        """Whether it is 3 by 3 and keeps every second row and column."""
        return (
            self.weight.shape[2:] == (3, 3) and self.strides == (2, 2) and self.pads == (1, 1, 1, 1)
        )

    @property
    def pointwise(self) -> bool:
        """Whether it is 1 by 1 over all channels."""
        return (
            self.weight.shape[2:] == (1, 1)
            and self.group == 1
            and set(self.strides) == {1}
            and not any(self.pads)
        )


def without_convolutions(file: GraphFile) -> int:
    """Rewrite the convolutions of an encoder as products; `file` is edited in place.

    Those of another kind than the module's text names stay.

    Returns:
        How many convolutions are left.
    """
    pointwise_as_matmul(file)
    writer = _Writer(file, Lookup(file))
    for node in file.model.graph.node:
        writer.add(node)
    replace_nodes(file.model.graph, writer.nodes)
    use_contrib(file.model)
    return sum(node.op_type == "Conv" for node in file.model.graph.node)


def write_for_cuda(source: Path, target: Path) -> int:
    """Write an encoder without convolutions beside the weights it shares.

    Where one cannot be rewritten, nothing is written.

    Args:
        source: an FP32 or FP16 encoder.
        target: in the same folder.

    Returns:
        How many convolutions cannot be rewritten; 0 where it is written.

    Raises:
        ModelError: the source cannot be read.
        OSError: e.g. a full disk; the target stays as it was.
    """
    file = read(source)
    left = without_convolutions(file)
    if not left:
        write_beside(target, file.model, tidied(file))
    return left


@dataclass(slots=True)
class _Writer:
    """Goes through a graph's nodes in order and writes them anew."""

    file: GraphFile
    constants: Lookup
    nodes: list[NodeProto] = field(default_factory=list)
    fronted: dict[str, str] = field(default_factory=dict)
    """Value [B, C, T, F] -> the same as [C, B, T, F]."""
    widths: dict[str, int] = field(default_factory=dict)
    """Value [B, C, T, F] of the subsampling -> F."""

    def add(self, node: NodeProto) -> None:
        """Write one node, or what takes its place."""
        conv = self._conv(node) if node.op_type == "Conv" else None
        if conv is not None and conv.weight.ndim == 4 and self._subsampling(conv):
            return
        if conv is not None and conv.weight.ndim == 3 and self._over_time(conv):
            return
        known = [self.widths[name] for name in node.input if name in self.widths]
        if node.op_type == "Relu" and node.input[0] in self.fronted:
            front = self._node("Relu", [self.fronted[node.input[0]]], f"{node.output[0]}/front")
            self._give(front, node, *known)
            return
        if node.op_type in ("Relu", "Mul") and known:  # NeMo 3 masks what lies past the end
            self.widths[node.output[0]] = max(known)
        self.nodes.append(node)

    def _conv(self, node: NodeProto) -> _Conv | None:
        weight = self.constants.constant(node.input[1])
        biased = len(node.input) > 2 and node.input[2]
        bias = self.constants.constant(node.input[2]) if biased else None
        attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        if (
            weight is None
            or (bias is None and biased)
            or set(attributes.get("dilations", [1])) != {1}
            or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            return None
        rank = weight.ndim - 2
        return _Conv(
            node,
            weight,
            np.zeros(len(weight), weight.dtype) if bias is None else bias,
            int(attributes.get("group", 1)),
            tuple(attributes.get("strides", [1] * rank)),
            tuple(attributes.get("pads", [0] * 2 * rank)),
        )

    def _subsampling(self, conv: _Conv) -> bool:
        """Write a convolution over frames and frequencies; False where it is none of those."""
        source, name = conv.node.input[0], conv.node.output[0]
        if conv.halves and conv.weight.shape[1] == 1 and conv.group == 1:
            width = self._features()
            self._give(self._first(conv, self._front(source)), conv.node, -(-width // 2))
        elif source not in self.widths:
            return False
        elif conv.halves and conv.depthwise:
            width = self.widths[source]
            self._give(self._band(conv, self._front(source), width), conv.node, -(-width // 2))
        elif conv.pointwise:
            front, channels = self._front(source), conv.weight.shape[1]
            columns = self._node("Reshape", [front, self._ints([channels, -1])], f"{name}/columns")
            self._give(self._product(conv, columns, front), conv.node, self.widths[source])
        else:
            return False
        return True

    def _front(self, value: str) -> str:
        """The value [B, C, T, F] as [C, B, T, F]."""
        if value not in self.fronted:
            name = f"{value}/front"
            self.fronted[value] = self._node("Transpose", [value], name, perm=_TO_FRONT)
        return self.fronted[value]

    def _first(self, conv: _Conv, source: str) -> str:
        """The convolution of one channel, [1, B, T, F]: a product with nine shifted inputs."""
        name = conv.node.output[0]
        pads = self._ints([0, 0, 1, 1, 0, 0, 1, 1])
        padded = self._node("Pad", [source, pads], f"{name}/padded")
        ends = (-2, -1, _END)
        shifted = [
            self._cut(padded, [row, column], [ends[row], ends[column]], f"{name}/{row}{column}")
            for row in range(3)
            for column in range(3)
        ]
        patches = self._node("Concat", shifted, f"{name}/patches", axis=0)
        columns = self._node("Reshape", [patches, self._ints([9, -1])], f"{name}/columns")
        return self._product(conv, columns, patches)

    def _band(self, conv: _Conv, source: str, width: int) -> str:
        """A depthwise convolution of [C, B, T, F]: products with a band matrix for each channel."""
        name = conv.node.output[0]
        channels, half = len(conv.weight), -(-width // 2)
        above, at, below = (_band_matrix(conv.weight[:, 0, row], width) for row in range(3))
        even = self._cut(source, [0, 0], [_END, _END], f"{name}/even", steps=(2, 1))
        odd = self._cut(source, [1, 0], [_END, _END], f"{name}/odd", steps=(2, 1))
        shape = self._node("Shape", [even], f"{name}/even_shape")
        batch = self._node("Slice", [shape, self._ints([1]), self._ints([2])], f"{name}/batch")
        rows = self._node("Slice", [shape, self._ints([2]), self._ints([3])], f"{name}/rows")
        parts = []
        # of 2t + 1 odd rows there may be one less than of even ones: one more of zeros, then a cut
        for label, value, matrix, shift in (
            ("at", even, at, None),
            ("below", odd, below, (0, 1)),
            ("above", odd, above, (1, 0)),
        ):
            flat = self._node(
                "Reshape", [value, self._ints([channels, -1, width])], f"{name}/{label}_flat"
            )
            banded = self._node(
                "MatMul", [flat, self._array(matrix, f"{name}/{label}")], f"{name}/{label}_product"
            )
            four = [self._ints([channels]), batch, self._ints([-1, half])]
            full = self._joined(four, f"{name}/{label}_shape")
            given = self._node("Reshape", [banded, full], f"{name}/{label}_rows")
            if shift is not None:
                pads = self._ints([0, 0, shift[0], 0, 0, 0, shift[1], 0])
                padded = self._node("Pad", [given, pads], f"{name}/{label}_padded")
                given = self._node(
                    "Slice",
                    [padded, self._ints([0]), rows, self._ints([2])],
                    f"{name}/{label}_cut",
                )
            parts.append(given)
        total = self._node("Add", parts[:2], f"{name}/two")
        total = self._node("Add", [total, parts[2]], f"{name}/three")
        bias = self._array(conv.bias.reshape(-1, 1, 1, 1), f"{name}/bias")
        return self._node("Add", [total, bias], f"{name}/front")

    def _product(self, conv: _Conv, columns: str, like: str) -> str:
        """All output channels of input channels that lie as rows, [in, n] -> [out, B, T, F].

        B, T and F are those of `like`.
        """
        name = conv.node.output[0]
        matrix = self._array(conv.weight.reshape(len(conv.weight), -1), f"{name}/matrix")
        product = self._node("MatMul", [matrix, columns], f"{name}/product")
        bias = self._array(conv.bias.reshape(-1, 1), f"{name}/bias")
        biased = self._node("Add", [product, bias], f"{name}/biased")
        shape = self._node("Shape", [like], f"{name}/shape", start=1)
        full = self._joined([self._ints([len(conv.weight)]), shape], f"{name}/full")
        return self._node("Reshape", [biased, full], f"{name}/front")

    def _over_time(self, conv: _Conv) -> bool:
        """Write a depthwise convolution over time, [B, C, T]; False where it is none."""
        kernel = conv.weight.shape[2]
        if not conv.depthwise or conv.strides != (1,) or kernel < 2:
            return False
        name, source = conv.node.output[0], conv.node.input[0]
        if any(conv.pads):
            pads = self._ints([0, 0, conv.pads[0], 0, 0, conv.pads[1]])
            source = self._node("Pad", [source, pads], f"{name}/padded")
        inputs = [source, conv.node.input[1], self._array(conv.bias, f"{name}/bias")]
        causal = self._node(
            "CausalConvWithState", inputs, f"{name}/causal", f"{name}/state", domain="com.microsoft"
        )
        bounds = [self._ints([kernel - 1]), self._ints([_END]), self._ints([2])]
        self._node("Slice", [causal, *bounds], name)
        return True

    def _give(self, front: str, node: NodeProto, width: int) -> None:
        """Hand on a value [C, B, T, F] under the name of its node's, [B, C, T, F]."""
        self.fronted[node.output[0]], self.widths[node.output[0]] = front, width
        self._node("Transpose", [front], node.output[0], perm=_TO_FRONT)

    def _cut(
        self,
        value: str,
        starts: list[int],
        ends: list[int],
        name: str,
        steps: tuple[int, int] = (2, 2),
    ) -> str:
        """Every so many rows and columns of [.., .., T, F]."""
        bounds = [self._ints(part) for part in (starts, ends, [2, 3], list(steps))]
        return self._node("Slice", [value, *bounds], name)

    def _joined(self, parts: list[str], name: str) -> str:
        return self._node("Concat", parts, name, axis=0)

    def _node(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs[0]

    def _ints(self, values: list[int]) -> str:
        name = f"cuda/ints/{','.join(map(str, values))}"
        if all(tensor.name != name for tensor in self.file.model.graph.initializer):
            self._store(np.array(values, np.int64), name)
        return name

    def _array(self, value: Array, name: str) -> str:
        self._store(np.ascontiguousarray(value), name)
        return name

    def _store(self, value: Array, name: str) -> None:
        self.file.model.graph.initializer.append(numpy_helper.from_array(value, name))

    def _features(self) -> int:
        """How many values a frame of the encoder's input has."""
        return int(self.file.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)


def _band_matrix(taps: Array, width: int) -> Array:
    """Convolution of [n, width] with 3 taps, stride 2 and a zero on either side, as a product.

    `taps`: [C, 3]. Returns [C, width, (width + 1) // 2].
    """
    band = np.zeros((len(taps), width, -(-width // 2)), taps.dtype)
    for column in range(band.shape[2]):
        for tap in range(3):
            row = 2 * column + tap - 1
            if 0 <= row < width:
                band[:, row, column] = taps[:, tap]
    return band
