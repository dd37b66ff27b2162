"""Repairing other people's float16 graphs: they load, count right, and do not change again."""

from __future__ import annotations

import os

import graphs
import numpy as np
import onnx
import others
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from stt.convert import casts
from stt.convert.casts import Settled
from stt.convert.element_types import conflicts, subgraphs
from stt.errors import ModelError

EXAMPLES = int(os.environ.get("STT_EXAMPLES", "60"))
draws = st.lists(st.integers(0, 2**16), min_size=3, max_size=45)
lengths = st.lists(st.integers(0, 40_000), min_size=1, max_size=4)
quickly = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def bytes_of(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def settles(settled: Settled) -> onnx.ModelProto:
    """Check what must hold of every result; returns the model."""
    model = settled.file.model
    assert conflicts(settled.file) == []
    again = casts.fix(settled.file)
    assert again.changes == ()
    assert bytes_of(again.file.model) == bytes_of(model)
    return model


def fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    before = bytes_of(model)
    settled = casts.fix(graphs.in_memory(model))
    assert bytes_of(model) == before
    return settles(settled)


def same(case: graphs.Case, want: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> None:
    """Integers equal, floats close; padding only finite."""
    assert list(want) == list(got)
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        if value.dtype.kind == "i":
            assert np.array_equal(value, got[name]), name
            continue
        assert np.isfinite(got[name]).all(), name
        rows = slice(case.rows)
        assert np.allclose(value[rows], got[name][rows], 0.002, case.tolerance), name


def nodes(model: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


def elem_types(model: onnx.ModelProto) -> dict[str, int]:
    """Declared types of inputs, outputs and initializers."""
    ends = [*model.graph.input, *model.graph.output]
    told = {value.name: value.type.tensor_type.elem_type for value in ends}
    return told | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


# --- named graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("converter", others.ALL)
@pytest.mark.parametrize("name", graphs.CASES)
def test_a_repaired_graph_gives_what_the_float32_one_gives(name: str, converter: str):
    case = graphs.CASES[name]
    model = graphs.build(case.text)
    want = graphs.run(model, case.inputs)
    repaired = fixed(others.ALL[converter](model))
    same(case, want, graphs.run(repaired, case.inputs))
    if name not in {"microsoft", "loop"}:  # the reference joins what a Loop collects differently
        same(case, want, graphs.evaluate(repaired, case.inputs))


@pytest.mark.parametrize("name", graphs.CASES)
def test_a_float32_graph_comes_back_as_it_was(name: str):
    model = graphs.build(graphs.CASES[name].text)
    assert bytes_of(fixed(model)) == bytes_of(model)


def test_the_usual_recipe_does_not_load_and_its_repair_does():
    case = graphs.CASES["lengths"]
    broken = others.usual_recipe(graphs.build(case.text))
    with pytest.raises(Exception, match="bound to different types"):
        graphs.run(broken, case.inputs)
    graphs.run(fixed(broken), case.inputs)


@pytest.mark.parametrize("converter", ["blanket casts", "ONNX Runtime's"])
def test_lengths_that_came_out_wrong_come_out_right(converter: str):
    case = graphs.CASES["lengths"]
    model = graphs.build(case.text)
    want = graphs.evaluate(model, case.inputs)["encoded_lengths"]
    broken = casts.prepared(graphs.in_memory(others.ALL[converter](model))).model
    assert not np.array_equal(graphs.evaluate(broken, case.inputs)["encoded_lengths"], want)
    repaired = graphs.evaluate(fixed(broken), case.inputs)["encoded_lengths"]
    assert np.array_equal(repaired, want)


def test_every_change_is_reported_with_its_reason():
    broken = others.blanket(graphs.build(graphs.LENGTHS))
    settled = casts.fix(graphs.in_memory(broken))
    told = {change.node: change for change in settled.changes}
    assert "float, not float16" in told["n_counted"].what
    assert "exact" in told["n_counted"].why
    was = {node.name: node.SerializeToString() for node in broken.graph.node}
    now = {node.name: node for node in settled.file.model.graph.node}
    changed = {n for n, node in now.items() if was.get(n) != node.SerializeToString()}
    assert changed <= set(told)


# --- random graphs ----------------------------------------------------------------------------


def counts_right(
    drawn: graphs.Drawn, repaired: onnx.ModelProto, numbers: list[int], *, floats: bool = True
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
    drawn = graphs.random_graph(choices)
    repaired = fixed(others.ALL[converter](drawn.model))
    counts_right(drawn, repaired, numbers)


@quickly
@given(draws, lengths, st.lists(st.booleans(), min_size=40, max_size=40))
def test_random_graphs_with_random_damage_are_repaired(
    choices: list[int], numbers: list[int], flips: list[bool]
):
    drawn = graphs.random_graph(choices)
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
