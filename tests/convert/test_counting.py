"""Which nodes compute lengths and positions; an encoder's length path, cut out, counts right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from stt.convert.counting import counted, cut_lengths, find_counting, miscounted
from stt.convert.element_types import infer
from stt.convert.fp16 import convert
from stt.convert.graph import prepared
from stt.convert.model_file import read
from support import graph_texts as texts
from support import graphs, others
from support.paths import DIGITS

ENCODER = DIGITS / "encoder-model.onnx"
ALL = np.arange(1, 40_001)


def counting(text: str) -> tuple[set[str], set[str]]:
    """Names of first outputs: (nodes that count, those that must be exact)."""
    file = prepared(graphs.in_memory(graphs.build(text)))
    found = find_counting(file, infer(file))
    names = [node.output[0] for node in file.model.graph.node]
    return {names[i] for i in found.nodes}, {names[i] for i in found.exact}


LENGTH_PATH = {"counted", "raised", "divided", "floored", "encoded_lengths"}
BRANCH_PATH = {"counted", "chosen", "divided", "floored", "frames"}
MADE_OF_MORE = set("counted more wide narrow positive divided floored frames summed ends".split())  # noqa: SIM905


@pytest.mark.parametrize(
    ("text", "nodes", "exact"),
    [
        (texts.LENGTHS, LENGTH_PATH, LENGTH_PATH),
        (texts.POSITIONS, {"counted", "column", "angles", "waves"}, set()),
        (texts.BRANCHES, set(), set()),
        (texts.MICROSOFT, set(), set()),
        (texts.PADDING, {"counted"}, set()),
        (texts.ATTENTION, {"keep", "drop"}, set()),
        (texts.ATTENTION_WHERE, set(), set()),
        (texts.LENGTHS_IN_A_BRANCH, BRANCH_PATH, BRANCH_PATH),
        # ones of a shape, doubles and running sums are followed
        (texts.LENGTHS_MADE_OF_MORE, MADE_OF_MORE, MADE_OF_MORE),
        # a loop of constant length over features is no constant
        (texts.LOOP, set(), set()),
    ],
)
def test_arithmetic_on_integers_alone_counts(text: str, nodes: set[str], exact: set[str]):
    assert counting(text) == (nodes, exact)


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


def test_the_digits_encoder_counts_where_it_computes_lengths_and_nowhere_else():
    file = read(ENCODER)
    found = find_counting(file, infer(file))
    nodes = [file.model.graph.node[index] for index in found.nodes]
    assert found.nodes == found.exact
    assert all(node.name.startswith("/pre_encode/conv/") for node in nodes)
    ops = Counter(node.op_type for node in nodes)
    assert ops == {"Cast": 12, "Add": 9, "Sub": 3, "Div": 3}


def test_the_digits_decoder_does_not_count():
    file = read(DIGITS / "decoder_joint-model.onnx")
    assert find_counting(file, infer(file)).nodes == frozenset()


# --- the length path, cut out -----------------------------------------------------------------


def cut(model: onnx.ModelProto) -> onnx.ModelProto:
    part = cut_lengths(graphs.in_memory(model))
    assert part is not None
    return part


def test_it_counts_as_the_whole_encoder_does() -> None:
    part = cut_lengths(read(ENCODER))
    assert part is not None
    assert len(part.graph.node) < 100
    some = np.array([1, 8, 9, 2047, 2048, 2049, 4700, 39_900])
    whole = graphs.session(ENCODER)
    signal = np.zeros((len(some), whole.get_inputs()[0].shape[1], 16), np.float32)
    lengths = whole.run(["encoded_lengths"], {"audio_signal": signal, "length": some})[0]
    found = counted(part, some)
    np.testing.assert_array_equal(found["encoded_lengths"], lengths)
    masks = [name for name, values in found.items() if values.shape == (len(some), 1)]
    assert len(masks) >= 4, "where the masks of each convolution end is counted too"


def test_our_conversion_counts_right_at_every_length(tmp_path: Path) -> None:
    convert(ENCODER, tmp_path / "half.onnx")
    right = counted(cut_lengths(read(ENCODER)), ALL)
    np.testing.assert_array_equal(right["encoded_lengths"], (ALL + 7) // 8)
    ours = counted(cut_lengths(read(tmp_path / "half.onnx")), ALL)
    assert len(miscounted(right, ours, ALL)) == 0


def test_what_a_cpu_hides_is_seen() -> None:
    """All Casts rewritten: a CPU folds the float16 away and counts right, a device miscounts."""
    model = graphs.parsed(texts.LENGTHS)
    part, right = cut(others.blanket(model)), counted(cut(model), ALL)
    (output,) = part.graph.output
    output.type.tensor_type.elem_type = onnx.TensorProto.INT64
    assert len(miscounted(right, graphs.run(part, {"length": ALL}), ALL)) == 0
    wrong = miscounted(right, counted(part, ALL), ALL)
    assert len(wrong) > len(ALL) / 2
    assert wrong[0] == 1025  # (1025 + 0.5) / 2: float16 has no halves there


def test_lengths_that_depend_on_more_cannot_be_cut() -> None:
    model = graphs.parsed(texts.LENGTHS_IN_A_BRANCH)
    model.graph.output[1].name = "encoded_lengths"
    model.graph.node[-2].output[0] = "encoded_lengths"
    assert cut_lengths(graphs.in_memory(model)) is None


def test_a_value_that_is_gone_is_a_difference() -> None:
    right = counted(cut(graphs.parsed(texts.LENGTHS)), ALL)
    np.testing.assert_array_equal(miscounted(right, {}, ALL), ALL)
