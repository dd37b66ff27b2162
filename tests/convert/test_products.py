"""What makes products fit for INT8 is exact; whether signed ones are is found by computing some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from onnx.helper import make_node

from stt.convert import products
from stt.convert.graph import tidied
from stt.convert.model_file import GraphFile
from stt.convert.products import cpu_saturates, even_out, largest_products, pointwise_as_matmul
from support import graphs
from support.model_files import taken_apart

EXACT = 64 * 255 * 127
RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32) * np.float32(0.1)


def whole(file: GraphFile) -> ModelProto:
    """The model of a file with its weights in it."""
    kept = {weight.name: weight for weight in tidied(file)}
    for name, weight in kept.items():
        file.model.graph.initializer.append(numpy_helper.from_array(weight.load(), name))
    return file.model


def test_unsigned_products_are_exact_on_every_processor() -> None:
    assert largest_products(255, zero=128).shape == (5, 32)
    assert (largest_products(255, zero=128) == EXACT).all()
    assert (largest_products(1, zero=128) == -EXACT).all()


def test_small_products_are_exact_whatever_the_signs() -> None:
    assert (largest_products(63) == 64 * 255 * 63).all()


def test_it_is_found_by_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_saturates.cache_clear()
    assert cpu_saturates() == bool((largest_products() != EXACT).any())
    for clipped in (False, True):
        found = np.full((5, 32), EXACT)
        found[4, 31] -= clipped  # one sum is enough
        monkeypatch.setattr(products, "largest_products", lambda given=found: given)
        cpu_saturates.cache_clear()
        assert cpu_saturates() == clipped
    cpu_saturates.cache_clear()


@pytest.mark.parametrize("bias", [False, True])
def test_one_by_one_convolution_becomes_a_product(bias: bool) -> None:
    nodes = [make_node("Conv", ["x", "w", "b"][: 2 + bias], ["y"], "conv", kernel_shape=[1])]
    constants = {"w": normal(96, 64, 1), **({"b": normal(96)} if bias else {})}
    model = graphs.made(nodes, constants, {"x": [2, 64, "t"]}, {"y": [2, 96, "t"]})
    x = normal(2, 64, 11)
    expected = graphs.run(model, {"x": x})["y"]
    file = taken_apart(model)
    assert pointwise_as_matmul(file) == 1
    exact = whole(file)
    assert [node.op_type for node in exact.graph.node].count("MatMul") == 1
    np.testing.assert_allclose(graphs.run(exact, {"x": x})["y"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "attributes", [{"strides": [2]}, {"pads": [1, 1]}, {"group": 2}, {"kernel_shape": [3]}]
)
def test_other_convolutions_stay(attributes: dict[str, Any]) -> None:
    settings = {"kernel_shape": [1], **attributes}
    inputs, kernel = 64 // attributes.get("group", 1), settings["kernel_shape"][0]
    nodes = [make_node("Conv", ["x", "w"], ["y"], "conv", **settings)]
    shapes = ({"x": [1, 64, "t"]}, {"y": [1, 64, "u"]})
    file = taken_apart(graphs.made(nodes, {"w": normal(64, inputs, kernel)}, *shapes))
    assert pointwise_as_matmul(file) == 0
    assert [node.op_type for node in file.model.graph.node] == ["Conv"]


def test_uneven_channels_are_evened_out_exactly() -> None:
    gain, first = np.ones(64, np.float32), normal(64, 64)
    gain[3] = 100
    first[3] /= 100  # the channel is large, what it does is not
    nodes = [
        make_node("LayerNormalization", ["x", "g", "o"], ["n"], "norm"),
        make_node("MatMul", ["n", "w"], ["y"], "one"),
        make_node("MatMul", ["n", "v"], ["z"], "two"),
    ]
    constants = {"g": gain, "o": normal(64), "w": first, "v": normal(64, 64)}
    model = graphs.made(nodes, constants, {"x": ["t", 64]}, {"y": ["t", 64], "z": ["t", 64]})
    feed = {"x": 10 * normal(40, 64)}
    expected = graphs.run(model, feed)
    file = taken_apart(model)
    assert even_out(file) == 1
    for name, value in graphs.run(whole(file), feed).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)


def test_a_normalisation_with_another_use_is_left() -> None:
    nodes = [
        make_node("LayerNormalization", ["x", "g", "o"], ["n"], "norm"),
        make_node("MatMul", ["n", "w"], ["p"], "one"),
        make_node("Add", ["p", "n"], ["y"]),
    ]
    constants = {"g": normal(64), "o": normal(64), "w": normal(64, 64)}
    assert even_out(taken_apart(graphs.made(nodes, constants, {"x": [4, 64]}, {"y": [4, 64]}))) == 0
