"""Float32 models to float16: what changes, what stays, and that the digits model reads the same."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper
from test_casts import bytes_of, counts_right, draws, elem_types, lengths, nodes, quickly, same
from test_casts import settles as settled_well

from stt.convert import casts, graph, model_file
from stt.convert.counting import ENCODED, CountingError, counted, cut_lengths, miscounted
from stt.convert.element_types import FLOAT, FLOAT16, conflicts, infer
from stt.convert.fp16 import convert, size_of, to_fp16, widened
from stt.convert.model_file import GraphFile, read, write
from stt.errors import ModelError
from support import graphs, others
from support.paths import DIGITS

ENCODER, DECODER = DIGITS / "encoder-model.onnx", DIGITS / "decoder_joint-model.onnx"
DURATIONS = (0.3, 1, 5, 20.4, 20.5, 30, 45.0, 47.0, 58.6, 100, 300, 399)
FRAMES = np.array([*range(1, 40_001, 7), *(int(s * 100) + 1 for s in DURATIONS)])


def converted(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    before = bytes_of(model)
    settled, _ = to_fp16(graphs.in_memory(model), **options)
    assert bytes_of(model) == before
    return settled_well(settled)


def input_types(model: onnx.ModelProto, op: str) -> set[int]:
    """Element types of all inputs of the nodes of one operator, of which there are some."""
    types = infer(graphs.in_memory(model))
    found = {types.get(name) for node in nodes(model, op) for name in node.input}
    assert found
    return found


# --- named graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", graphs.CASES)
def test_a_converted_graph_gives_what_the_float32_one_gives(name: str):
    case = graphs.CASES[name]
    model = graphs.build(case.text)
    want = graphs.run(model, case.inputs)
    half = converted(model)
    assert [v.type for v in half.graph.input] == [v.type for v in model.graph.input]
    assert [v.type for v in half.graph.output] == [v.type for v in model.graph.output]
    same(case, want, graphs.run(half, case.inputs))
    if name not in {"microsoft", "loop"}:  # the reference joins what a Loop collects differently
        same(case, want, graphs.evaluate(half, case.inputs))


@pytest.mark.parametrize("op", ["MatMul", "Conv", "LayerNormalization", "Softmax"])
def test_the_heavy_operators_run_in_float16(op: str):
    text = {"Conv": graphs.RESIZE}.get(op, graphs.ATTENTION)
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
    model = graphs.build(graphs.BRANCHES)
    array = np.ones((4, 4), np.float32)
    array[0] = [1e5, -1e5, 1e-9, 0]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
    tally = to_fp16(graphs.in_memory(model))[0].tally
    assert (tally.values, tally.clipped, tally.raised) == (16, 2, 1)


def test_constants_of_all_kinds_become_float16():
    half = converted(graphs.build(graphs.CONSTANTS))
    types = infer(graphs.in_memory(half))
    kinds = {node.output[0]: types.get(node.output[0]) for node in nodes(half, "Constant")}
    assert kinds["some"] == kinds["tensor"] == FLOAT16
    assert kinds["unit"] == TensorProto.INT64
    # one is read by the count and by the features
    assert (kinds["one"], kinds["one_float16"]) == (FLOAT, FLOAT16)


def test_double_and_bfloat16_stay():
    half = converted(graphs.build(graphs.DOUBLES))
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
    half = converted(graphs.build(graphs.ATTENTION), keep=["n_scores", "n_hidden"])
    types = infer(graphs.in_memory(half))
    by_name = {node.name: node for node in half.graph.node}
    for name in ("n_scores", "n_hidden"):
        assert {types.get(i) for i in by_name[name].input} == {FLOAT}
    graphs.run(half, graphs.CASES["attention"].inputs)


def test_the_nodes_that_count_are_reported():
    _, kept = to_fp16(graphs.in_memory(graphs.build(graphs.LENGTHS)))
    assert kept == ("n_counted", "n_raised", "n_divided", "n_floored", "n_encoded_lengths")


def test_declared_types_inside_follow():
    model = graphs.build(graphs.LENGTHS)
    for name in ("mixed", "divided"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, None))
    declared = {v.name: v.type.tensor_type.elem_type for v in converted(model).graph.value_info}
    assert declared == {"mixed": FLOAT16, "divided": FLOAT}


def test_functions_are_written_out():
    assert not converted(graphs.build(graphs.FUNCTION)).functions


def test_an_operator_nobody_knows_keeps_float32_where_its_type_is_declared():
    model = graphs.build(graphs.CUSTOM)
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
        (graphs.HALF_ENDS, "computes in float16 already"),
        (
            "g (float[N] x, double[N] z) => (float[N] y) { y = Add(x, z) }",
            r"node n_y \(Add\) is inconsistent",
        ),
    ],
)
def test_float16_and_an_inconsistent_model_are_refused(text: str, message: str):
    with pytest.raises(ModelError, match=message):
        to_fp16(graphs.in_memory(graphs.build(text)))


@quickly
@given(draws, lengths)
def test_random_graphs_convert_and_count_right(choices: list[int], numbers: list[int]):
    drawn = graphs.random_graph(choices)
    counts_right(drawn, converted(drawn.model), numbers)


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


@cache
def digits_encoder() -> onnx.ModelProto:
    return onnx.load(ENCODER)


def in_runtime(loaded: object, seconds: float) -> list[np.ndarray]:
    """The encoder's outputs for noise."""
    frames = int(seconds * 100) + 1
    features = np.random.default_rng(6).standard_normal((1, 128, frames)).astype(np.float32)
    return loaded.run(None, {"audio_signal": features, "length": np.array([frames])})


session = cache(graphs.session)


@cache
def wanted(seconds: float) -> list[np.ndarray]:
    return in_runtime(session(ENCODER), seconds)


def close(want: list[np.ndarray], got: list[np.ndarray]) -> bool:
    error = np.linalg.norm(want[0] - got[0]) / np.linalg.norm(want[0])
    return np.array_equal(want[1], got[1]) and error < 0.01


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
    assert close(wanted(seconds), in_runtime(session(halved / "encoder-model.fp16.onnx"), seconds))


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
    model = settled_well(casts.fix(graphs.in_memory(theirs)))
    np.testing.assert_array_equal(right_counts()[ENCODED], (FRAMES + 7) // 8)
    assert not miscounts(model)
    loaded = graphs.session(model.SerializeToString())
    for seconds in (5, 20.5):
        assert close(wanted(seconds), in_runtime(loaded, seconds))


@pytest.mark.parametrize("converter", others.ALL)
def test_a_decoder_that_others_converted_well_stays_as_it_is_but_for_its_order(converter: str):
    theirs = others.ALL[converter](onnx.load(DECODER))
    settled = casts.fix(graphs.in_memory(theirs))
    assert settled.changes == ()
    ordered = graph.prepared(graphs.in_memory(theirs)).model
    assert settled_well(settled).graph.node == ordered.graph.node
    graphs.session(settled.file.model.SerializeToString())


def test_the_blanket_rewriting_gets_lengths_wrong():
    frames = np.arange(1, 4101)
    part = cut_lengths(graph.prepared(graphs.in_memory(others.blanket(digits_encoder()))))
    assert part is not None
    wrong = counted(part, frames)[ENCODED] != (frames + 7) // 8
    assert not wrong[frames <= 2048].any()
    assert wrong[frames > 2049].mean() > 0.1


# --- files ----------------------------------------------------------------------------------------


def test_a_conversion_reports_what_it_did(tmp_path: Path):
    done = convert(ENCODER, tmp_path / "new" / "encoder.onnx")
    assert done.bytes_before == size_of(ENCODER)
    assert done.bytes_after == (tmp_path / "new" / "encoder.onnx").stat().st_size
    assert done.nodes == len(digits_encoder().graph.node)
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
    write(path, graphs.build(graphs.HALF_ENDS), [])
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
    model = graphs.build(graphs.LENGTHS)
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        for index in range(count):
            head = TensorProto(name=f"w{index}", data_type=1, dims=shape).SerializeToString()
            node = helper.make_node("MatMul", ["outputs", f"w{index}"], [f"m{index}"], f"n{index}")
            head += model_file._key(9, each)
            tensor = model_file._key(5, len(head) + each) + head
            file.write(model_file._key(7, len(tensor) + each) + tensor)
            file.seek(each - 1, os.SEEK_CUR)
            file.write(b"\0")  # a hole: takes no room
            graph = onnx.GraphProto(node=[node])
            file.write(onnx.ModelProto(graph=graph).SerializeToString())
    command = [sys.executable, "-c", LARGE, str(path), str(tmp_path / "half.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, values = map(float, done.stdout.split())
    assert values > count * shape[0] * shape[1]
    assert peak < 680  # MiB: three times the largest weight, and the libraries
    half = read(tmp_path / "half.onnx")
    assert sum(weight.nbytes for weight in half.weights.values()) == each * count // 2
