"""Model files with weights inside and beside them, and what is found in them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stt.convert import model_file
from stt.convert.model_file import GraphFile, read, write
from support import graphs

RNG = np.random.default_rng(5)
BIG = RNG.standard_normal((40, 30)).astype(np.float32)
SMALL = RNG.standard_normal((3,)).astype(np.float32)


def model_of(*tensors: TensorProto) -> onnx.ModelProto:
    """A model that gives each of its initializers as an output."""
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, None) for t in tensors]
    graph = helper.make_graph(nodes, "weights", [], outputs, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def taken_apart(model: onnx.ModelProto) -> GraphFile:
    """A model as it would be read from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), model)
        file = read(path)
        loaded = {name: weight.load() for name, weight in file.weights.items()}
    weights = {n: replace(w, load=loaded[n].copy, place=None) for n, w in file.weights.items()}
    return GraphFile(file.model, weights)


def values_of(file: GraphFile) -> dict[str, np.ndarray]:
    small = {t.name: numpy_helper.to_array(t) for t in file.model.graph.initializer}
    return small | {weight.name: weight.load() for weight in file.weights.values()}


def saved(folder: Path, model: onnx.ModelProto, **external: object) -> Path:
    """The model as onnx writes it; `external` are options of its external data."""
    path = folder / "model.onnx"
    if external:
        onnx.save(model, path, save_as_external_data=True, **external)
    else:
        path.write_bytes(model.SerializeToString())
    return path


def again(path: Path) -> Path:
    """Read a file and write it elsewhere."""
    file = read(path)
    copy = path.parent / "copy" / "copy.onnx"
    copy.parent.mkdir()
    write(copy, file.model, file.weights.values())
    return copy


def same(path: Path, want: dict[str, np.ndarray]) -> None:
    """Our reader, onnx and ONNX Runtime find the same values in a file."""
    theirs = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for found in (values_of(read(path)), theirs, run(path)):
        assert set(found) == set(want)
        for name, array in want.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert np.array_equal(found[name], array), name


def run(path: Path) -> dict[str, np.ndarray]:
    session = graphs.session(path)
    names = [value.name.removesuffix("_out") for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {}), strict=True))


def outside(name: str, elem_type: int, shape: list[int], **entries: object) -> TensorProto:
    tensor = TensorProto(name=name, data_type=elem_type, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def write_hole(file: BinaryIO, name: str, shape: tuple[int, int]) -> int:
    """Append a weight of zeros that takes no room on the disk; returns its bytes."""
    nbytes = 4 * shape[0] * shape[1]
    head = TensorProto(name=name, data_type=1, dims=shape).SerializeToString()
    head += model_file._key(9, nbytes)
    tensor = model_file._key(5, len(head) + nbytes) + head
    file.write(model_file._key(7, len(tensor) + nbytes) + tensor)
    file.seek(nbytes - 1, os.SEEK_CUR)
    file.write(b"\0")
    return nbytes
