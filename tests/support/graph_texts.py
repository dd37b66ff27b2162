"""Small graphs with the structures that FP16 conversion breaks on, as `graphs.build` takes them."""

from __future__ import annotations

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
