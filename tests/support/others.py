"""Other people's float16 converters, as their guides have them."""

from __future__ import annotations

import warnings

import onnx
from onnx import TensorProto


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def usual_recipe(model: onnx.ModelProto, *, in_place: bool = False) -> onnx.ModelProto:
    """Convert with onnxconverter_common 1.16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxconverter_common.float16 import convert_float_to_float16

        return convert_float_to_float16(
            model if in_place else _copy(model), keep_io_types=True, disable_shape_infer=True
        )


def rewrite_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Aim every Cast to float at float16, in place: the usual cure for what does not load."""
    results = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] not in results:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
    return model


def runtime_converter(model: onnx.ModelProto, *, in_place: bool = False) -> onnx.ModelProto:
    """Convert with ONNX Runtime's own converter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.transformers.float16 import convert_float_to_float16

        return convert_float_to_float16(
            model if in_place else _copy(model), keep_io_types=True, disable_shape_infer=True
        )


def blanket(model: onnx.ModelProto) -> onnx.ModelProto:
    """The usual recipe and its usual cure."""
    return rewrite_casts(usual_recipe(model))


ALL = {"usual recipe": usual_recipe, "blanket casts": blanket, "ONNX Runtime's": runtime_converter}
