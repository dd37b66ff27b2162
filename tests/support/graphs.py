"""Small graphs with the structures that FP16 conversion breaks on, and random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, parser

from stt.convert.model_file import GraphFile

LENGTHS = """
encoder (float[B, 4, T] audio_signal, int64[B] length)
    => (float[B, 4, T] outputs, int64[B] encoded_lengths)
<float[4, 4] w, float two = {2}, float half = {0.5}>
{
    counted = Cast <to = 1> (length)
    raised = Add(counted, half)
    divided = Div(raised, two)
    floored = Floor(divided)
    encoded_lengths = Cast <to = 7> (floored)
    turned = Transpose <perm = [0, 2, 1]> (audio_signal)
    mixed = MatMul(turned, w)
    back = Transpose <perm = [0, 2, 1]> (mixed)
    outputs = Relu(back)
}
"""
"""Features beside the length arithmetic of NeMo's encoder."""

LENGTHS_MADE_OF_MORE = """
encoder (float[N] x, int64[N] length) => (float[N] y, int64[N] frames, int64[N] ends)
<float[1] w = {0.7}, float eight = {8}, int64 first = {0}>
{
    shape = Shape(length)
    ones = ConstantOfShape <value = float[1] {1}> (shape)
    counted = Cast <to = 1> (length)
    more = Add(counted, ones)
    wide = Cast <to = 11> (more)
    narrow = Cast <to = 1> (wide)
    positive = Relu(narrow)
    divided = Div(positive, eight)
    floored = Floor(divided)
    frames = Cast <to = 7> (floored)
    summed = CumSum(counted, first)
    ends = Cast <to = 7> (summed)
    y = Mul(x, w)
}
"""
"""Length arithmetic through ones of a shape, double, Relu and a running sum."""

LENGTHS_IN_A_BRANCH = """
encoder (float[N] x, int64[N] length, bool padded) => (float[N] y, int64[N] frames)
<float[1] w = {0.7}, float eight = {8}, float one = {1}>
{
    counted = Cast <to = 1> (length)
    chosen = If (padded) <
        then_branch = more () => (float[N] m) { m = Add(counted, one) },
        else_branch = same () => (float[N] s) { s = Identity(counted) }
    >
    divided = Div(chosen, eight)
    floored = Floor(divided)
    frames = Cast <to = 7> (floored)
    y = Mul(x, w)
}
"""
"""Length arithmetic that goes through an If."""

PADDING = """
padded (float[B, T, 4] x, int64[B] length) => (float[B, T, 4] y, float[B, 4] mean)
<float[4, 4] w, int64 zero = {0}, int64 unit = {1}, int64[1] first = {0}, int64[1] last = {-1},
 int64[1] time = {1}, int64[1] nothing = {0}>
{
    size = Shape <start = 1, end = 2> (x)
    frames = Squeeze(size)
    steps = Range(zero, frames, unit)
    row = Unsqueeze(steps, first)
    ends = Unsqueeze(length, last)
    real = Less(row, ends)
    kept = Cast <to = 1> (real)
    column = Unsqueeze(kept, last)
    whole = Shape(x)
    spread = Expand(column, whole)
    h = MatMul(x, w)
    y = Mul(h, spread)
    total = ReduceSum <keepdims = 0> (y, time)
    counted = ReduceSum <keepdims = 0> (spread, time)
    mean = Div(total, counted)
}
"""
"""A padding mask that is cast, spread and multiplied with, as NeMo's subsampling has it."""

ATTENTION = """
bert (int64[B, T] ids, int64[B, T] mask) => (float[B, T, 8] hidden)
<float[50, 8] words, float[8, 8] wq, float[8, 8] wk, float[8, 8] wv,
 float one = {1}, float never = {-3.4e38}, float scale = {0.35},
 int64[1] axis = {1}, float[8] gain, float[8] shift>
{
    embedded = Gather(words, ids)
    q = MatMul(embedded, wq)
    k = MatMul(embedded, wk)
    v = MatMul(embedded, wv)
    kt = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul(q, kt)
    scaled = Mul(scores, scale)
    wide = Unsqueeze(mask, axis)
    keep = Cast <to = 1> (wide)
    drop = Sub(one, keep)
    bias = Mul(drop, never)
    masked = Add(scaled, bias)
    weights = Softmax <axis = -1> (masked)
    mixed = MatMul(weights, v)
    summed = Add(embedded, mixed)
    hidden = LayerNormalization <axis = -1> (summed, gain, shift)
}
"""
"""A transformer layer whose attention mask comes from integers; "never" is the lowest float."""

ATTENTION_WHERE = """
attention (float[B, T, 4] x, int64[B, T] mask) => (float[B, T, 4] y)
<float[4, 4] w, int64 zero = {0}, int64[1] axis = {1}, float[1] none = {0}>
{
    h = MatMul(x, w)
    turned = Transpose <perm = [0, 2, 1]> (h)
    scores = MatMul(h, turned)
    wide = Unsqueeze(mask, axis)
    padded = Equal(wide, zero)
    size = Shape(scores)
    whole = Expand(padded, size)
    filled = ConstantOfShape <value = float[1] {-3.4028235e38}> (size)
    nothing = ConstantOfShape (size)
    masked = Where(whole, filled, scores)
    weights = Softmax <axis = -1> (masked)
    cleared = Where(whole, nothing, weights)
    y = MatMul(cleared, h)
}
"""
"""The other common mask: Where with a constant of the lowest float."""

POSITIONS = """
rotary (float[B, T, 4] x) => (float[B, T, 4] y)
<float[4] speed = {1, 0.1, 0.01, 0.001}, int64 zero = {0}, int64 unit = {1}, int64[1] last = {1}>
{
    shape = Shape <start = 1, end = 2> (x)
    time = Squeeze(shape)
    steps = Range(zero, time, unit)
    counted = Cast <to = 1> (steps)
    column = Unsqueeze(counted, last)
    angles = Mul(column, speed)
    waves = Sin(angles)
    y = Add(x, waves)
}
"""
"""Positions made from integers: as float16 they would stop at 2,048."""

BRANCHES = """
branches (float[N, 4] x, bool yes) => (float[N, 4] y)
<float[4, 4] w>
{
    h = MatMul(x, w)
    z = If (yes) <
        then_branch = left () => (float[N, 4] l) { l = MatMul(h, w) },
        else_branch = right () => (float[N, 4] r) { r = Relu(h) }
    >
    y = Add(z, h)
}
"""
"""An If whose branches read values from around them."""

NESTED_BRANCHES = """
nested (float[N, 4] x, bool yes) => (float[N, 4] y)
<float[4, 4] w>
{
    h = MatMul(x, w)
    z = If (yes) <
        then_branch = left () => (float[N, 4] l) {
            l = If (yes) <
                then_branch = inner () => (float[N, 4] i) { i = MatMul(h, w) },
                else_branch = other () => (float[N, 4] o) { o = Add(h, x) }
            >
        },
        else_branch = right () => (float[N, 4] r) { h_float = Relu(h)  r = Relu(h_float) }
    >
    y = Add(z, h)
}
"""
"""An If in an If; one of its values has the name that a Cast of `h` would get."""

LOOP = """
loop (float[N, 4] x) => (float[N, 4] y, float[K, N, 4] steps)
<float[4, 4] w, int64 times = {3}, bool go = {1}>
{
    h = MatMul(x, w)
    s = Tanh(h)
    carried, steps = Loop (times, go, h) <
        body = one (int64 i, bool on, float[N, 4] before)
            => (bool still, float[N, 4] after, float[N, 4] seen)
        {
            still = Identity(on)
            mixed = MatMul(before, w)
            after = Add(mixed, s)
            seen = Tanh(after)
        }
    >
    y = Add(carried, h)
}
"""
"""A Loop that carries a float and reads two from around it."""

SCAN = """
scan (float[T, 4] x) => (float[T, 4] y, float[4] last)
<float[4, 4] w, float[4] start = {0, 0, 0, 0}>
{
    h = MatMul(x, w)
    last, sums = Scan <num_scan_inputs = 1, body = one (float[4] before, float[4] row)
        => (float[4] after, float[4] out)
        { after = Add(before, row)  out = Tanh(after) }
    > (start, h)
    y = Add(sums, h)
}
"""

RESIZE = """
resize (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y)
<float[2, 2, 1, 1] w, float[4] scales = {1, 1, 2, 2}>
{
    h = Conv(x, w)
    y = Resize <mode = "nearest"> (h, , scales)
}
"""
"""Resize takes its scales in float32 whatever it resizes."""

MICROSOFT = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
fused (float[B, T, 8] x) => (float[B, T, 8] y)
<float[8, 8] w, float[8] gain, float[8] shift, float[8] bias>
{
    h = com.microsoft.FusedMatMul <alpha = 0.5> (x, w)
    n = com.microsoft.SkipLayerNormalization <epsilon = 0.00001> (h, x, gain, shift)
    y = com.microsoft.BiasGelu (n, bias)
}
"""

TWO_READERS = """
two (float[N] x, int64[N] n) => (float[N] y, int64[N] k, float[N] f)
<float scale = {0.25}>
{
    c = Cast <to = 1> (n)
    d = Mul(c, scale)
    g = Ceil(d)
    k = Cast <to = 7> (g)
    e = Mul(x, scale)
    y = Add(e, c)
    f = Cast <to = 1> (n)
}
"""
"""A constant and a Cast read by both precisions, and a Cast that feeds an output."""

CONSTANTS = """
constants (float[N] x, int64[N] n) => (float[N] y, int64[N] k)
{
    one = Constant <value_float = 1.0> ()
    some = Constant <value_floats = [0.25]> ()
    tensor = Constant <value = float {1e-9}> ()
    unit = Constant <value_int = 1> ()
    c = Cast <to = 1> (n)
    d = Add(c, one)
    f = Floor(d)
    i = Cast <to = 7> (f)
    k = Add(i, unit)
    a = Add(x, one)
    b = Mul(a, some)
    y = Add(b, tensor)
}
"""

DOUBLES = """
doubles (float[N] x) => (float[N] y, double[N] z)
<double third = {0.3333333333333333}, float[1] w = {0.5}>
{
    wide = Cast <to = 11> (x)
    z = Mul(wide, third)
    narrow = Cast <to = 1> (z)
    y = Mul(narrow, w)
}
"""

HALF_ENDS = """
half (float16[N] x, int64[N] n) => (float16[N] y, int64[N] k, float16[N] same)
<float16[1] w = {14336}, float16 eight = {18432}>
{
    c = Cast <to = 10> (n)
    d = Div(c, eight)
    f = Floor(d)
    k = Cast <to = 7> (f)
    y = Mul(x, w)
    same = Identity(x)
}
"""
"""Somebody's model that takes and gives float16, its lengths too (the bits of 0.5 and of 8)."""

FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
calls (float[N] x, int64[N] n) => (float[N] y, int64[N] k)
<float[1] w = {0.5}>
{
    h = local.twice (x)
    y = Mul(h, w)
    k = local.halved (n)
}
<domain: "local", opset_import: ["" : 17]>
twice (a) => (b)
{
    two = Constant <value = float {2}> ()
    b = Mul(a, two)
}
<domain: "local", opset_import: ["" : 17]>
halved (a) => (b)
{
    two = Constant <value = float {2}> ()
    c = Cast <to = 1> (a)
    d = Div(c, two)
    f = Floor(d)
    b = Cast <to = 7> (f)
}
"""
"""Two functions of the model's own, one of them counting."""

CUSTOM = """
<ir_version: 8, opset_import: ["" : 17, "somebody" : 1]>
custom (float[N] x) => (float[N] y)
<float[1] w = {0.5}>
{
    h = Mul(x, w)
    g = somebody.Warp (h)
    y = Mul(g, w)
}
"""
"""An operator that nobody has a schema of."""


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


@dataclass(frozen=True)
class Case:
    """A graph and what to run it on."""

    text: str
    inputs: dict[str, np.ndarray]
    tolerance: float = 0.02
    rows: int | None = None
    """How many of the first axis have a meaning; what is padding only must be finite."""


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(2)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    n = np.array([0, 1, 2047, 2049, 4095, 5999, 32767, 40000])
    x = normal(len(n))
    mask = np.array([[1] * 7, [1] * 3 + [0] * 4, [0] * 7])
    yes, no = {"yes": np.array(True)}, {"yes": np.array(False)}
    return {
        "lengths": Case(LENGTHS, {"audio_signal": normal(8, 4, 6), "length": n}),
        "lengths made of more": Case(LENGTHS_MADE_OF_MORE, {"x": x, "length": n}),
        "lengths in a branch": Case(
            LENGTHS_IN_A_BRANCH, {"x": x, "length": n, "padded": np.array(True)}
        ),
        "padding": Case(PADDING, {"x": normal(2, 3000, 4), "length": np.array([3000, 2051])}),
        "attention": Case(ATTENTION, {"ids": rng.integers(0, 50, (3, 7)), "mask": mask}, rows=2),
        "attention by Where": Case(ATTENTION_WHERE, {"x": normal(3, 7, 4), "mask": mask}),
        "positions": Case(POSITIONS, {"x": normal(1, 5000, 4)}, tolerance=0.15),
        "branches, yes": Case(BRANCHES, {"x": normal(3, 4), **yes}),
        "branches, no": Case(BRANCHES, {"x": normal(3, 4), **no}),
        "nested branches, yes": Case(NESTED_BRANCHES, {"x": normal(3, 4), **yes}),
        "nested branches, no": Case(NESTED_BRANCHES, {"x": normal(3, 4), **no}),
        "loop": Case(LOOP, {"x": normal(3, 4)}),
        "scan": Case(SCAN, {"x": normal(5, 4)}),
        "resize": Case(RESIZE, {"x": normal(1, 2, 4, 4)}),
        "microsoft": Case(MICROSOFT, {"x": normal(2, 3, 8)}),
        "two readers": Case(TWO_READERS, {"x": x, "n": n}, tolerance=20),
        "constants": Case(CONSTANTS, {"x": x, "n": n}),
        "doubles": Case(DOUBLES, {"x": x}),
        "function": Case(FUNCTION, {"x": x, "n": n}),
    }


HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def parsed(text: str) -> onnx.ModelProto:
    """Parse a graph, whose head may be missing, and name its nodes."""
    text = text.strip()
    model = parser.parse_model(text if text.startswith("<ir") else f"{HEAD} {text}")
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    return model


def build(text: str) -> onnx.ModelProto:
    """Parse a graph and draw the weights it gives no values for."""
    model = parsed(text)
    rng = np.random.default_rng(1)
    made = {name for node in model.graph.node for name in node.output}
    for value in model.graph.value_info:
        if value.name not in made:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            drawn = rng.standard_normal(shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(drawn, value.name))
    del model.graph.value_info[:]
    return model


def made(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
) -> onnx.ModelProto:
    """A checked model of float32 inputs and outputs."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


CASES = _cases()


def in_memory(model: onnx.ModelProto) -> GraphFile:
    """A GraphFile whose weights are all in the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return GraphFile(copy, {})


def session(model: Path | bytes, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """On one thread: more of them wait for each other in a loop, which costs processor time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if not optimised:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def outputs(model: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a file in ONNX Runtime."""
    return session(model).run(None, inputs)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Load in ONNX Runtime, which checks the types, and run as the graph is written.

    Optimised, a CPU without float16 arithmetic hides it by running whole chains in float32.
    """
    loaded = session(model.SerializeToString(), optimised=False)
    names = [value.name for value in loaded.get_outputs()]
    return dict(zip(names, loaded.run(None, inputs), strict=True))


def evaluate(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in the reference implementation, whose float16 is real."""
    from onnx.reference import ReferenceEvaluator

    names = [value.name for value in model.graph.output]
    with np.errstate(all="ignore"):
        return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))


@dataclass(frozen=True)
class Drawn:
    """A random graph: `x` and `n` in; `y` of floats and `k` counted from `n` alone out."""

    model: onnx.ModelProto
    smooth: bool
    """Whether no rounding or comparing of floats from `x` leads to `y`."""


_BINARY = ("Add", "Mul", "Sub", "Max", "Div")
_UNARY = ("Floor", "Tanh", "Relu", "Neg")
_CONSTANTS = {"zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "eight": 8.0}


@dataclass
class _Value:
    name: str
    pure: bool
    """Made of `n` and constants alone."""
    smooth: bool = True


def random_graph(choices: list[int]) -> Drawn:
    """Draw a graph of elementwise nodes by a list of numbers, three for a node."""
    floats = [_Value("x", False), _Value("c", True), *(_Value(c, True) for c in _CONSTANTS)]
    ints = [_Value("n", True)]
    nodes = [
        helper.make_node("Cast", ["n"], ["c"], "cast_n", to=1),
        helper.make_node("Constant", [], ["eight"], "eight", value_float=8.0),
    ]
    draws = iter(choices)
    for index, (op, first, second) in enumerate(zip(draws, draws, draws, strict=False)):
        left, right = floats[first % len(floats)], floats[second % len(floats)]
        nodes += _drawn(index, op % 16, left, right, ints[first % len(ints)], floats, ints)
    data = [value for value in floats if not value.pure]
    nodes.append(helper.make_node("Add", [data[-1].name, floats[-1].name], ["y"], "last"))
    pure = [value.name for value in ints if value.pure]
    nodes.append(helper.make_node("Identity", [pure[-1]], ["k"], "count"))
    info = helper.make_tensor_value_info
    stored = {name: np.array([v], np.float32) for name, v in _CONSTANTS.items() if name != "eight"}
    graph = helper.make_graph(
        nodes,
        "random",
        [info("x", 1, ["N"]), info("n", 7, ["N"])],
        [info("y", 1, ["N"]), info("k", 7, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Drawn(model, data[-1].smooth and floats[-1].smooth)


def _drawn(
    index: int,
    kind: int,
    left: _Value,
    right: _Value,
    whole: _Value,
    floats: list[_Value],
    ints: list[_Value],
) -> Iterator[onnx.NodeProto]:
    name, out = f"node{index}", f"v{index}"
    inner = f"{out}_inner"
    pure, smooth = left.pure and right.pure, left.smooth and right.smooth

    def node(op: str, *inputs: str, output: str = out, **attributes: int) -> onnx.NodeProto:
        label = name if output == out else f"{name}_inner"
        return helper.make_node(op, inputs, [output], label, **attributes)

    if kind < 5:
        yield node(_BINARY[kind], left.name, right.name)
    elif kind < 9:
        op = _UNARY[kind - 5]
        yield node(op, left.name)
        pure, smooth = left.pure, left.smooth and (left.pure or op != "Floor")
    elif kind < 11:
        yield node("Cast", left.name, to=7)
        ints.append(_Value(out, left.pure, left.smooth and left.pure))
        return
    elif kind == 11:
        yield node("Cast", whole.name, to=1)
        pure, smooth = whole.pure, whole.smooth
    elif kind == 12:  # a comparison that chooses: a minimum, without jumps
        yield node("Less", left.name, right.name, output=inner)
        yield node("Where", inner, left.name, right.name)
    elif kind == 13:  # a mask
        yield node("Less", left.name, right.name, output=inner)
        yield node("Cast", inner, to=1)
        smooth = smooth and pure
    elif kind == 14:
        yield node("Shape", left.name, output=inner)
        yield node("Expand", right.name, inner)
        pure, smooth = right.pure, right.smooth
    else:
        yield node("Cast", left.name, output=inner, to=11)
        yield node("Cast", inner, to=1)
        pure, smooth = left.pure, left.smooth
    floats.append(_Value(out, pure, smooth))
