"""INT8 conversion: what is rewritten, that values stay, that text stays, that files stay whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from stt.convert import int8
from stt.convert.attention import fuse_relative_attention
from stt.convert.int8 import quantize
from stt.convert.model_file import GraphFile, read, write
from stt.convert.products import cpu_saturates, even_out, pointwise_as_matmul
from stt.convert.weight import Weight
from stt.errors import ModelError
from support.paths import DIGITS

RNG = np.random.default_rng(5)
FLOAT = TensorProto.FLOAT


@pytest.fixture(params=[False, True], ids=["signed", "unsigned"])
def unsigned(request: pytest.FixtureRequest) -> bool:
    """Both forms of weights; the signed are exact on some processors only."""
    if not request.param and cpu_saturates():
        pytest.skip("signed weights saturate on this processor")
    return bool(request.param)


def tensor(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32) * 0.1, name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in read(path).model.graph.node]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_product_takes_in_its_bias_or_factor(tmp_path: Path, unsigned: bool) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "first"),
        helper.make_node("Add", ["b", "p"], ["q"]),
        helper.make_node("MatMul", ["q", "v"], ["r"], "second"),
        helper.make_node("Mul", ["r", "half"], ["y"]),
    ]
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    constants = [tensor("w", 64, 96), tensor("b", 96), tensor("v", 96, 64), half]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [1, "t", 64]}, {"y": [1, "t", 64]})
    report = quantize(model, tmp_path / "q.onnx", unsigned=unsigned)
    assert kinds(tmp_path / "q.onnx") == ["DynamicQuantizeMatMul"] * 2
    assert report.products == 2
    assert report.bytes_after < 0.4 * report.bytes_before
    x = RNG.standard_normal((1, 7, 64)).astype(np.float32)
    assert relative(run(tmp_path / "q.onnx", {"x": x})[0], run(model, {"x": x})[0]) < 0.02


def test_bias_is_left_where_the_product_has_another_use(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "first"),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    constants = [tensor("w", 64, 96), tensor("b", 96)]
    outputs = {"y": [5, 96], "p": [5, 96]}
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [5, 64]}, outputs)
    quantize(model, tmp_path / "q.onnx")
    assert kinds(tmp_path / "q.onnx") == ["DynamicQuantizeMatMul", "Add"]


def test_shared_input_is_quantised_once_and_a_shared_weight_stored_once(
    tmp_path: Path, unsigned: bool
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "one"),
        helper.make_node("MatMul", ["x", "v"], ["z"], "two"),
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["u"], "three"),
    ]
    constants = [tensor("w", 64, 64), tensor("v", 64, 64)]
    outputs = {name: ["t", 64] for name in "yzu"}
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": ["t", 64]}, outputs)
    quantize(model, tmp_path / "q.onnx", unsigned=unsigned)
    found = kinds(tmp_path / "q.onnx")
    assert found.count("DynamicQuantizeLinear") == 1
    assert found.count("MatMulIntegerToFloat") == 2
    assert len(read(tmp_path / "q.onnx").weights) == 2
    x = RNG.standard_normal((9, 64)).astype(np.float32)
    for ours, theirs in zip(run(tmp_path / "q.onnx", {"x": x}), run(model, {"x": x}), strict=True):
        assert relative(ours, theirs) < 0.02


def test_columns_have_scales_of_their_own(tmp_path: Path, unsigned: bool) -> None:
    weight = RNG.standard_normal((64, 64)).astype(np.float32)
    weight[:, 0] *= 1000
    weight[:, 1] = 0
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "one")]
    constants = [numpy_helper.from_array(weight, "w")]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [8, 64]}, {"y": [8, 64]})
    quantize(model, tmp_path / "q.onnx", unsigned=unsigned)
    x = RNG.standard_normal((8, 64)).astype(np.float32)
    ours, theirs = run(tmp_path / "q.onnx", {"x": x})[0], run(model, {"x": x})[0]
    assert relative(ours[:, 2:], theirs[:, 2:]) < 0.02
    assert not ours[:, 1].any()


@pytest.mark.parametrize("bias", [False, True])
def test_one_by_one_convolution_becomes_a_product(
    tmp_path: Path, bias: bool, unsigned: bool
) -> None:
    inputs = ["x", "w", "b"][: 2 + bias]
    nodes = [helper.make_node("Conv", inputs, ["y"], "conv", kernel_shape=[1])]
    constants = [tensor("w", 96, 64, 1), tensor("b", 96)][: 1 + bias]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [2, 64, "t"]}, {"y": [2, 96, "t"]})
    x = RNG.standard_normal((2, 64, 11)).astype(np.float32)
    expected = run(model, {"x": x})[0]
    file = read(model)
    assert pointwise_as_matmul(file) == 1
    write(tmp_path / "f.onnx", file.model, [w for n, w in file.weights.items() if n != "w"])
    exact = onnx.load(tmp_path / "f.onnx")
    assert [node.op_type for node in exact.graph.node].count("MatMul") == 1
    np.testing.assert_allclose(run(tmp_path / "f.onnx", {"x": x})[0], expected, atol=1e-5)
    assert quantize(model, tmp_path / "q.onnx", unsigned=unsigned).convolutions == 1
    assert relative(run(tmp_path / "q.onnx", {"x": x})[0], expected) < 0.02


@pytest.mark.parametrize(
    "attributes", [{"strides": [2]}, {"pads": [1, 1]}, {"group": 2}, {"kernel_shape": [3]}]
)
def test_other_convolutions_stay(tmp_path: Path, attributes: dict[str, Any]) -> None:
    kernel = attributes.get("kernel_shape", [1])[0]
    settings = {"kernel_shape": [kernel]} | attributes
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", **settings),
        helper.make_node("MatMul", ["c", "m"], ["y"], "one"),
    ]
    inputs = 64 // attributes.get("group", 1)
    length = 65 if attributes == {"strides": [2]} else 64
    columns = (length + 2 * bool(attributes.get("pads")) - kernel) // settings.get("strides", [1])[
        0
    ] + 1
    constants = [tensor("w", 64, inputs, kernel), tensor("m", columns, 128)]
    shapes = ({"x": [1, 64, length]}, {"y": [1, 64, 128]})
    report = quantize(save(tmp_path / "m.onnx", nodes, constants, *shapes), tmp_path / "q.onnx")
    assert (report.convolutions, report.products) == (0, 1)
    assert "Conv" in kinds(tmp_path / "q.onnx")


def test_uneven_channels_are_evened_out_exactly(tmp_path: Path, unsigned: bool) -> None:
    gain = np.ones(64, np.float32)
    gain[3] = 100
    first, second = tensor("w", 64, 64), tensor("v", 64, 64)
    shrunk = numpy_helper.to_array(first).copy()
    shrunk[3] /= 100  # the channel is large, what it does is not
    first = numpy_helper.from_array(shrunk, "w")
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "o"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["y"], "one"),
        helper.make_node("MatMul", ["n", "v"], ["z"], "two"),
    ]
    constants = [numpy_helper.from_array(gain, "g"), tensor("o", 64), first, second]
    outputs = {"y": ["t", 64], "z": ["t", 64]}
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": ["t", 64]}, outputs)
    x = RNG.standard_normal((40, 64)).astype(np.float32)
    expected = run(model, {"x": x})
    file = read(model)
    assert even_out(file) == 1
    write(tmp_path / "f.onnx", file.model, file.weights.values())
    for ours, theirs in zip(run(tmp_path / "f.onnx", {"x": x}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert quantize(model, tmp_path / "q.onnx", unsigned=unsigned).smoothed == 1
    assert relative(run(tmp_path / "q.onnx", {"x": x})[0], expected[0]) < 0.03


def test_a_normalisation_with_another_use_is_left(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "o"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["p"], "one"),
        helper.make_node("Add", ["p", "n"], ["y"]),
    ]
    constants = [tensor("g", 64), tensor("o", 64), tensor("w", 64, 64)]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [4, 64]}, {"y": [4, 64]})
    assert quantize(model, tmp_path / "q.onnx").smoothed == 0


def test_weights_used_inside_branches_are_quantised(tmp_path: Path, unsigned: bool) -> None:
    def branch(name: str, weight: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{name}_out", FLOAT, ["t", 64])
        node = helper.make_node("MatMul", ["x", weight], [f"{name}_out"], name)
        return helper.make_graph([node], name, [], [value])

    choice = numpy_helper.from_array(np.array(0, np.float32), "zero")
    branches = {"then_branch": branch("yes", "w"), "else_branch": branch("no", "v")}
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    constants = [tensor("w", 64, 64), tensor("v", 64, 64), choice]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": ["t", 64]}, {"y": ["t", 64]})
    assert quantize(model, tmp_path / "q.onnx", unsigned=unsigned).products == 2
    for sign in (1, -1):
        x = (sign * np.abs(RNG.standard_normal((5, 64)))).astype(np.float32)
        assert relative(run(tmp_path / "q.onnx", {"x": x})[0], run(model, {"x": x})[0]) < 0.02


def test_lstm_and_large_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsigned: bool
) -> None:
    monkeypatch.setattr(int8, "_SMALLEST_EMBEDDING", 4096)
    nodes = [
        helper.make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["e", "ids"], ["rows"], "table"),
        helper.make_node("LSTM", ["rows", "w", "r", "b"], ["s", "h"], "lstm", hidden_size=48),
        helper.make_node("Squeeze", ["s", "axis"], ["y"]),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    constants = [tensor("e", 100, 64), tensor("w", 1, 192, 64), tensor("r", 1, 192, 48)]
    constants += [tensor("b", 1, 384), axis]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [6, 2]}, {"y": [6, 2, 48]})
    report = quantize(model, tmp_path / "q.onnx", unsigned=unsigned)
    assert (report.lstms, report.embeddings) == (1, 1)
    x = RNG.integers(0, 100, (6, 2)).astype(np.float32)
    assert relative(run(tmp_path / "q.onnx", {"x": x})[0], run(model, {"x": x})[0]) < 0.02


def test_keep_takes_names_and_paths_but_no_prefixes(tmp_path: Path) -> None:
    names = ["/a/one", "/a/two", "/ab/one", "/c"]
    ends = ["x", *(f"v{i}" for i in range(3)), "y"]
    nodes = [
        helper.make_node("MatMul", [ends[i], f"w{i}"], [ends[i + 1]], name)
        for i, name in enumerate(names)
    ]
    constants = [tensor(f"w{i}", 64, 64) for i in range(4)]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [3, 64]}, {"y": [3, 64]})
    report = quantize(model, tmp_path / "q.onnx", keep=["/a", "/c"])
    assert report.kept == ("/a/one", "/a/two", "/c")
    assert kinds(tmp_path / "q.onnx").count("MatMul") == 3


def test_a_quantised_file_is_refused(tmp_path: Path) -> None:
    quantize(DIGITS / "encoder-model.onnx", tmp_path / "q.onnx")
    with pytest.raises(ModelError, match="quantised already"):
        quantize(tmp_path / "q.onnx", tmp_path / "again.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"])]
    model = save(tmp_path / "m.onnx", nodes, [], {"x": [3]}, {"y": [3]})
    with pytest.raises(ModelError, match="no FP32 weights"):
        quantize(model, tmp_path / "q.onnx")


def test_the_same_file_comes_out_each_time(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantize(DIGITS / "encoder-model.onnx", tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_weights_are_held_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = most = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            if self.base is None:
                alive -= 1

    def counted(weight: Weight) -> Weight:
        def load() -> np.ndarray:
            nonlocal alive, most
            array = np.ndarray.__new__(Counted, weight.shape, np.float32)
            array[...] = weight.load()
            alive += 1
            most = max(most, alive)
            return array

        return Weight(weight.name, weight.elem_type, weight.shape, weight.nbytes, load)

    def reading(path: Path) -> GraphFile:
        file = read(path)
        floats = {n: counted(w) for n, w in file.weights.items() if w.elem_type == FLOAT}
        return GraphFile(file.model, file.weights | floats)

    monkeypatch.setattr(int8, "read", reading)
    seen: list[tuple[str, int, int]] = []
    quantize(
        DIGITS / "encoder-model.onnx",
        tmp_path / "q.onnx",
        progress=lambda *told: seen.append(told),
    )
    assert 1 <= most <= 2
    assert {stage for stage, _, _ in seen} == {"measure", "write"}
    assert seen[-1][1] == seen[-1][2]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "q.onnx"
    target.write_bytes(b"old")

    def fail(stage: str, done: int, total: int) -> None:
        if stage == "write" and done > total // 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        quantize(DIGITS / "encoder-model.onnx", target, progress=fail)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


@pytest.mark.parametrize("name", ["encoder-model.onnx", "decoder_joint-model.onnx"])
def test_inputs_and_outputs_stay(tmp_path: Path, name: str) -> None:
    quantize(DIGITS / name, tmp_path / "q.onnx")
    before, after = read(DIGITS / name).model.graph, read(tmp_path / "q.onnx").model.graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)


@pytest.mark.parametrize(("frames", "lengths"), [(300, [300]), (301, [300]), (200, [200, 90, 41])])
def test_rewritten_attention_gives_the_same_frames(
    tmp_path: Path, frames: int, lengths: list[int]
) -> None:
    source = DIGITS / "encoder-model.onnx"
    file = read(source)
    assert fuse_relative_attention(file) == 4
    write(tmp_path / "a.onnx", file.model, file.weights.values())
    audio = RNG.standard_normal((len(lengths), 128, frames)).astype(np.float32)
    feeds = {"audio_signal": audio, "length": np.array(lengths, np.int64)}
    expected, counts = run(source, feeds)
    ours, our_counts = run(tmp_path / "a.onnx", feeds)
    np.testing.assert_array_equal(our_counts, counts)
    for one, other, count in zip(ours, expected, counts, strict=True):
        np.testing.assert_allclose(one[:, :count], other[:, :count], atol=2e-4)


def test_digits_are_recognised_as_before(tmp_path: Path, unsigned: bool) -> None:
    import onnx_asr

    for path in DIGITS.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    for part in ("encoder-model", "decoder_joint-model"):
        quantize(tmp_path / f"{part}.onnx", tmp_path / f"{part}.int8.onnx", unsigned=unsigned)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    texts = []
    for quantization in (None, "int8"):
        model = onnx_asr.load_model(
            "nemo-conformer-tdt",
            tmp_path,
            quantization=quantization,
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )
        clips = sorted((DIGITS / "clips").glob("*.flac"))
        audio = [soundfile.read(clip, dtype="float32") for clip in clips]
        texts.append([model.recognize(samples, sample_rate=rate) for samples, rate in audio])
    assert texts[0] == texts[1]
    assert any(texts[0])


@pytest.mark.parametrize("shared", [False, True])
def test_unsigned_weights_give_the_exact_integers(tmp_path: Path, shared: bool) -> None:
    """Activations and weights as large as they get, whose sums no int16 holds."""
    signs = np.where(RNG.standard_normal((64, 64)) > 0, 1, -1).astype(np.float32)
    signs[:, 0], signs[:, 1] = 1, -1
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "one")]
    outputs = {"y": ["t", 64]}
    if shared:
        nodes.append(helper.make_node("MatMul", ["x", "w"], ["z"], "two"))
        outputs["z"] = ["t", 64]
    weight = numpy_helper.from_array(signs, "w")
    model = save(tmp_path / "m.onnx", nodes, [weight], {"x": ["t", 64]}, outputs)
    quantize(model, tmp_path / "q.onnx", unsigned=True)
    for rows in (1, 3, 40):
        x = np.ones((rows, 64), np.float32)
        for found in run(tmp_path / "q.onnx", {"x": x}):
            np.testing.assert_allclose(found, x @ signs, rtol=1e-6, atol=1e-5)


def test_lookups_stay_signed_and_products_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_SMALLEST_EMBEDDING", 4096)
    nodes = [
        helper.make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["e", "ids"], ["rows"], "table"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "one"),
    ]
    constants = [tensor("e", 100, 64), tensor("w", 64, 64)]
    model = save(tmp_path / "m.onnx", nodes, constants, {"x": [6]}, {"y": [6, 64]})
    for saturates, expected in ((True, TensorProto.UINT8), (False, TensorProto.INT8)):
        monkeypatch.setattr(int8, "cpu_saturates", lambda found=saturates: found)
        quantize(model, tmp_path / "q.onnx")
        types = {n: weight.elem_type for n, weight in read(tmp_path / "q.onnx").weights.items()}
        kind = "uint8" if saturates else "int8"
        assert types == {"e/int8/1": TensorProto.INT8, f"w/{kind}/0": expected}
