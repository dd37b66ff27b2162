"""Whether this processor's INT8 products are exact, found out by trying.

On x86 with AVX2 or AVX-512 but without VNNI, ONNX Runtime's kernel for unsigned activations and
signed weights adds two products of bytes in 16 bits (`vpmaddubsw`) and clips the sum: 2 * 255 * 127
does not fit. Its kernel for unsigned weights widens to 16 bits first and is exact everywhere.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_DEPTH, _COLUMNS = 64, 32


@cache
def cpu_saturates() -> bool:
    """Whether ONNX Runtime's CPU provider clips sums of uint8 times int8; a few milliseconds."""
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
