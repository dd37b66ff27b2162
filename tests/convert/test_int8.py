"""INT8 conversion: what is rewritten, that values stay, that text stays, that files stay whole."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from stt.convert import int8
from stt.convert.int8 import quantize
from stt.convert.model_file import GraphFile, read
from stt.convert.products import cpu_saturates
from stt.convert.weight import Weight
from stt.errors import ModelError
from support import graphs
from support.paths import DIGITS, ROOT

RNG = np.random.default_rng(5)
FLOAT = TensorProto.FLOAT
ENCODER, DECODER = DIGITS / "encoder-model.onnx", DIGITS / "decoder_joint-model.onnx"


@pytest.fixture(params=[False, True], ids=["signed", "unsigned"])
def unsigned(request: pytest.FixtureRequest) -> bool:
    """Both forms of weights; the signed are exact on some processors only."""
    if not request.param and cpu_saturates():
        pytest.skip("signed weights saturate on this processor")
    return bool(request.param)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Case:
    """A model of a few nodes and its quantised file."""

    def __init__(
        self,
        folder: Path,
        nodes: list[onnx.NodeProto],
        constants: dict[str, np.ndarray],
        inputs: dict[str, list[Any]],
        outputs: dict[str, list[Any]],
        **options: Any,
    ) -> None:
        self.model = graphs.made(nodes, constants, inputs, outputs)
        onnx.save(self.model, folder / "m.onnx")
        self.path = folder / "q.onnx"
        self.report = quantize(folder / "m.onnx", self.path, **options)

    @property
    def kinds(self) -> list[str]:
        return [node.op_type for node in read(self.path).model.graph.node]

    def errors(self, x: np.ndarray) -> list[float]:
        """Of each output, relative to its size."""
        theirs = graphs.run(self.model, {"x": x}).values()
        pairs = zip(graphs.outputs(self.path, {"x": x}), theirs, strict=True)
        return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]


def weights(*names: str, rows: int = 64, columns: int = 64) -> dict[str, np.ndarray]:
    return {name: 0.1 * normal(rows, columns) for name in names}


def test_product_takes_in_its_bias_or_factor(tmp_path: Path, unsigned: bool) -> None:
    nodes = [
        make_node("MatMul", ["x", "w"], ["p"], "first"),
        make_node("Add", ["b", "p"], ["q"]),
        make_node("MatMul", ["q", "v"], ["r"], "second"),
        make_node("Mul", ["r", "half"], ["y"]),
    ]
    constants = weights("w", columns=96) | weights("v", rows=96)
    constants |= {"b": 0.1 * normal(96), "half": np.array(0.5, np.float32)}
    shapes = ({"x": [1, "t", 64]}, {"y": [1, "t", 64]})
    case = Case(tmp_path, nodes, constants, *shapes, unsigned=unsigned)
    assert case.kinds == ["DynamicQuantizeMatMul"] * 2
    assert case.report.products == 2
    assert case.report.bytes_after < 0.4 * case.report.bytes_before
    assert case.errors(normal(1, 7, 64))[0] < 0.02


def test_bias_is_left_where_the_product_has_another_use(tmp_path: Path) -> None:
    nodes = [
        make_node("MatMul", ["x", "w"], ["p"], "first"),
        make_node("Add", ["p", "b"], ["y"]),
    ]
    constants = weights("w", columns=96) | {"b": normal(96)}
    case = Case(tmp_path, nodes, constants, {"x": [5, 64]}, {"y": [5, 96], "p": [5, 96]})
    assert case.kinds == ["DynamicQuantizeMatMul", "Add"]


def test_shared_input_is_quantised_once_and_a_shared_weight_stored_once(
    tmp_path: Path, unsigned: bool
) -> None:
    nodes = [
        make_node("MatMul", ["x", "w"], ["y"], "one"),
        make_node("MatMul", ["x", "v"], ["z"], "two"),
        make_node("Tanh", ["x"], ["t"]),
        make_node("MatMul", ["t", "w"], ["u"], "three"),
    ]
    shapes = ({"x": ["t", 64]}, {name: ["t", 64] for name in "yzu"})
    case = Case(tmp_path, nodes, weights("w", "v"), *shapes, unsigned=unsigned)
    assert case.kinds.count("DynamicQuantizeLinear") == 1
    assert case.kinds.count("MatMulIntegerToFloat") == 2
    assert len(read(case.path).weights) == 2
    assert max(case.errors(normal(9, 64))) < 0.02


def test_columns_have_scales_of_their_own(tmp_path: Path, unsigned: bool) -> None:
    weight = normal(64, 64)
    weight[:, 0] *= 1000
    weight[:, 1] = 0
    nodes = [make_node("MatMul", ["x", "w"], ["y"], "one")]
    shapes = ({"x": [8, 64]}, {"y": [8, 64]})
    case = Case(tmp_path, nodes, {"w": weight}, *shapes, unsigned=unsigned)
    x = normal(8, 64)
    ours, theirs = graphs.outputs(case.path, {"x": x})[0], graphs.run(case.model, {"x": x})["y"]
    assert np.linalg.norm(ours[:, 2:] - theirs[:, 2:]) < 0.02 * np.linalg.norm(theirs[:, 2:])
    assert not ours[:, 1].any()


@pytest.mark.parametrize("bias", [False, True])
def test_a_one_by_one_convolution_is_quantised(tmp_path: Path, bias: bool, unsigned: bool) -> None:
    nodes = [make_node("Conv", ["x", "w", "b"][: 2 + bias], ["y"], "conv", kernel_shape=[1])]
    constants = {"w": 0.1 * normal(96, 64, 1)} | ({"b": 0.1 * normal(96)} if bias else {})
    shapes = ({"x": [2, 64, "t"]}, {"y": [2, 96, "t"]})
    case = Case(tmp_path, nodes, constants, *shapes, unsigned=unsigned)
    assert case.report.convolutions == 1
    assert case.errors(normal(2, 64, 11))[0] < 0.02


def test_another_convolution_stays_beside_a_product(tmp_path: Path) -> None:
    nodes = [
        make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3]),
        make_node("MatMul", ["c", "m"], ["y"], "one"),
    ]
    constants = {"w": normal(64, 64, 3)} | weights("m", rows=62, columns=128)
    case = Case(tmp_path, nodes, constants, {"x": [1, 64, 64]}, {"y": [1, 64, 128]})
    assert (case.report.convolutions, case.report.products) == (0, 1)
    assert "Conv" in case.kinds


def test_uneven_channels_are_evened_out(tmp_path: Path, unsigned: bool) -> None:
    gain, constants = np.ones(64, np.float32), weights("w")
    gain[3] = 100
    constants["w"][3] /= 100  # the channel is large, what it does is not
    nodes = [
        make_node("LayerNormalization", ["x", "g", "o"], ["n"], "norm"),
        make_node("MatMul", ["n", "w"], ["y"], "one"),
    ]
    constants |= {"g": gain, "o": 0.1 * normal(64)}
    shapes = ({"x": ["t", 64]}, {"y": ["t", 64]})
    case = Case(tmp_path, nodes, constants, *shapes, unsigned=unsigned)
    assert case.report.smoothed == 1
    assert case.errors(normal(40, 64))[0] < 0.03


def test_weights_used_inside_branches_are_quantised(tmp_path: Path, unsigned: bool) -> None:
    def branch(name: str, weight: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{name}_out", FLOAT, ["t", 64])
        node = make_node("MatMul", ["x", weight], [f"{name}_out"], name)
        return helper.make_graph([node], name, [], [value])

    branches = {"then_branch": branch("yes", "w"), "else_branch": branch("no", "v")}
    nodes = [
        make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        make_node("Greater", ["sum", "zero"], ["positive"]),
        make_node("If", ["positive"], ["y"], **branches),
    ]
    constants = weights("w", "v") | {"zero": np.array(0, np.float32)}
    shapes = ({"x": ["t", 64]}, {"y": ["t", 64]})
    case = Case(tmp_path, nodes, constants, *shapes, unsigned=unsigned)
    assert case.report.products == 2
    for sign in (1, -1):
        assert case.errors(sign * np.abs(normal(5, 64)))[0] < 0.02


def test_lstm_and_large_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsigned: bool
) -> None:
    monkeypatch.setattr(int8, "_SMALLEST_EMBEDDING", 4096)
    nodes = [
        make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        make_node("Gather", ["e", "ids"], ["rows"], "table"),
        make_node("LSTM", ["rows", "w", "r", "b"], ["s", "h"], "lstm", hidden_size=48),
        make_node("Squeeze", ["s", "axis"], ["y"]),
    ]
    constants = {"w": normal(1, 192, 64), "r": normal(1, 192, 48), "b": normal(1, 384)}
    constants = {name: 0.1 * value for name, value in constants.items()}
    constants |= weights("e", rows=100) | {"axis": np.array([1], np.int64)}
    shapes = ({"x": [6, 2]}, {"y": [6, 2, 48]})
    case = Case(tmp_path, nodes, constants, *shapes, unsigned=unsigned)
    assert (case.report.lstms, case.report.embeddings) == (1, 1)
    assert case.errors(RNG.integers(0, 100, (6, 2)).astype(np.float32))[0] < 0.02


def test_keep_takes_names_and_paths_but_no_prefixes(tmp_path: Path) -> None:
    names = ["/a/one", "/a/two", "/ab/one", "/c"]
    ends = ["x", "v0", "v1", "v2", "y"]
    nodes = [
        make_node("MatMul", [ends[i], f"w{i}"], [ends[i + 1]], name) for i, name in enumerate(names)
    ]
    constants = weights(*(f"w{i}" for i in range(4)))
    shapes = ({"x": [3, 64]}, {"y": [3, 64]})
    case = Case(tmp_path, nodes, constants, *shapes, keep=["/a", "/c"])
    assert case.report.kept == ("/a/one", "/a/two", "/c")
    assert case.kinds.count("MatMul") == 3


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no FP32 weights"):
        Case(tmp_path, [make_node("Tanh", ["x"], ["y"])], {}, {"x": [3]}, {"y": [3]})


@pytest.mark.parametrize("shared", [False, True])
def test_unsigned_weights_give_the_exact_integers(tmp_path: Path, shared: bool) -> None:
    """Activations and weights as large as they get, whose sums no int16 holds."""
    signs = np.where(normal(64, 64) > 0, 1, -1).astype(np.float32)
    signs[:, 0], signs[:, 1] = 1, -1
    names = "yz"[: 1 + shared]
    nodes = [make_node("MatMul", ["x", "w"], [name], name) for name in names]
    shapes = ({"x": ["t", 64]}, {name: ["t", 64] for name in names})
    case = Case(tmp_path, nodes, {"w": signs}, *shapes, unsigned=True)
    for rows in (1, 3, 40):
        x = np.ones((rows, 64), np.float32)
        for found in graphs.outputs(case.path, {"x": x}):
            np.testing.assert_allclose(found, x @ signs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("saturates", [True, False])
def test_lookups_stay_signed_and_products_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saturates: bool
) -> None:
    monkeypatch.setattr(int8, "_SMALLEST_EMBEDDING", 4096)
    monkeypatch.setattr(int8, "cpu_saturates", lambda: saturates)
    nodes = [
        make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        make_node("Gather", ["e", "ids"], ["rows"], "table"),
        make_node("MatMul", ["rows", "w"], ["y"], "one"),
    ]
    constants = weights("e", rows=100) | weights("w")
    case = Case(tmp_path, nodes, constants, {"x": [6]}, {"y": [6, 64]})
    types = {name: weight.elem_type for name, weight in read(case.path).weights.items()}
    kind = "uint8" if saturates else "int8"
    expected = TensorProto.UINT8 if saturates else TensorProto.INT8
    assert types == {"e/int8/1": TensorProto.INT8, f"w/{kind}/0": expected}


# --- the digits model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits encoder in INT8, alone in a folder."""
    path = tmp_path_factory.mktemp("int8") / "q.onnx"
    quantize(ENCODER, path)
    return path


def test_a_quantised_file_is_refused(quantised: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantised already"):
        quantize(quantised, tmp_path / "again.onnx")
    assert not list(tmp_path.iterdir())
    assert [path.name for path in quantised.parent.iterdir()] == ["q.onnx"]


def test_weights_are_held_one_at_a_time_and_the_same_file_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantised: Path
) -> None:
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
    quantize(ENCODER, tmp_path / "q.onnx", progress=lambda *event: seen.append(event))
    assert 1 <= most <= 2
    assert {stage for stage, _, _ in seen} == {"measure", "write"}
    assert seen[-1][1] == seen[-1][2]
    assert (tmp_path / "q.onnx").read_bytes() == quantised.read_bytes()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "q.onnx"
    target.write_bytes(b"old")

    def fail(stage: str, done: int, total: int) -> None:
        if stage == "write" and done > total // 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        quantize(ENCODER, target, progress=fail)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


def test_digits_are_recognised_as_before(
    digits_copy: Path, unsigned: bool, digits_texts: dict[str, str], recognised: Any
) -> None:
    for source in (ENCODER, DECODER):
        target = digits_copy / f"{source.stem}.int8.onnx"
        quantize(source, target, unsigned=unsigned)
        before, after = read(source).model.graph, read(target).model.graph
        assert list(before.input) == list(after.input)
        assert list(before.output) == list(after.output)
    assert recognised(digits_copy, "int8") == digits_texts


@pytest.mark.parametrize("verbose", [False, True])
def test_the_script_quantises_a_folder(
    digits_copy: Path, verbose: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "quantize_int8.py"))
    script["quantize_folder"](digits_copy, [], verbose)
    reported = capsys.readouterr()
    assert "encoder-model.int8.onnx: " in reported.out
    assert bool(reported.err) == verbose
