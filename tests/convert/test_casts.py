"""Repairing other people's float16 graphs: they load, count right, and do not change again."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stt.convert import casts, graph
from stt.convert.counting import ENCODED, CountingError, counted, cut_lengths, miscounted
from stt.convert.model_file import read
from stt.errors import ModelError
from support import graph_texts as texts
from support import graphs, others
from support.float16 import (
    bytes_of,
    digits_encoder,
    elem_types,
    encodes_alike,
    fixed,
    nodes,
    same,
    settles,
)
from support.paths import DIGITS

ENCODER, DECODER = DIGITS / "encoder-model.onnx", DIGITS / "decoder_joint-model.onnx"


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
    broken = others.blanket(graphs.build(texts.LENGTHS))
    settled = casts.fix(graphs.in_memory(broken))
    changes = {change.node: change for change in settled.changes}
    assert "float, not float16" in changes["n_counted"].what
    assert "exact" in changes["n_counted"].why
    was = {node.name: node.SerializeToString() for node in broken.graph.node}
    now = {node.name: node for node in settled.file.model.graph.node}
    changed = {n for n, node in now.items() if was.get(n) != node.SerializeToString()}
    assert changed <= set(changes)


# --- random graphs ----------------------------------------------------------------------------


# --- what callers and readers see ---------------------------------------------------------------


def test_nodes_out_of_order_are_put_in_order():
    broken = others.runtime_converter(graphs.build(texts.ATTENTION))
    shuffled = list(broken.graph.node)[::-1]
    graph.refill(broken.graph.node, shuffled)
    known = {value.name for value in broken.graph.input}
    known |= {tensor.name for tensor in broken.graph.initializer}
    for node in fixed(broken).graph.node:
        assert known.issuperset(node.input)
        known.update(node.output)


def test_a_node_that_stands_twice_stays_once():
    model = graphs.build(texts.LENGTHS)
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
    model = graphs.build(texts.CUSTOM)
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
    model = graphs.build(texts.CUSTOM)
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
    model = graphs.build(texts.DOUBLES)
    broken = others.usual_recipe(model)
    repaired = fixed(broken)
    assert elem_types(repaired)["third"] == TensorProto.DOUBLE
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    want, got = graphs.run(model, {"x": x}), graphs.run(repaired, {"x": x})
    assert got["z"].dtype == np.float64
    assert np.allclose(want["z"], got["z"], atol=1e-3)


# --- branches and loops ---------------------------------------------------------------------------


def test_a_branch_that_counts_in_float16_becomes_float32_and_is_reported():
    model = graphs.build(texts.LENGTHS_IN_A_BRANCH)
    settled = casts.fix(graphs.in_memory(others.blanket(model)))
    assert ("n_chosen", "float inside") in [(c.node, c.what) for c in settled.changes]
    case = graphs.CASES["lengths in a branch"]
    got = graphs.evaluate(settles(settled), case.inputs)
    assert np.array_equal(got["frames"], (case.inputs["length"] + 1) // 8)


@pytest.mark.parametrize("damaged", ["l", "r"])
def test_branches_of_different_types_are_made_float32(damaged: str):
    model = graphs.build(texts.BRANCHES)
    (choice,) = nodes(model, "If")
    branch = next(g for g in graph.subgraphs(choice) if g.output[0].name == damaged)
    branch.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    last = branch.node[-1]
    last.output[0] = "wide"
    branch.node.append(helper.make_node("Cast", ["wide"], [damaged], "damage", to=10))
    case = graphs.CASES["branches, yes"]
    want = graphs.run(graphs.build(texts.BRANCHES), case.inputs)
    same(case, want, graphs.run(fixed(model), case.inputs))


def test_a_loop_fed_float16_where_its_body_takes_float_gets_a_cast():
    model = graphs.build(texts.LOOP)
    half = helper.make_node("Cast", ["x"], ["x_half"], "damage", to=10)
    weight = helper.make_node("Cast", ["w"], ["w_half"], "damage too", to=10)
    model.graph.node[0].input[:] = ["x_half", "w_half"]
    graph.refill(model.graph.node, [half, weight, *model.graph.node])
    case = graphs.CASES["loop"]
    want = graphs.run(graphs.build(texts.LOOP), case.inputs)
    same(case, want, graphs.run(fixed(model), case.inputs))


# --- the digits model -----------------------------------------------------------------------------


DURATIONS = (0.3, 1, 5, 20.4, 20.5, 30, 45.0, 47.0, 58.6, 100, 300, 399)


FRAMES = np.array([*range(1, 40_001, 7), *(int(s * 100) + 1 for s in DURATIONS)])


@cache
def right_counts() -> dict[str, np.ndarray]:
    """What the digits encoder makes of FRAMES alone: its lengths and what its masks compare."""
    part = cut_lengths(read(ENCODER))
    assert part is not None
    return counted(part, FRAMES)


def miscounts(model: onnx.ModelProto) -> bool:
    """Whether a conversion of the digits encoder counts otherwise than it, or cannot count."""
    part = cut_lengths(graphs.in_memory(model))
    assert part is not None
    try:
        return len(miscounted(right_counts(), counted(part, FRAMES), FRAMES)) > 0
    except CountingError as error:
        assert "float16" in str(error)
        return True


@pytest.mark.parametrize("converter", others.ALL)
def test_the_digits_encoder_others_converted_is_caught_and_repaired(converter: str):
    theirs = others.ALL[converter](digits_encoder())
    assert miscounts(theirs)
    model = settles(casts.fix(graphs.in_memory(theirs)))
    np.testing.assert_array_equal(right_counts()[ENCODED], (FRAMES + 7) // 8)
    assert not miscounts(model)
    loaded = graphs.session(model.SerializeToString())
    for seconds in (5, 20.5):
        assert encodes_alike(loaded, seconds)


@pytest.mark.parametrize("converter", others.ALL)
def test_a_decoder_that_others_converted_well_stays_as_it_is_but_for_its_order(converter: str):
    theirs = others.ALL[converter](onnx.load(DECODER))
    settled = casts.fix(graphs.in_memory(theirs))
    assert settled.changes == ()
    ordered = graph.prepared(graphs.in_memory(theirs)).model
    assert settles(settled).graph.node == ordered.graph.node
    graphs.session(settled.file.model.SerializeToString())


def test_the_blanket_rewriting_gets_lengths_wrong():
    frames = np.arange(1, 4101)
    part = cut_lengths(graph.prepared(graphs.in_memory(others.blanket(digits_encoder()))))
    assert part is not None
    wrong = counted(part, frames)[ENCODED] != (frames + 7) // 8
    assert not wrong[frames <= 2048].any()
    assert wrong[frames > 2049].mean() > 0.1
