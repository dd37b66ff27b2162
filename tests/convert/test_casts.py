"""Repairing other people's float16 graphs: they load, count right, and do not change again."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from stt.convert import casts, graph
from stt.convert.cast_rewriting import Settled
from stt.convert.element_types import conflicts
from stt.errors import ModelError
from support import graphs, others

EXAMPLES = int(os.environ.get("STT_EXAMPLES", "30"))
draws = st.lists(st.integers(0, 2**16), min_size=3, max_size=60)
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
    declared = {value.name: value.type.tensor_type.elem_type for value in ends}
    return declared | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


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
    broken = graph.prepared(graphs.in_memory(others.ALL[converter](model))).model
    assert not np.array_equal(graphs.evaluate(broken, case.inputs)["encoded_lengths"], want)
    repaired = graphs.evaluate(fixed(broken), case.inputs)["encoded_lengths"]
    assert np.array_equal(repaired, want)


def test_every_change_is_reported_with_its_reason():
    broken = others.blanket(graphs.build(graphs.LENGTHS))
    settled = casts.fix(graphs.in_memory(broken))
    changes = {change.node: change for change in settled.changes}
    assert "float, not float16" in changes["n_counted"].what
    assert "exact" in changes["n_counted"].why
    was = {node.name: node.SerializeToString() for node in broken.graph.node}
    now = {node.name: node for node in settled.file.model.graph.node}
    changed = {n for n, node in now.items() if was.get(n) != node.SerializeToString()}
    assert changed <= set(changes)


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


# --- what callers and readers see ---------------------------------------------------------------


def test_a_model_that_takes_and_gives_float16_is_made_to_take_and_give_float32():
    model = fixed(graphs.build(graphs.HALF_ENDS))
    ends = elem_types(model)
    assert {ends[name] for name in ("x", "y", "same")} == {TensorProto.FLOAT}
    assert ends["w"] == TensorProto.FLOAT16
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    n = np.array([2049, 4095, 5999, 39999])
    got = graphs.evaluate(model, {"x": x, "n": n})
    assert np.array_equal(got["k"], n // 8)
    assert np.allclose(got["y"], x / 2, atol=1e-3)
    assert np.allclose(graphs.run(model, {"x": x, "n": n})["same"], x, atol=1e-3)


def test_initializers_that_are_also_inputs_are_inputs_no_longer():
    broken = others.usual_recipe(graphs.build(graphs.BRANCHES))
    broken.ir_version = 3
    shape = next(list(t.dims) for t in broken.graph.initializer if t.name == "w")
    broken.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT16, shape))
    model = fixed(broken)
    assert [value.name for value in model.graph.input] == ["x", "yes"]
    graphs.run(model, graphs.CASES["branches, yes"].inputs)


MIXED = """
mixed (float[N] x, int64[N] n) => (float[N] y, int64[N] k, float[N] told)
<float16[1] w = {14336}, float16 shared = {13312}>
{
    half = Cast <to = 10> (x)
    c = Cast <to = 1> (n)
    told = Cast <to = 1> (n)
    scaled = Mul(c, shared)
    up = Ceil(scaled)
    k = Cast <to = 7> (up)
    m = Mul(half, w)
    s = Mul(m, shared)
    added = Add(s, c)
    y = Cast <to = 1> (added)
}
"""


def test_a_constant_and_a_cast_read_by_both_precisions_serve_both_and_outputs_stay():
    model = fixed(graphs.build(MIXED))
    x, n = np.ones(3, np.float32), np.array([3, 2051, 39_998])
    got = graphs.run(model, {"x": x, "n": n})
    assert got["k"].tolist() == [1, 513, 10_000]
    assert np.allclose(got["y"], n + 0.125, rtol=1e-3)
    assert np.array_equal(got["told"], n)
    types = elem_types(model)
    assert {types["shared"], types["shared_float"]} == {TensorProto.FLOAT16, TensorProto.FLOAT}
    aims = {node.output[0]: node.attribute[0].i for node in nodes(model, "Cast")}
    assert (aims["c"], aims["told"]) == (TensorProto.FLOAT, TensorProto.FLOAT)


MASKED = """
masked (float[B, T, 4] x, bool[B, T] real) => (float[B, T, 4] y)
<float[4, 4] w, int64[1] last = {-1}>
{
    kept = Cast <to = 1> (real)
    column = Unsqueeze(kept, last)
    whole = Shape(x)
    spread = Expand(column, whole)
    h = MatMul(x, w)
    y = Mul(h, spread)
}
"""


def test_a_cast_before_an_expand_is_aimed_at_what_reads_the_expand():
    broken = others.usual_recipe(graphs.build(MASKED))
    model = fixed(broken)
    producer = {name: node for node in model.graph.node for name in node.output}
    spread = next(node for node in model.graph.node if node.op_type == "Expand")
    kept = producer[producer[spread.input[0]].input[0]]
    assert (kept.op_type, kept.attribute[0].i) == ("Cast", TensorProto.FLOAT16)
    readers = [node.op_type for node in model.graph.node if spread.output[0] in node.input]
    assert "Mul" in readers  # no Cast of the whole mask on the way to it


def test_new_names_are_free_in_the_graphs_inside_nodes_too():
    broken = others.usual_recipe(graphs.build(graphs.NESTED_BRANCHES))
    model = fixed(broken)
    names = [name for node in model.graph.node for name in node.output]
    inside = [
        name
        for inner in graph.graphs_of(model.graph)
        for node in inner.node
        for name in node.output
    ]
    assert len(set(inside)) == len(inside) > len(names)


def test_declared_types_that_are_out_of_date_are_corrected():
    model = graphs.build(MIXED)
    for name, elem_type in {"m": TensorProto.FLOAT, "s": TensorProto.FLOAT16}.items():
        model.graph.value_info.append(helper.make_tensor_value_info(name, elem_type, ["N"]))
    declared = {v.name: v.type.tensor_type.elem_type for v in fixed(model).graph.value_info}
    assert declared == {"m": TensorProto.FLOAT16, "s": TensorProto.FLOAT16}


def test_nodes_out_of_order_are_put_in_order():
    broken = others.runtime_converter(graphs.build(graphs.ATTENTION))
    shuffled = list(broken.graph.node)[::-1]
    graph.refill(broken.graph.node, shuffled)
    known = {value.name for value in broken.graph.input}
    known |= {tensor.name for tensor in broken.graph.initializer}
    for node in fixed(broken).graph.node:
        assert known.issuperset(node.input)
        known.update(node.output)


def test_nodes_of_one_name_are_told_apart():
    broken = others.blanket(graphs.build(graphs.LENGTHS))
    for node in broken.graph.node:
        node.name = "same"
    settled = casts.fix(graphs.in_memory(broken))
    names = [node.name for node in settles(settled).graph.node]
    assert len(set(names)) == len(names)
    assert any(change.what == "renamed" for change in settled.changes)


def test_a_node_that_stands_twice_stays_once():
    model = graphs.build(graphs.LENGTHS)
    model.graph.node.append(model.graph.node[0])
    settled = casts.fix(graphs.in_memory(model))
    assert len(settles(settled).graph.node) == len(model.graph.node) - 1
    assert [change.what for change in settled.changes] == ["left out"]


# --- functions, operators nobody knows ------------------------------------------------------------


def test_functions_of_the_models_own_are_kept_where_all_is_well_and_written_out_where_not():
    case = graphs.CASES["function"]
    model = graphs.build(case.text)
    assert len(fixed(model).functions) == 2
    repaired = fixed(others.blanket(model))
    assert not repaired.functions
    same(case, graphs.run(model, case.inputs), graphs.run(repaired, case.inputs))


@pytest.fixture
def unknown_among_halves() -> onnx.ModelProto:
    """An operator that nobody knows, fed float16."""
    model = graphs.build(graphs.CUSTOM)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("f2"), "w"))
    return model


def test_an_operator_nobody_knows_gets_the_type_it_is_declared_to_have(
    unknown_among_halves: onnx.ModelProto,
):
    info = helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N"])
    unknown_among_halves.graph.value_info.append(info)
    model = fixed(unknown_among_halves)
    producer = {name: node for node in model.graph.node for name in node.output}
    reader = next(node for node in model.graph.node if "g" in node.input)
    assert (reader.op_type, producer["g"].op_type) == ("Cast", "Warp")


def test_an_operator_of_unknown_type_among_float16_is_refused_by_name(
    unknown_among_halves: onnx.ModelProto,
):
    with pytest.raises(ModelError, match=r"n_g \(Warp\).*type of its output g"):
        casts.fix(graphs.in_memory(unknown_among_halves))


def test_an_operator_of_unknown_type_among_float32_is_let_be():
    model = graphs.build(graphs.CUSTOM)
    assert bytes_of(casts.fix(graphs.in_memory(model)).file.model) == bytes_of(model)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "(float[N] x, double[N] z) => (float[N] y) { y = Add(x, z) }",
            r"node n_y \(Add\).*float and double meet at input z",
        ),
        (
            "(float[N] x, bfloat16[N] z) => (float[N] y) { h = Add(x, x)  y = Add(h, z) }",
            r"node n_y \(Add\).*float and bfloat16 meet",
        ),
        (
            "(float[N] x, bool[N] b) => (float[N] y) { y = Add(x, b) }",
            r"node n_y \(Add\).*float and bool meet",
        ),
        (
            '(int64[N] n) => (int64[N] y) { h = BitShift <direction = "LEFT"> (n, n) y = Neg(h) }',
            r"node n_h \(BitShift\).*is int64",
        ),
        (
            "(float[N] x) => (float[N] y) { h = Relu(lost)  y = Add(x, h) }",
            r"node n_h \(Relu\) reads lost, which nothing gives",
        ),
        (
            "(float[N] x) => (float[N] y) { h = Add(x, y)  y = Relu(h) }",
            r"node n_h \(Add\) reads what needs its own output",
        ),
        (
            "(float[N] x) => (float[N] y) { y = Relu(x)  y = Neg(x) }",
            r"node n_y \(Neg\) gives what n_y gives too",
        ),
    ],
)
def test_what_cannot_be_made_consistent_is_refused_and_the_node_named(body: str, message: str):
    with pytest.raises(ModelError, match=message):
        casts.fix(graphs.in_memory(graphs.parsed(f"g {body}")))


def test_double_and_bfloat16_are_left_alone():
    model = graphs.build(graphs.DOUBLES)
    broken = others.usual_recipe(model)
    repaired = fixed(broken)
    assert elem_types(repaired)["third"] == TensorProto.DOUBLE
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    want, got = graphs.run(model, {"x": x}), graphs.run(repaired, {"x": x})
    assert got["z"].dtype == np.float64
    assert np.allclose(want["z"], got["z"], atol=1e-3)


# --- branches and loops ---------------------------------------------------------------------------


def test_a_branch_that_counts_in_float16_becomes_float32_and_is_reported():
    model = graphs.build(graphs.LENGTHS_IN_A_BRANCH)
    settled = casts.fix(graphs.in_memory(others.blanket(model)))
    assert ("n_chosen", "float inside") in [(c.node, c.what) for c in settled.changes]
    case = graphs.CASES["lengths in a branch"]
    got = graphs.evaluate(settles(settled), case.inputs)
    assert np.array_equal(got["frames"], (case.inputs["length"] + 1) // 8)


@pytest.mark.parametrize("damaged", ["l", "r"])
def test_branches_of_different_types_are_made_float32(damaged: str):
    model = graphs.build(graphs.BRANCHES)
    (choice,) = nodes(model, "If")
    branch = next(g for g in graph.subgraphs(choice) if g.output[0].name == damaged)
    branch.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    last = branch.node[-1]
    last.output[0] = "wide"
    branch.node.append(helper.make_node("Cast", ["wide"], [damaged], "damage", to=10))
    case = graphs.CASES["branches, yes"]
    want = graphs.run(graphs.build(graphs.BRANCHES), case.inputs)
    same(case, want, graphs.run(fixed(model), case.inputs))


def test_a_loop_fed_float16_where_its_body_takes_float_gets_a_cast():
    model = graphs.build(graphs.LOOP)
    half = helper.make_node("Cast", ["x"], ["x_half"], "damage", to=10)
    weight = helper.make_node("Cast", ["w"], ["w_half"], "damage too", to=10)
    model.graph.node[0].input[:] = ["x_half", "w_half"]
    graph.refill(model.graph.node, [half, weight, *model.graph.node])
    case = graphs.CASES["loop"]
    want = graphs.run(graphs.build(graphs.LOOP), case.inputs)
    same(case, want, graphs.run(fixed(model), case.inputs))
