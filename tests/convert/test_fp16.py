"""Float32 models to float16: what changes, what stays, and that the digits model reads the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_casts import DECODER, DURATIONS, ENCODER

from stt.convert import casts, model_file
from stt.convert.element_types import FLOAT, FLOAT16, conflicts, infer
from stt.convert.fp16 import convert, size_of, to_fp16, widened
from stt.convert.model_file import GraphFile, read, write
from stt.errors import ModelError
from support import graph_texts as texts
from support import graphs
from support.float16 import (
    bytes_of,
    digits_encoder,
    elem_types,
    encodes_alike,
    nodes,
    same,
    session,
    settles,
)
from support.model_files import write_hole


def converted(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    before = bytes_of(model)
    settled, _ = to_fp16(graphs.in_memory(model), **options)
    assert bytes_of(model) == before
    return settles(settled)


def input_types(model: onnx.ModelProto, op: str) -> set[int]:
    """Element types of all inputs of the nodes of one operator, of which there are some."""
    types = infer(graphs.in_memory(model))
    found = {types.get(name) for node in nodes(model, op) for name in node.input}
    assert found
    return found


@pytest.mark.parametrize("name", graphs.CASES)
def test_a_converted_graph_gives_what_the_float32_one_gives(name: str):
    case = graphs.CASES[name]
    model = graphs.build(case.text)
    want = graphs.run(model, case.inputs)
    half = converted(model)
    assert not half.functions  # they are written out
    assert [v.type for v in half.graph.input] == [v.type for v in model.graph.input]
    assert [v.type for v in half.graph.output] == [v.type for v in model.graph.output]
    same(case, want, graphs.run(half, case.inputs))
    if name not in {"microsoft", "loop"}:  # the reference joins what a Loop collects differently
        same(case, want, graphs.evaluate(half, case.inputs))


@pytest.mark.parametrize("op", ["MatMul", "Conv", "LayerNormalization", "Softmax"])
def test_the_heavy_operators_run_in_float16(op: str):
    text = {"Conv": texts.RESIZE}.get(op, texts.ATTENTION)
    assert input_types(converted(graphs.build(text)), op) == {FLOAT16}


def test_positions_far_out_are_as_exact_as_near():
    case = graphs.CASES["positions"]
    model = graphs.build(case.text)
    want, got = (graphs.evaluate(m, case.inputs)["y"] for m in (model, converted(model)))
    assert np.abs(want - got).max() < 0.005


@pytest.mark.parametrize("name", ["attention", "attention by Where"])
def test_masks_keep_what_they_shut_out_at_a_probability_of_zero(name: str):
    model = graphs.build(graphs.CASES[name].text)
    model.graph.output.append(helper.make_empty_tensor_value_info("weights"))
    weights = graphs.evaluate(converted(model), graphs.CASES[name].inputs)["weights"]
    assert np.isfinite(weights).all()
    assert (weights[1, :, 3:] == 0).all()
    assert np.allclose(weights[:2].sum(-1), 1, atol=2e-3)


def test_weights_are_counted_with_those_that_float16_cannot_hold():
    model = graphs.build(texts.BRANCHES)
    array = np.ones((4, 4), np.float32)
    array[0] = [1e5, -1e5, 1e-9, 0]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
    tally = to_fp16(graphs.in_memory(model))[0].tally
    assert (tally.values, tally.clipped, tally.raised) == (16, 2, 1)


def test_constants_of_all_kinds_become_float16():
    half = converted(graphs.build(texts.CONSTANTS))
    types = infer(graphs.in_memory(half))
    kinds = {node.output[0]: types.get(node.output[0]) for node in nodes(half, "Constant")}
    assert kinds["some"] == kinds["tensor"] == FLOAT16
    assert kinds["unit"] == TensorProto.INT64
    # one is read by the count and by the features
    assert (kinds["one"], kinds["one_float16"]) == (FLOAT, FLOAT16)


def test_double_and_bfloat16_stay():
    half = converted(graphs.build(texts.DOUBLES))
    assert elem_types(half)["third"] == TensorProto.DOUBLE
    text = "g (bfloat16[N] x, float[N] z) => (bfloat16[N] y, float[N] v) "
    half = converted(graphs.parsed(text + "{ y = Add(x, x)  v = Add(z, z) }"))
    assert "bfloat16[N] y" in onnx.printer.to_text(half)


KEPT = """
kept (float[N] x, int64 n) => (float[N] y, int64[K] best)
<float[1] w = {0.5}, int64[1] k = {2}, int64 axis = {0}>
{
    h = Mul(x, w)
    s = CumSum(h, axis)
    t, best = TopK(s, k)
    y = Mul(s, w)
}
"""


def test_operators_that_sum_or_rank_stay_float32():
    half = converted(graphs.build(KEPT))
    types = infer(graphs.in_memory(half))
    for op in ("CumSum", "TopK"):
        assert types.get(nodes(half, op)[0].input[0]) == FLOAT
    assert types.get(nodes(half, "Mul")[0].output[0]) == FLOAT16
    graphs.run(half, {"x": np.ones(4, np.float32), "n": np.array(3)})


def test_named_nodes_stay_float32():
    half = converted(graphs.build(texts.ATTENTION), keep=["n_scores", "n_hidden"])
    types = infer(graphs.in_memory(half))
    by_name = {node.name: node for node in half.graph.node}
    for name in ("n_scores", "n_hidden"):
        assert {types.get(i) for i in by_name[name].input} == {FLOAT}
    graphs.run(half, graphs.CASES["attention"].inputs)


def test_the_nodes_that_count_are_reported_and_declared_types_follow():
    model = graphs.build(texts.LENGTHS)
    _, kept = to_fp16(graphs.in_memory(model))
    assert kept == ("n_counted", "n_raised", "n_divided", "n_floored", "n_encoded_lengths")
    for name in ("mixed", "divided"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, None))
    declared = {v.name: v.type.tensor_type.elem_type for v in converted(model).graph.value_info}
    assert declared == {"mixed": FLOAT16, "divided": FLOAT}


def test_an_operator_nobody_knows_keeps_float32_where_its_type_is_declared():
    model = graphs.build(texts.CUSTOM)
    with pytest.raises(ModelError, match=r"n_g \(Warp\)"):
        to_fp16(graphs.in_memory(model))
    model.graph.value_info.append(helper.make_tensor_value_info("g", 1, ["N"]))
    half = converted(model)
    types = infer(graphs.in_memory(half))
    warp = nodes(half, "Warp")[0]
    assert types.get(warp.input[0]) == types.get(warp.output[0]) == FLOAT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (texts.HALF_ENDS, "computes in float16 already"),
        (
            "g (float[N] x, double[N] z) => (float[N] y) { y = Add(x, z) }",
            r"node n_y \(Add\) is inconsistent",
        ),
    ],
)
def test_float16_and_an_inconsistent_model_are_refused(text: str, message: str):
    with pytest.raises(ModelError, match=message):
        to_fp16(graphs.in_memory(graphs.build(text)))


# --- float16 as storage and float16 as arithmetic ---------------------------------------------

ROWS = np.random.default_rng(5).normal(size=(40, 32)).astype(np.float16)
"""2,560 bytes: large enough to lie outside the graph as it is read."""


def table(path: Path, rows: np.ndarray, *, adds_in_half: bool = False) -> GraphFile:
    """Write an embedding kept as it is given: ids -> rows -> float -> twice of them."""
    between = "more = Add(rows, rows)" if adds_in_half else "more = Identity(rows)"
    model = graphs.parsed(
        "stored (int64[n] ids) => (float[n, 32] doubled) <float two = {2}> "
        f"{{ rows = Gather(table, ids) {between} floats = Cast <to = 1> (more) "
        "doubled = Mul(floats, two) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(rows, "table"))
    onnx.save(model, path)
    return read(path)


def test_stored_float16_becomes_float32(tmp_path: Path) -> None:
    stored = table(tmp_path / "model.onnx", ROWS)
    wide = widened(stored)
    assert FLOAT16 not in infer(wide).of.values()
    assert wide.weights["table"].elem_type == FLOAT
    loaded = wide.weights["table"].load()
    assert loaded.nbytes == wide.weights["table"].nbytes
    np.testing.assert_array_equal(loaded, ROWS.astype(np.float32))
    assert stored.weights["table"].elem_type == FLOAT16  # as it was


def test_arithmetic_in_float16_is_left_and_refused(tmp_path: Path) -> None:
    file = table(tmp_path / "model.onnx", ROWS, adds_in_half=True)
    assert widened(file) is file
    with pytest.raises(ModelError, match="computes in float16 already"):
        to_fp16(file)


def test_a_graph_without_float16_comes_back_as_it_is(tmp_path: Path) -> None:
    file = table(tmp_path / "model.onnx", ROWS.astype(np.float32))
    assert widened(file) is file


def test_stored_float16_is_computed_with_in_float16_and_gives_the_same(tmp_path: Path) -> None:
    table(tmp_path / "model.onnx", ROWS)
    convert(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    assert infer(read(tmp_path / "model.fp16.onnx")).get("table") == FLOAT16
    feed = {"ids": np.array([3, 0, 39])}
    found = [graphs.outputs(tmp_path / name, feed)[0] for name in ("model.onnx", "model.fp16.onnx")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


# --- the digits model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(digits_copy: Path) -> Path:
    """The digits model's folder with float16 files beside copies of the float32 ones."""
    for path in (ENCODER, DECODER):
        convert(path, digits_copy / f"{path.stem}.fp16.onnx")
    return digits_copy


def test_the_digits_model_writes_the_same_text_in_float16(
    halved: Path, digits_texts: dict[str, str], recognised: object
):
    assert recognised(halved, "fp16") == digits_texts


def test_the_digits_model_has_half_the_size_and_one_file_each(halved: Path):
    for path in (ENCODER, DECODER):
        half = halved / f"{path.stem}.fp16.onnx"
        assert size_of(half) < 0.63 * size_of(path)
        assert not half.with_name(f"{half.name}.data").exists()
        onnx.checker.check_model(str(half))
        file = read(half)
        assert conflicts(file) == []
        assert casts.fix(file).changes == ()


@pytest.mark.parametrize("seconds", [s for s in DURATIONS if s < 81])
def test_the_digits_encoder_gives_the_same_in_float16(halved: Path, seconds: float):
    assert encodes_alike(session(halved / "encoder-model.fp16.onnx"), seconds)


def test_a_conversion_reports_what_it_did(tmp_path: Path):
    done = convert(ENCODER, tmp_path / "new" / "encoder.onnx")
    assert done.bytes_before == size_of(ENCODER)
    assert done.bytes_after == (tmp_path / "new" / "encoder.onnx").stat().st_size
    assert len(done.kept) == 27
    graph = digits_encoder().graph
    constants = [a.t for node in graph.node for a in node.attribute if node.op_type == "Constant"]
    floats = [t for t in (*graph.initializer, *constants) if t.data_type == FLOAT]
    stored = sum(int(np.prod(t.dims)) for t in floats)
    assert 0.99 * stored < done.tally.values <= stored
    assert all(change.node and change.why for change in done.changes)


def test_weights_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded: list[str] = []
    really = model_file._store

    def store(file: object, weight: model_file.Weight) -> tuple[int, int]:
        assert weight.name not in loaded
        loaded.append(weight.name)
        return really(file, weight)

    fromfile, sizes = np.fromfile, []

    def read_some(*args: object, **options: object) -> np.ndarray:
        array = fromfile(*args, **options)
        sizes.append((len(loaded), array.nbytes))
        return array

    monkeypatch.setattr(model_file, "_store", store)
    monkeypatch.setattr(np, "fromfile", read_some)
    convert(ENCODER, tmp_path / "encoder.onnx")
    assert [position for position, _ in sizes] == sorted({position for position, _ in sizes})
    assert sum(size for _, size in sizes) > 4_000_000


def test_an_error_names_the_file(tmp_path: Path):
    path = tmp_path / "half.onnx"
    write(path, graphs.build(texts.HALF_ENDS), [])
    with pytest.raises(ModelError, match=r"half\.onnx: this model computes in float16"):
        convert(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_weights_inside_the_file_are_converted_too(tmp_path: Path, halved: Path):
    onnx.save(onnx.load(ENCODER), tmp_path / "inside.onnx")
    convert(tmp_path / "inside.onnx", tmp_path / "a.onnx")
    one, two = (
        {weight.name: weight.load().tobytes() for weight in read(path).weights.values()}
        for path in (tmp_path / "a.onnx", halved / "encoder-model.fp16.onnx")
    )
    assert one == two


LARGE = """
import sys
from pathlib import Path
from stt.convert.fp16 import convert
from stt.install.measure import peak_mib
done = convert(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak_mib(), done.tally.values)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="writes holes out")
def test_a_file_over_2_gib_is_converted_in_little_memory(tmp_path: Path):
    path, shape = tmp_path / "large.onnx", (1024, 48 * 1024)
    each, count = 4 * shape[0] * shape[1], 12
    assert each * count > 2**31
    model = graphs.build(texts.LENGTHS)
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        for index in range(count):
            assert write_hole(file, f"w{index}", shape) == each
            node = helper.make_node("MatMul", ["outputs", f"w{index}"], [f"m{index}"], f"n{index}")
            graph = onnx.GraphProto(node=[node])
            file.write(onnx.ModelProto(graph=graph).SerializeToString())
    command = [sys.executable, "-c", LARGE, str(path), str(tmp_path / "half.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, values = map(float, done.stdout.split())
    assert values > count * shape[0] * shape[1]
    assert peak < 680  # MiB: three times the largest weight, and the libraries
    half = read(tmp_path / "half.onnx")
    assert sum(weight.nbytes for weight in half.weights.values()) == each * count // 2
