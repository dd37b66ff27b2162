"""Conversion and repair of random graphs: lengths stay right, values stay close."""

from __future__ import annotations

import os

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from test_fp16 import converted

from support import graphs, others
from support.float16 import fixed, nodes
from support.random_graphs import Drawn, random_graph

EXAMPLES = int(os.environ.get("STT_EXAMPLES", "30"))
draws = st.lists(st.integers(0, 2**16), min_size=3, max_size=60)
lengths = st.lists(st.integers(0, 40_000), min_size=1, max_size=4)
quickly = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def counts_right(
    drawn: Drawn, repaired: onnx.ModelProto, numbers: list[int], *, floats: bool = True
) -> None:
    n = np.array(numbers)
    x = np.linspace(-1, 1, len(numbers), dtype=np.float32)
    graphs.run(repaired, {"x": x, "n": n})
    want = graphs.evaluate(drawn.model, {"x": x, "n": n})
    got = graphs.evaluate(repaired, {"x": x, "n": n})
    assert np.array_equal(want["k"], got["k"])
    small = {"x": x, "n": n % 5}
    if not (drawn.smooth and floats and largest_inside(drawn.model, small) < 100):
        return
    want, got = graphs.evaluate(drawn.model, small), graphs.evaluate(repaired, small)
    assert np.allclose(want["y"], got["y"], 0.02, 1.0)


def largest_inside(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> float:
    """The largest magnitude of all values in a graph; infinite where one is not finite."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    for node in model.graph.node:
        whole.graph.output.append(helper.make_empty_tensor_value_info(node.output[0]))
    values = graphs.evaluate(whole, inputs).values()
    with np.errstate(all="ignore"):
        sizes = [
            np.abs(v.astype(np.float64)).max(initial=0) for v in values if v.dtype.kind in "fi"
        ]
    return max(float(size) if np.isfinite(size) else np.inf for size in sizes)


@quickly
@given(draws, lengths, st.sampled_from(sorted(others.ALL)))
def test_random_graphs_others_converted_are_repaired(
    choices: list[int], numbers: list[int], converter: str
):
    drawn = random_graph(choices)
    repaired = fixed(others.ALL[converter](drawn.model))
    counts_right(drawn, repaired, numbers)


@quickly
@given(draws, lengths, st.lists(st.booleans(), min_size=40, max_size=40))
def test_random_graphs_with_random_damage_are_repaired(
    choices: list[int], numbers: list[int], flips: list[bool]
):
    drawn = random_graph(choices)
    broken = onnx.ModelProto()
    broken.CopyFrom(drawn.model)
    flip = iter(flips * (1 + len(broken.graph.node)))
    for node in nodes(broken, "Cast"):
        if node.attribute[0].i == TensorProto.FLOAT and next(flip):
            node.attribute[0].i = TensorProto.FLOAT16
    for tensor in broken.graph.initializer:
        if next(flip):
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    counts_right(drawn, fixed(broken), numbers)


@quickly
@given(draws, lengths)
def test_random_graphs_convert_and_count_right(choices: list[int], numbers: list[int]):
    drawn = random_graph(choices)
    counts_right(drawn, converted(drawn.model), numbers)
