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
  is a constant, see `positions`; its arithmetic stays FP32.
- Channels are evened out behind each LayerNormalization, exactly, see `products`.
- LSTMs: `DynamicQuantizeLSTM`. Large embeddings: one scale per row.

Nodes are written in the form that ORT's optimiser would make of them (`com.microsoft`), so what
runs does not depend on which patterns a release fuses. Weights are read twice and one at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stt.convert.attention import fuse_relative_attention
from stt.convert.graph import graphs_of, tidied
from stt.convert.int8_rewriting import Progress, Rewriting
from stt.convert.model_file import read, write
from stt.convert.positions import precompute_positions
from stt.convert.products import even_out, pointwise_as_matmul
from stt.convert.weight import reported
from stt.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto

_DEPTH, _COLUMNS = 64, 32
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
    progress: Progress | None = None,
) -> Report:
    """Quantise one FP32 ONNX file; names, types and shapes of inputs and outputs stay.

    Args:
        source: an FP32 model; its weights may lie inside or beside it.
        target: written under a temporary name and renamed when whole.
        keep: nodes (MatMul, Conv, LSTM, Gather) to leave in FP32: a name, or a path before a slash,
            such as `/layers.0`.
        unsigned: store the weights of products and LSTMs unsigned, which is exact on every
            processor; None: only where this one needs it.
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
    precompute_positions(file)
    smoothed = even_out(file)
    work = Rewriting(file, tuple(keep), cpu_saturates() if unsigned is None else unsigned, progress)
    for graph in graphs_of(file.model.graph):
        work.quantise_graph(graph)
    counts = work.counts
    if not counts:
        raise ModelError(f"{source}: has no FP32 weights to quantise; give the FP32 file")
    weights = tidied(file)
    after = file.model.ByteSize() + sum(weight.nbytes for weight in weights)
    write(target, file.model, reported(weights, "write", progress) if progress else weights)
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


@cache
def cpu_saturates() -> bool:
    """Whether ONNX Runtime's CPU provider clips sums of uint8 times int8; a few milliseconds.

    On x86 with AVX2 or AVX-512 but without VNNI, its kernel for unsigned activations and signed
    weights adds two products of bytes in 16 bits (`vpmaddubsw`) and clips the sum: 2 * 255 * 127
    does not fit. Its kernel for unsigned weights widens to 16 bits first and is exact everywhere.
    """
    expected = np.full((_COLUMNS,), _DEPTH * 255 * 127)
    return any(not np.array_equal(row, expected) for row in largest_products())


def largest_products(weight: int = 127, *, zero: int | None = None) -> np.ndarray:
    """Sums of 64 products of 255 and `weight - zero`, as this processor computes them.

    Args:
        weight: stored in int8, or in uint8 where there is a zero point.
        zero: the weights' zero point.

    Returns:
        int32 [5, 32]: one row (for which there are kernels of their own), and four together.
    """
    import onnxruntime
    from onnx import TensorProto, numpy_helper
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    dtype = np.int8 if zero is None else np.uint8
    constants = [numpy_helper.from_array(np.full((_DEPTH, _COLUMNS), weight, dtype), "weight")]
    inputs = ["rows", "weight"]
    if zero is not None:
        constants.append(numpy_helper.from_array(np.array(zero, dtype), "zero"))
        inputs += ["", "zero"]
    graph = make_graph(
        [make_node("MatMulInteger", inputs, ["sums"])],
        "products",
        [make_tensor_value_info("rows", TensorProto.UINT8, ["rows", _DEPTH])],
        [make_tensor_value_info("sums", TensorProto.INT32, ["rows", _COLUMNS])],
        constants,
    )
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [
        session.run(None, {"rows": np.full((rows, _DEPTH), 255, np.uint8)})[0] for rows in (1, 4)
    ]
    return np.concatenate(found)


def _kinds(graph: GraphProto) -> set[str]:
    return {node.op_type for inner in graphs_of(graph) for node in inner.node}
