"""Which nodes compute lengths and positions, and must stay float32."""

from __future__ import annotations

from collections import Counter

import pytest
from onnx import parser

from stt.convert import model_file
from stt.convert.counting import find_counting
from stt.convert.element_types import infer
from stt.convert.graph import prepared
from support import graphs
from support.paths import DIGITS

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '


def counting(text: str) -> tuple[set[str], set[str]]:
    """Names of first outputs: (nodes that count, those that must be exact)."""
    model = graphs.build(text) if "<ir" in text else parser.parse_model(HEAD + text)
    file = prepared(graphs.in_memory(model))
    found = find_counting(file, infer(file))
    names = [node.output[0] for node in file.model.graph.node]
    return {names[i] for i in found.nodes}, {names[i] for i in found.exact}


@pytest.mark.parametrize(
    ("text", "nodes", "exact"),
    [
        (
            graphs.LENGTHS,
            {"counted", "raised", "divided", "floored", "encoded_lengths"},
            {"counted", "raised", "divided", "floored", "encoded_lengths"},
        ),
        (graphs.POSITIONS, {"counted", "column", "angles", "waves"}, set()),
        (graphs.BRANCHES, set(), set()),
        (graphs.MICROSOFT, set(), set()),
        (graphs.PADDING, {"counted"}, set()),
        (graphs.ATTENTION, {"keep", "drop"}, set()),
        (graphs.ATTENTION_WHERE, set(), set()),
        (
            graphs.LENGTHS_IN_A_BRANCH,
            {"counted", "chosen", "divided", "floored", "frames"},
            {"counted", "chosen", "divided", "floored", "frames"},
        ),
    ],
)
def test_arithmetic_on_integers_alone_counts(text: str, nodes: set[str], exact: set[str]):
    assert counting(text) == (nodes, exact)


def test_ones_of_a_shape_doubles_and_running_sums_are_followed():
    nodes, exact = counting(graphs.LENGTHS_MADE_OF_MORE)
    names = "counted more wide narrow positive divided floored frames summed ends"
    assert nodes == exact == set(names.split())


@pytest.mark.parametrize(
    ("body", "exact"),
    [
        # a mask that is summed up to a length is exact, wherever it comes from
        (
            "g (bool[B, T] m) => (int64[B, U] n) <int64[1] last = {-1}> "
            "{ f = Cast <to = 1> (m)  s = ReduceSum(f, last)  n = Cast <to = 7> (s) }",
            {"f", "s", "n"},
        ),
        (
            "g (bool[B, T] m) => (int64[B, U] n) <int64[1] last = {-1}, float a = {1}, "
            "float b = {0}> { f = Where(m, a, b)  s = ReduceSum(f, last)  n = Cast <to = 7> (s) }",
            {"f", "s", "n"},
        ),
        # a mask that multiplies features is not
        (
            "g (bool[N] m, float[N] x) => (float[N] y) { f = Cast <to = 1> (m)  y = Mul(f, x) }",
            set(),
        ),
        # compared with features a count must be exact, the features need not
        (
            "g (int64[N] n, float[N] x) => (bool[N] y) "
            "{ h = Relu(x)  c = Cast <to = 1> (n)  y = Less(h, c) }",
            {"c", "y"},
        ),
        # features rounded to integers are no counts
        (
            "g (float[N] x) => (int64[N] y) { f = Floor(x)  y = Cast <to = 7> (f) }",
            set(),
        ),
        # a count of samples: times a large number, and back to an integer
        (
            "g (int64[N] n) => (int64[N] y) <float rate = {16000}, float hop = {160}> "
            "{ c = Cast <to = 1> (n)  s = Mul(c, rate)  f = Div(s, hop)  y = Cast <to = 7> (f) }",
            {"c", "s", "f", "y"},
        ),
        # the target's type of CastLike
        (
            "g (int64[N] n, int32[N] like) => (int32[N] y) <float two = {2}> "
            "{ c = Cast <to = 1> (n)  d = Div(c, two)  y = CastLike(d, like) }",
            {"c", "d", "y"},
        ),
    ],
)
def test_what_must_be_exact(body: str, exact: set[str]):
    assert counting(body)[1] == exact


@pytest.mark.parametrize("never", ["-10000", "-1e9", "1e9", "-3.4e38"])
def test_a_number_for_never_ends_the_counting(never: str):
    body = (
        f"g (int64[N] n, float[N] x) => (float[N] y) <float one = {{1}}, float never = {{{never}}}>"
        "{ c = Cast <to = 1> (n)  d = Sub(one, c)  b = Mul(d, never)  y = Add(x, b) }"
    )
    assert counting(body) == ({"c", "d"}, set())


def test_a_loop_of_constant_length_over_features_is_no_constant():
    nodes, exact = counting(graphs.LOOP)
    assert (nodes, exact) == (set(), set())


def test_the_digits_encoder_counts_where_it_computes_lengths_and_nowhere_else():
    file = model_file.read(DIGITS / "encoder-model.onnx")
    found = find_counting(file, infer(file))
    nodes = [file.model.graph.node[index] for index in found.nodes]
    assert found.nodes == found.exact
    assert all(node.name.startswith("/pre_encode/conv/") for node in nodes)
    ops = Counter(node.op_type for node in nodes)
    assert ops == {"Cast": 12, "Add": 9, "Sub": 3, "Div": 3}


def test_the_digits_decoder_does_not_count():
    file = model_file.read(DIGITS / "decoder_joint-model.onnx")
    assert find_counting(file, infer(file)).nodes == frozenset()
