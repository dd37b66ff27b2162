"""Write an ONNX graph node by node, its large weights streamed into a file beside it.

Weights kept outside the `.onnx` file are mapped by ONNX Runtime instead of being parsed and copied,
so that neither writing nor loading ever holds the model twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["CONTRIB", "GraphWriter"]

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

_OPSET = 20  # Gelu became an operator here; ONNX Runtime 1.17 and later read it
_IR_VERSION = 9
_INLINE_BYTES = 1024  # shape inference looks into small constants only when they are in the file
_ALIGNMENT = 4096  # whole pages, so that a weight can be mapped by itself

Array = npt.NDArray[np.generic]


class GraphWriter:
    """Collects nodes, inputs, outputs and weights of one graph, or of a branch inside it."""

    def __init__(self, name: str, data: BinaryIO, location: str) -> None:
        """`data` receives the large weights; `location` is its file name beside the model."""
        self._name = name
        self._data = data
        self._location = location
        self._ids = count()
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare an input; a string in the shape names a dimension that varies."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declare the value `name`, which a node gives, as an output."""
        self._outputs.append(_value_info(name, dtype, shape))

    def node(
        self, op: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any
    ) -> str:
        """Append an operator with one output, called `name` or something new; returns its name."""
        return self.nodes(
            op, *inputs, names=[name or self.new_name(op)], domain=domain, **attributes
        )[0]

    def nodes(
        self, op: str, *inputs: str, names: Sequence[str], domain: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Append an operator whose outputs are called `names`; returns them."""
        node = helper.make_node(op, inputs, names, self.new_name(op), domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def new_name(self, stem: str) -> str:
        """A name used nowhere else in the model."""
        return f"{stem}_{next(self._ids)}"

    def constant(self, values: npt.ArrayLike, dtype: str = "int64") -> str:
        """A small constant inside the file."""
        return self.weight(self.new_name("constant"), np.asarray(values, dtype))

    def weight(self, name: str, values: Array) -> str:
        """A weight; large ones go to the data file at once."""
        values = np.ascontiguousarray(values)
        if values.nbytes < _INLINE_BYTES:
            self._initializers.append(numpy_helper.from_array(values, name))
            return name
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = _type_id(values.dtype.name)
        place = {"location": self._location, "offset": self._data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(values.data.cast("B"))
        self._initializers.append(tensor)
        return name

    def branch(self, name: str) -> GraphWriter:
        """A graph for one side of an `If`: it sees this graph's values and weights by name."""
        inner = GraphWriter(name, self._data, self._location)
        inner._ids = self._ids  # names must differ from the outer graph's
        return inner

    def graph(self) -> onnx.GraphProto:
        """The graph collected so far."""
        return helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._initializers
        )

    def save(self, path: Path, producer: str) -> None:
        """Check the model and write it to `path`; `onnx.checker.ValidationError` if it is wrong."""
        model = helper.make_model(
            self.graph(),
            producer_name=producer,
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)],
        )
        path.write_bytes(model.SerializeToString())
        self._data.flush()
        onnx.checker.check_model(path)


def _type_id(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _value_info(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _type_id(dtype), shape)
