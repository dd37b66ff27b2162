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
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser
from test_casts import bytes_of, counts_right, elem_types, nodes, same, settles

from stt.convert import casts, graph, model_file
from stt.convert.element_types import conflicts, infer
from stt.convert.fp16 import convert, size_of, to_fp16
from stt.convert.model_file import GraphFile, read, write
from stt.errors import ModelError
from support import graphs, others
from support.paths import DIGITS

DURATIONS = (0.3, 1, 5, 20.4, 20.5, 30, 45.0, 47.0, 58.6, 100, 300, 399)
FRAMES = np.array([*range(1, 4101, 7), *(int(s * 100) + 1 for s in DURATIONS)])


def converted(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    before = bytes_of(model)
    settled, _ = to_fp16(graphs.in_memory(model), **options)
    assert bytes_of(model) == before
    return settles(settled)


# --- named graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", graphs.CASES)
def test_a_converted_graph_gives_what_the_float32_one_gives(name: str):
    case = graphs.CASES[name]
    model = graphs.build(case.text)
    want = graphs.run(model, case.inputs)
    half = converted(model)
    same(case, want, graphs.run(half, case.inputs))
    if name not in {"microsoft", "loop"}:  # the reference joins what a Loop collects differently
        same(case, want, graphs.evaluate(half, case.inputs))


@pytest.mark.parametrize("name", graphs.CASES)
def test_inputs_and_outputs_keep_their_types(name: str):
    model = graphs.build(graphs.CASES[name].text)
    half = converted(model)
    assert [v.type for v in half.graph.input] == [v.type for v in model.graph.input]
    assert [v.type for v in half.graph.output] == [v.type for v in model.graph.output]


@pytest.mark.parametrize("op", ["MatMul", "Conv", "LayerNormalization", "Softmax"])
def test_the_heavy_operators_run_in_float16(op: str):
    text = {"Conv": graphs.RESIZE}.get(op, graphs.ATTENTION)
    half = converted(graphs.build(text))
    types = infer(graphs.in_memory(half))
    assert nodes(half, op)
    for node in nodes(half, op):
        read_types = {types.get(name) for name in node.input}
        assert read_types == {TensorProto.FLOAT16}


def test_positions_far_out_are_as_exact_as_near():
    case = graphs.CASES["positions"]
    model = graphs.build(case.text)
    want = graphs.evaluate(model, case.inputs)["y"]
    got = graphs.evaluate(converted(model), case.inputs)["y"]
    assert np.abs(want - got).max() < 0.005


def test_masks_keep_what_they_shut_out_at_a_probability_of_zero():
    for name in ("attention", "attention by Where"):
        model = graphs.build(graphs.CASES[name].text)
        model.graph.output.append(helper.make_empty_tensor_value_info("weights"))
        half = converted(model)
        weights = graphs.evaluate(half, graphs.CASES[name].inputs)["weights"]
        assert np.isfinite(weights).all()
        assert (weights[1, :, 3:] == 0).all()
        assert np.allclose(weights[:2].sum(-1), 1, atol=2e-3)


def test_weights_are_counted_with_those_that_float16_cannot_hold():
    model = graphs.build(graphs.BRANCHES)
    array = np.ones((4, 4), np.float32)
    array[0] = [1e5, -1e5, 1e-9, 0]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
    settled, _ = to_fp16(graphs.in_memory(model))
    tally = settled.tally
    assert (tally.values, tally.clipped, tally.raised) == (16, 2, 1)


def test_constants_of_all_kinds_become_float16():
    half = converted(graphs.build(graphs.CONSTANTS))
    types = infer(graphs.in_memory(half))
    kinds = {node.output[0]: types.get(node.output[0]) for node in nodes(half, "Constant")}
    assert kinds["some"] == kinds["tensor"] == TensorProto.FLOAT16
    assert kinds["unit"] == TensorProto.INT64
    # one is read by the count and by the features
    assert kinds["one"] == TensorProto.FLOAT
    assert kinds["one_float16"] == TensorProto.FLOAT16


def test_double_and_bfloat16_stay():
    half = converted(graphs.build(graphs.DOUBLES))
    assert elem_types(half)["third"] == TensorProto.DOUBLE
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (bfloat16[N] x, float[N] z) => '
        "(bfloat16[N] y, float[N] v) { y = Add(x, x)  v = Add(z, z) }"
    )
    assert "bfloat16[N] y" in onnx.printer.to_text(converted(model))


KEPT = """
<ir_version: 8, opset_import: ["" : 17]>
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
        assert types.get(nodes(half, op)[0].input[0]) == TensorProto.FLOAT
    assert types.get(nodes(half, "Mul")[0].output[0]) == TensorProto.FLOAT16
    graphs.run(half, {"x": np.ones(4, np.float32), "n": np.array(3)})


def test_named_nodes_stay_float32():
    half = converted(graphs.build(graphs.ATTENTION), keep=["n_scores", "n_hidden"])
    types = infer(graphs.in_memory(half))
    by_name = {node.name: node for node in half.graph.node}
    for name in ("n_scores", "n_hidden"):
        assert {types.get(i) for i in by_name[name].input} == {TensorProto.FLOAT}
    graphs.run(half, graphs.CASES["attention"].inputs)


def test_the_nodes_that_count_are_told():
    _, kept = to_fp16(graphs.in_memory(graphs.build(graphs.LENGTHS)))
    assert kept == ("n_counted", "n_raised", "n_divided", "n_floored", "n_encoded_lengths")


def test_declared_types_inside_follow():
    model = graphs.build(graphs.LENGTHS)
    for name in ("mixed", "divided"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, None))
    declared = {v.name: v.type.tensor_type.elem_type for v in converted(model).graph.value_info}
    assert declared == {"mixed": TensorProto.FLOAT16, "divided": TensorProto.FLOAT}


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
    assert types.get(warp.input[0]) == types.get(warp.output[0]) == TensorProto.FLOAT


def test_a_model_with_float16_in_it_is_refused():
    with pytest.raises(ModelError, match="computes in float16 already"):
        to_fp16(graphs.in_memory(graphs.build(graphs.HALF_ENDS)))


def test_an_inconsistent_model_is_refused_and_the_node_named():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x, double[N] z) => (float[N] y) '
        "{ y = Add(x, z) }"
    )
    with pytest.raises(ModelError, match=r"node y \(Add\) is inconsistent"):
        to_fp16(graphs.in_memory(model))


# --- random graphs ----------------------------------------------------------------------------


@settings(
    max_examples=int(os.environ.get("STT_EXAMPLES", "80")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(
    st.lists(st.integers(0, 2**16), min_size=3, max_size=60),
    st.lists(st.integers(0, 40_000), min_size=1, max_size=4),
)
def test_random_graphs_convert_and_count_right(choices: list[int], numbers: list[int]):
    drawn = graphs.random_graph(choices)
    counts_right(drawn, converted(drawn.model), numbers)


# --- the digits model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model's folder with float16 files beside copies of the float32 ones."""
    folder = tmp_path_factory.mktemp("digits")
    for path in DIGITS.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    for name in ("encoder", "decoder_joint"):
        convert(folder / f"{name}-model.onnx", folder / f"{name}-model.fp16.onnx")
    return folder


@cache
def digits_encoder() -> onnx.ModelProto:
    return onnx.load(DIGITS / "encoder-model.onnx")


@pytest.fixture(scope="module", params=["usual recipe", "blanket casts", "ONNX Runtime's"])
def by_others(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """The digits encoder as others convert it."""
    return others.ALL[request.param](digits_encoder())


def lengths(model: onnx.ModelProto) -> np.ndarray:
    """`encoded_lengths` for all of FRAMES, with float16 that is real."""
    part = graphs.cut(model, "encoded_lengths", {"length": TensorProto.INT64})
    part = graph.prepared(graphs.in_memory(part)).model
    return graphs.evaluate(part, {"length": FRAMES})["encoded_lengths"]


@cache
def right_lengths() -> np.ndarray:
    return lengths(digits_encoder())


def in_runtime(model: onnx.ModelProto | Path, seconds: float) -> list[np.ndarray]:
    """The encoder's outputs for noise."""
    frames = int(seconds * 100) + 1
    features = np.random.default_rng(6).standard_normal((1, 128, frames)).astype(np.float32)
    session = session_of(model if isinstance(model, Path) else model.SerializeToString())
    return session.run(None, {"audio_signal": features, "length": np.array([frames])})


@cache
def session_of(model: Path | bytes) -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    told = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(told, options, providers=["CPUExecutionProvider"])


def close(want: list[np.ndarray], got: list[np.ndarray]) -> bool:
    error = np.linalg.norm(want[0] - got[0]) / np.linalg.norm(want[0])
    return np.array_equal(want[1], got[1]) and error < 0.01


def test_the_digits_model_writes_the_same_text_in_float16(halved: Path):
    import onnx_asr

    models = {
        precision: onnx_asr.load_model(
            "nemo-conformer-tdt", halved, quantization=precision, providers=["CPUExecutionProvider"]
        )
        for precision in (None, "fp16")
    }
    clips = sorted((DIGITS / "clips").glob("*.flac"))
    assert len(clips) == 10
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        texts = {m.recognize(samples, sample_rate=rate) for m in models.values()}
        assert len(texts) == 1, (clip.name, texts)


def test_the_digits_model_has_half_the_size_and_one_file_each(halved: Path):
    for name in ("encoder", "decoder_joint"):
        half = halved / f"{name}-model.fp16.onnx"
        assert size_of(half) < 0.63 * size_of(halved / f"{name}-model.onnx")
        assert not half.with_name(f"{half.name}.data").exists()
        onnx.checker.check_model(str(half))
        file = read(half)
        assert conflicts(file) == []
        assert casts.fix(file).changes == ()


def test_the_digits_encoders_lengths_are_right_at_every_length(halved: Path):
    assert np.array_equal(right_lengths()[: len(range(1, 4101, 7))], (FRAMES[:586] + 7) // 8)
    assert np.array_equal(lengths(onnx.load(halved / "encoder-model.fp16.onnx")), right_lengths())


@pytest.mark.parametrize("seconds", [s for s in DURATIONS if s < 81])
def test_the_digits_encoder_gives_the_same_in_float16(halved: Path, seconds: float):
    want = in_runtime(DIGITS / "encoder-model.onnx", seconds)
    assert close(want, in_runtime(halved / "encoder-model.fp16.onnx", seconds))


def test_the_digits_encoder_others_converted_is_repaired(by_others: onnx.ModelProto):
    settled = casts.fix(graphs.in_memory(by_others))
    model = settles(settled)
    assert np.array_equal(lengths(model), right_lengths())
    for seconds in (5, 20.5):
        want = in_runtime(DIGITS / "encoder-model.onnx", seconds)
        assert close(want, in_runtime(model, seconds))


@pytest.mark.parametrize("converter", others.ALL)
def test_a_decoder_that_others_converted_well_stays_as_it_is_but_for_its_order(converter: str):
    theirs = others.ALL[converter](onnx.load(DIGITS / "decoder_joint-model.onnx"))
    settled = casts.fix(graphs.in_memory(theirs))
    assert settled.changes == ()
    ordered = graph.prepared(graphs.in_memory(theirs)).model
    assert settles(settled).graph.node == ordered.graph.node
    session_of(settled.file.model.SerializeToString())


def test_the_blanket_rewriting_gets_lengths_wrong():
    broken = graph.prepared(graphs.in_memory(others.blanket(digits_encoder()))).model
    wrong = lengths(broken) != right_lengths()
    assert not wrong[FRAMES <= 2048].any()
    assert wrong[FRAMES > 2049].mean() > 0.1


# --- files ----------------------------------------------------------------------------------------


def test_a_conversion_reports_what_it_did(tmp_path: Path):
    told = convert(DIGITS / "encoder-model.onnx", tmp_path / "new" / "encoder.onnx")
    assert told.bytes_before == size_of(DIGITS / "encoder-model.onnx")
    assert told.bytes_after == (tmp_path / "new" / "encoder.onnx").stat().st_size
    assert told.nodes == len(digits_encoder().graph.node)
    assert len(told.kept) == 27
    graph = digits_encoder().graph
    constants = [a.t for node in graph.node for a in node.attribute if node.op_type == "Constant"]
    floats = [t for t in (*graph.initializer, *constants) if t.data_type == TensorProto.FLOAT]
    stored = sum(int(np.prod(t.dims)) for t in floats)
    assert 0.99 * stored < told.tally.values <= stored
    assert all(change.node and change.why for change in told.changes)


def test_weights_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded: list[str] = []
    really = model_file._store

    def store(file: object, weight: model_file.Weight) -> tuple[int, int]:
        assert weight.name not in loaded
        loaded.append(weight.name)
        return really(file, weight)

    fromfile, sizes = np.fromfile, []

    def counted(*args: object, **options: object) -> np.ndarray:
        array = fromfile(*args, **options)
        sizes.append((len(loaded), array.nbytes))
        return array

    monkeypatch.setattr(model_file, "_store", store)
    monkeypatch.setattr(np, "fromfile", counted)
    convert(DIGITS / "encoder-model.onnx", tmp_path / "encoder.onnx")
    assert [position for position, _ in sizes] == sorted({position for position, _ in sizes})
    assert sum(size for _, size in sizes) > 4_000_000


def test_an_error_names_the_file(tmp_path: Path):
    path = tmp_path / "half.onnx"
    write(path, graphs.build(graphs.HALF_ENDS), [])
    with pytest.raises(ModelError, match=r"half\.onnx: this model computes in float16"):
        convert(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_weights_inside_the_file_are_converted_too(tmp_path: Path):
    inside = tmp_path / "inside.onnx"
    onnx.save(onnx.load(DIGITS / "encoder-model.onnx"), inside)
    for source, name in ((inside, "a.onnx"), (DIGITS / "encoder-model.onnx", "b.onnx")):
        convert(source, tmp_path / name)
    arrays = [
        {weight.name: weight.load().tobytes() for weight in read(tmp_path / n).weights.values()}
        for n in ("a.onnx", "b.onnx")
    ]
    assert arrays[0] == arrays[1]


LARGE = """
import sys
from pathlib import Path
from stt.convert.fp16 import convert
from stt.install.measure import peak_mib
told = convert(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak_mib(), told.tally.values)
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
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(path), str(tmp_path / "half.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, values = map(float, done.stdout.split())
    assert values > count * shape[0] * shape[1]
    assert peak < 680  # MiB: three times the largest weight, and the libraries
    half = read(tmp_path / "half.onnx")
    assert isinstance(half, GraphFile)
    assert sum(weight.nbytes for weight in half.weights.values()) == each * count // 2
