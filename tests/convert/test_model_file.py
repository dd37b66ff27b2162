"""ONNX files read and written with their weights left on disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stt.convert import model_file
from stt.convert.model_file import read, write
from stt.convert.weight import Weight
from stt.errors import ModelError
from support import graph_texts as texts
from support import graphs
from support.model_files import BIG, SMALL, again, model_of, outside, run, same, saved, write_hole

KINDS = {
    "float": BIG,
    "half": BIG.astype(np.float16),
    "double": BIG.astype(np.float64),
    "int8": (BIG * 30).astype(np.int8),
    "int64": (BIG * 1e6).astype(np.int64),
    "small": SMALL,
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


def kinds() -> onnx.ModelProto:
    return model_of(*(numpy_helper.from_array(array, name) for name, array in KINDS.items()))


@pytest.mark.parametrize(
    "external",
    [
        {},
        {"location": "weights.bin", "size_threshold": 0},
        {"location": "weights.bin", "size_threshold": 1024},
        {"all_tensors_to_one_file": False, "size_threshold": 1024},
    ],
    ids=["inside", "all beside", "large beside", "a file each"],
)
def test_weights_survive_reading_and_writing(tmp_path: Path, external: dict[str, object]):
    path = saved(tmp_path, kinds(), **external)
    assert set(read(path).weights) == {"float", "half", "double", "int8", "int64"}
    same(again(path), KINDS)


@pytest.mark.parametrize(
    ("elem_type", "array"),
    [
        (TensorProto.FLOAT, BIG),
        (TensorProto.DOUBLE, BIG.astype(np.float64)),
        (TensorProto.INT64, (BIG * 1e6).astype(np.int64)),
        (TensorProto.INT32, (BIG * 1e6).astype(np.int32)),
        (TensorProto.INT8, (BIG * 30).astype(np.int8)),
        (TensorProto.UINT64, np.abs(BIG * 1e6).astype(np.uint64)),
    ],
)
def test_numbers_in_typed_fields_are_read(tmp_path: Path, elem_type: int, array: np.ndarray):
    tensor = helper.make_tensor("w", elem_type, array.shape, array.reshape(-1).tolist())
    assert not tensor.raw_data
    path = saved(tmp_path, model_of(tensor))
    assert set(read(path).weights) == {"w"}
    same(again(path), {"w": array})


def test_floats_in_pieces_are_read(tmp_path: Path):
    """Protobuf lets a repeated field come in several packed parts."""
    head = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=BIG.shape).SerializeToString()
    flat = BIG.reshape(-1)
    for part in (flat[:600], flat[600:]):
        head += TensorProto(float_data=part.tolist()).SerializeToString()
    model = model_of(TensorProto.FromString(head))
    del model.graph.initializer[:]
    content = model_file._key(5, len(head)) + head
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString() + model_file._key(7, len(content)) + content)
    same(path, {"w": BIG})


def test_strings_stay_in_the_graph(tmp_path: Path):
    words = [f"word {number}".encode() for number in range(300)]
    tensor = helper.make_tensor("words", TensorProto.STRING, [300], words)
    path = again(saved(tmp_path, model_of(tensor)))
    assert list(onnx.load(path).graph.initializer[0].string_data) == words


def test_external_data_of_constants_and_of_graphs_inside_nodes_comes_along(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(BIG.tobytes() + SMALL.tobytes())
    big = outside("w", 1, [40, 30], location="w.bin", offset=0, length=BIG.nbytes)
    small = outside("s", 1, [3], location="w.bin", offset=BIG.nbytes, length=SMALL.nbytes)
    out = helper.make_tensor_value_info("out", 1, [3])
    given = helper.make_node("Identity", ["s"], ["out"])
    inner = helper.make_graph([given], "inner", [], [out], [small])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value_int=1),
        helper.make_node("Cast", ["yes"], ["cond"], to=TensorProto.BOOL),
        helper.make_node("Constant", [], ["w_out"], value=big),
        helper.make_node("If", ["cond"], ["s_out"], then_branch=inner, else_branch=inner),
    ]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in ("w_out", "s_out")]
    graph = helper.make_graph(nodes, "outer", [], outputs)
    model = model_of()
    model.graph.CopyFrom(graph)
    found = run(again(saved(tmp_path, model)))
    assert np.array_equal(found["w"], BIG)
    assert np.array_equal(found["s"], SMALL)


# --- what is refused ------------------------------------------------------------------------------


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path):
    whole = kinds().SerializeToString()
    path = tmp_path / "model.onnx"
    for size in [*range(1, 200, 3), *range(200, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            file = read(path)
            # cut between two fields nothing is damaged, but outputs are missing
            if len(file.model.graph.output) < len(KINDS) or not file.model.opset_import:
                raise ModelError("fields are missing")


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>", b"\xff" * 4096, b"\0" * 100, b"RIFF\x24\0\0\0WAVE"]
)
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path / "gone.onnx")


# --- size and memory ------------------------------------------------------------------------------


def sparse_model(path: Path, gib: float) -> int:
    """One file with a weight of zeros inside it; holes in it take no room on the disk."""
    rows = int(gib * 2**30) // 4096
    model = model_of()
    model.graph.node.add(op_type="Identity", input=["small"], output=["out"])
    model.graph.initializer.append(numpy_helper.from_array(SMALL, "small"))
    info = helper.make_tensor_value_info("out", 1, [3])
    model.graph.output.append(info)
    with path.open("wb") as file:
        nbytes = write_hole(file, "w", (rows, 1024))
        file.write(model.SerializeToString())
    return nbytes


@pytest.mark.skipif(os.name == "nt", reason="writes holes out")
def test_a_file_over_2_gib_with_its_weights_inside_is_read_without_them(tmp_path: Path):
    path = tmp_path / "large.onnx"
    nbytes = sparse_model(path, 2.3)
    tracemalloc.start()
    file = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert file.weights["w"].nbytes == nbytes > 2**31
    assert [node.op_type for node in file.model.graph.node] == ["Identity"]
    assert [tensor.name for tensor in file.model.graph.initializer] == ["small"]


def counted(sizes: list[int], alive: list[int]) -> Iterator[Weight]:
    """Weights that know how many of their arrays are in memory."""

    class Counted(np.ndarray):
        def __del__(self) -> None:
            if self.base is None:
                alive[0] -= 1

    def load(size: int) -> np.ndarray:
        alive[0] += 1
        alive[1] = max(alive)
        array = Counted(size, np.float32)
        array[:] = 1
        return array

    for index, size in enumerate(sizes):
        yield Weight(f"w{index}", 1, (size,), 4 * size, lambda size=size: load(size))


@pytest.fixture(params=[10**9, 0], ids=["inside", "beside"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Weights inside the file and beside it."""
    monkeypatch.setattr(model_file, "_INSIDE_LIMIT", request.param)
    return request.param


@pytest.mark.usefixtures("limit")
def test_weights_are_in_memory_one_at_a_time(tmp_path: Path):
    alive = [0, 0]
    write(tmp_path / "m.onnx", graphs.build(texts.LENGTHS), counted([1000] * 20, alive))
    assert alive == [0, 1]
    assert len(read(tmp_path / "m.onnx").weights) == 20


def test_weights_over_the_limit_lie_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = saved(tmp_path, kinds())
    monkeypatch.setattr(model_file, "_INSIDE_LIMIT", 10_000)
    copy = again(path)
    assert sorted(p.name for p in copy.parent.iterdir()) == ["copy.onnx", "copy.onnx.data"]
    assert copy.stat().st_size < 4000
    same(copy, KINDS)


def test_a_small_model_leaves_no_old_weights_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = read(saved(tmp_path, kinds()))
    path = tmp_path / "out.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(model_file, "_INSIDE_LIMIT", 10_000)
        write(path, file.model, file.weights.values())
    assert path.with_name("out.onnx.data").exists()
    write(path, file.model, file.weights.values())
    assert not path.with_name("out.onnx.data").exists()
    same(path, KINDS)


@pytest.mark.usefixtures("limit")
def test_a_file_may_be_written_over_itself(tmp_path: Path):
    path = saved(tmp_path, kinds(), location="model.onnx.data", size_threshold=0)
    for _ in range(2):
        file = read(path)
        write(path, file.model, file.weights.values())
        same(path, KINDS)


# --- a full disk, a kill --------------------------------------------------------------------------


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("there_before", [False, True])
def test_a_full_disk_leaves_things_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
):
    path = tmp_path / "m.onnx"
    model = graphs.build(texts.LENGTHS)
    if there_before:
        write(path, model, counted([1000, 2000], [0, 0]))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    left = [3]
    really = model_file._store

    def store(file: object, weight: Weight) -> tuple[int, int]:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(file, weight)

    monkeypatch.setattr(model_file, "_store", store)
    with pytest.raises(OSError, match="No space"):
        write(path, model, counted([3000] * 5, [0, 0]))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


KILLED = """
import sys, time
from pathlib import Path
import numpy as np, onnx
from stt.convert.model_file import write
from stt.convert.weight import Weight
model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => '
                                '(float[N] y) { y = Relu(x) }')
def load(index):
    if index == 2:
        print("in the middle", flush=True)
        time.sleep(60)
    return np.ones(1000, np.float32)
weights = [Weight(f"w{i}", 1, (1000,), 4000, lambda i=i: load(i)) for i in range(4)]
write(Path(sys.argv[1]), model, weights)
"""


@pytest.mark.skipif(os.name == "nt", reason="no signal that kills outright")
def test_a_kill_in_the_middle_leaves_no_file_and_the_next_run_clears_up(tmp_path: Path):
    path = tmp_path / "m.onnx"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not path.exists()
    write(path, graphs.build(texts.LENGTHS), counted([1000], [0, 0]))
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_weight_of_another_size_than_announced_is_an_error(tmp_path: Path):
    wrong = Weight("w", 1, (10,), 40, lambda: np.ones(9, np.float32))
    with pytest.raises(ModelError, match="36 bytes, not 40"):
        write(tmp_path / "m.onnx", graphs.build(texts.LENGTHS), [wrong])
    assert list(tmp_path.iterdir()) == []
