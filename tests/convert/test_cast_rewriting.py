"""What callers and readers see of a rewritten graph: its ends, names, Casts and declared types."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from stt.convert import casts, graph
from support import graph_texts as texts
from support import graphs, others
from support.float16 import elem_types, fixed, nodes, settles


def test_initializers_that_are_also_inputs_are_inputs_no_longer():
    broken = others.usual_recipe(graphs.build(texts.BRANCHES))
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
    broken = others.usual_recipe(graphs.build(texts.NESTED_BRANCHES))
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


def test_nodes_of_one_name_are_told_apart():
    broken = others.blanket(graphs.build(texts.LENGTHS))
    for node in broken.graph.node:
        node.name = "same"
    settled = casts.fix(graphs.in_memory(broken))
    names = [node.name for node in settles(settled).graph.node]
    assert len(set(names)) == len(names)
    assert any(change.what == "renamed" for change in settled.changes)


def test_a_model_that_takes_and_gives_float16_is_made_to_take_and_give_float32():
    model = fixed(graphs.build(texts.HALF_ENDS))
    ends = elem_types(model)
    assert {ends[name] for name in ("x", "y", "same")} == {TensorProto.FLOAT}
    assert ends["w"] == TensorProto.FLOAT16
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    n = np.array([2049, 4095, 5999, 39999])
    got = graphs.evaluate(model, {"x": x, "n": n})
    assert np.array_equal(got["k"], n // 8)
    assert np.allclose(got["y"], x / 2, atol=1e-3)
    assert np.allclose(graphs.run(model, {"x": x, "n": n})["same"], x, atol=1e-3)
