"""ONNX model files with their large weights left on disk.

`read` takes an ONNX file apart without ever holding its weights: the graph comes as a ModelProto,
each large initializer as a `Weight` that is read when asked for. `write` streams them out one by
one. Both work whether weights lie inside the file or beside it, and inside a file of any size: the
protobuf library refuses messages over 2 GB, but an ONNX file is a protobuf message, so its fields
can be walked (protobuf.dev, "Encoding"), and messages of one type written in a row merge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import GraphProto, ModelProto, TensorProto

from stt.convert.weight import DTYPES, Array, Weight, data_bytes, external, stored, value_of
from stt.errors import ModelError

LARGE = 1024
"""Bytes. Smaller initializers stay in the graph, where shape inference looks into them."""
_INSIDE_LIMIT = 1_900_000_000
"""Bytes up to which `write` puts weights inside the file: protobuf's own limit is 2^31."""

# Field numbers of onnx.proto and wire types of protobuf
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_FLOAT_DATA, _RAW_DATA = 4, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """An ONNX model: the graph in memory, the large weights by name."""

    model: onnx.ModelProto
    """Its initializers are the small ones only; their data lies in the message."""
    weights: dict[str, Weight]


def copied(message: _Message) -> _Message:
    """A copy that belongs to no other message."""
    copy: _Message = type(message)()
    copy.CopyFrom(message)
    return copy


def read(path: Path) -> GraphFile:
    """Read an ONNX file, leaving initializers of 1 KiB or more on disk.

    Raises:
        ModelError: not an ONNX file, cut short, or its external weights are not there.
    """
    rest, graph = bytearray(), bytearray()
    weights: dict[str, Weight] = {}
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            for field, start, body, end in _fields(file, 0, size):
                if field != _MODEL_GRAPH:
                    rest += _span(file, start, end)
                    continue
                for inner, inner_start, inner_body, inner_end in _fields(file, body, end):
                    weight = None
                    if inner == _GRAPH_INITIALIZER and inner_end - inner_body >= LARGE:
                        weight = _tensor(file, inner_body, inner_end, path)
                    if weight is None:
                        graph += _span(file, inner_start, inner_end)
                    else:
                        weights[weight.name] = weight
        model = ModelProto.FromString(bytes(rest))
        model.graph.MergeFromString(bytes(graph))
        _take_out_external(model, path, weights)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (DecodeError, ValueError) as error:
        message = f"{path}: not an ONNX file, or damaged ({error}); fetch it again"
        raise ModelError(message) from error
    if not model.graph.node:
        raise ModelError(f"{path}: holds no ONNX graph; fetch it again")
    return GraphFile(model, weights)


def write(path: Path, model: onnx.ModelProto, weights: Iterable[Weight]) -> None:
    """Write a model, its large weights one at a time, under a temporary name until it is whole.

    Weights go inside the file; into `<name>.data` beside it where that would pass 1.9 GB.

    Raises:
        OSError: e.g. a full disk; nothing is left behind and an older file stays as it was.
    """
    weights = list(weights)
    inside = model.ByteSize() + sum(weight.nbytes for weight in weights) <= _INSIDE_LIMIT
    data = path.with_name(f"{path.name}.data")
    with _unfinished(path) as file:
        file.write(model.SerializeToString())
        if inside:
            for weight in weights:
                _append(file, weight)
            _settle(file)
        else:
            with _unfinished(data) as beside:
                for weight in weights:
                    _append_reference(file, weight, data.name, _store(beside, weight))
                _settle(beside)
                _settle(file)
                # Now a file is missing, which is noticed: old and new never stand together
                path.unlink(missing_ok=True)
                Path(beside.name).replace(data)
        Path(file.name).replace(path)
    if inside:
        data.unlink(missing_ok=True)


def write_beside(path: Path, model: onnx.ModelProto, weights: Iterable[Weight]) -> None:
    """Write a model that shares the weights of another in the same folder.

    Weights that lie in a file there as they are are referred to, others go inside the file.

    Raises:
        OSError: e.g. a full disk; nothing is left behind and an older file stays as it was.
    """
    with _unfinished(path) as file:
        file.write(model.SerializeToString())
        for weight in weights:
            place = weight.place
            if place and place[0].parent == path.parent:
                _append_reference(file, weight, place[0].name, (place[1], weight.nbytes))
            else:
                _append(file, weight)
        _settle(file)
        Path(file.name).replace(path)


@contextmanager
def _unfinished(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name; in the end it is gone, unless it was renamed."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
    finally:
        partial.unlink(missing_ok=True)


def _settle(file: BinaryIO) -> None:
    """Have a file on disk, and closed: an open one cannot be renamed everywhere."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Walk a message: (field number, start of its key, start and end of its content)."""
    position = start
    while position < end:
        key, body = _varint(file, position)
        wire = key & 7
        if wire == _VARINT:
            stop = _varint(file, body)[1]
        elif wire == _BYTES:
            length, body = _varint(file, body)
            stop = body + length
        elif wire in (_FIXED32, _FIXED64):
            stop = body + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"unknown wire type {wire} at byte {position}")
        if stop > end:
            raise ValueError(f"cut short: {end:,} bytes, a field goes on to {stop:,}")
        yield key >> 3, position, body, stop
        position = stop


def _varint(file: BinaryIO, position: int) -> tuple[int, int]:
    """Read a variable-length integer; returns it and the position after it."""
    file.seek(position)
    value = 0
    for index, byte in enumerate(file.read(10)):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"no number at byte {position}")


def _span(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _tensor(file: BinaryIO, start: int, end: int, path: Path) -> Weight | None:
    """Take one initializer inside the file as a Weight, its data passed over; None: leave it."""
    head, raw, packed = bytearray(), None, None
    for field, key, body, stop in _fields(file, start, end):
        if field == _RAW_DATA:
            raw = (body, stop - body)
        elif field == _FLOAT_DATA and stop - body >= LARGE and packed is None:
            packed = (body, stop - body)  # packed floats are laid out as raw data is
        else:
            head += _span(file, key, stop)
    tensor = TensorProto.FromString(bytes(head))
    if tensor.data_location == TensorProto.EXTERNAL:
        return external(tensor, path)
    if raw:
        return stored(tensor, path, *raw)
    if tensor.data_type not in DTYPES:  # strings, and small types in int32_data
        return None
    if packed and tensor.data_type == TensorProto.FLOAT and not tensor.float_data:
        return stored(tensor, path, *packed)
    # int64_data and the like: numbers of varying length; floats in several parts
    shape, nbytes = tuple(tensor.dims), data_bytes(tensor)
    load = partial(_parsed, path, start, end)
    return Weight(tensor.name, tensor.data_type, shape, nbytes, load)


def _parsed(path: Path, start: int, end: int) -> Array:
    with path.open("rb") as file:
        return value_of(TensorProto.FromString(_span(file, start, end))).copy()


def _take_out_external(model: onnx.ModelProto, path: Path, weights: dict[str, Weight]) -> None:
    """Turn references to external data into Weights.

    Small ones are read into the graph, and so are those of Constants and of graphs inside nodes.
    """
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            weight = external(tensor, path)
            if weight.nbytes >= LARGE:
                weights[weight.name] = weight
            else:
                _fill(tensor, weight)
    small = [copied(tensor) for tensor in model.graph.initializer if tensor.name not in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    for tensor in _tensors_of_nodes(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _fill(tensor, external(tensor, path))


def _tensors_of_nodes(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer
                yield from _tensors_of_nodes(inner)


def _fill(tensor: onnx.TensorProto, weight: Weight) -> None:
    """Put the data into a tensor that referred to it."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = weight.load().tobytes()


def _store(file: BinaryIO, weight: Weight) -> tuple[int, int]:
    """Write a weight's bytes; returns where they begin and how many they are."""
    begin = file.tell()
    array = weight.load()
    if array.nbytes != weight.nbytes:
        raise ModelError(f"{weight.name}: {array.nbytes} bytes, not {weight.nbytes}; report this")
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return begin, weight.nbytes


def _append(file: BinaryIO, weight: Weight) -> None:
    """Append one weight as a message that merges into the model: model{graph{initializer}}."""
    head = TensorProto(name=weight.name, data_type=weight.elem_type, dims=weight.shape)
    content = head.SerializeToString() + _key(_RAW_DATA, weight.nbytes)
    tensor = _key(_GRAPH_INITIALIZER, len(content) + weight.nbytes)
    file.write(_key(_MODEL_GRAPH, len(tensor) + len(content) + weight.nbytes) + tensor + content)
    _store(file, weight)


def _append_reference(
    file: BinaryIO, weight: Weight, location: str, place: tuple[int, int]
) -> None:
    tensor = TensorProto(name=weight.name, data_type=weight.elem_type, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": place[0], "length": place[1]}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    file.write(ModelProto(graph=GraphProto(initializer=[tensor])).SerializeToString())


def _key(field: int, length: int) -> bytes:
    """The key and length that stand before `length` bytes of a field."""
    encoded = bytearray([field << 3 | _BYTES])
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
