"""The search for what must stay FP32: finds the culprits, leaves nothing out that matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

from stt.convert import mixed
from stt.convert.element_types import FLOAT, infer
from stt.convert.fp16 import Conversion
from stt.convert.mixed import Trial, search, within
from stt.convert.model_file import read
from stt.errors import ModelError
from support import graphs

LAYERS = 6


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers of a scale, a product and an activation, named as NeMo's exporter names them."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], {}, "x"
    for layer in range(LAYERS):
        weights[f"w{layer}"] = rng.standard_normal((8, 8)).astype(np.float32) / 3
        path = f"/layers.{layer}/part"
        nodes.append(make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"], f"{path}/MatMul"))
        value = f"t{layer}"
        nodes.append(make_node("Tanh", [f"m{layer}"], [value], f"{path}/Tanh"))
    file = tmp_path_factory.mktemp("chain") / "chain.onnx"
    onnx.save(graphs.made(nodes, weights, {"x": ["n", 8]}, {value: ["n", 8]}), file)
    return file


def in_fp32(path: Path) -> set[str]:
    """Nodes of a converted chain that give float32."""
    file = read(path)
    types = infer(file)
    return {n.name for n in file.model.graph.node if n.name and types.get(n.output[0]) == FLOAT}


def needing(culprits: set[str]) -> mixed.Holds:
    """A judge that wants these nodes in FP32."""

    def holds(path: Path) -> tuple[bool, str]:
        missing = culprits - in_fp32(path)
        return not missing, f"{len(missing)} missing"

    return holds


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sets(st.sampled_from([f"/layers.{i}/part/MatMul" for i in range(LAYERS)])))
def test_exactly_the_culprits_stay(chain: Path, tmp_path: Path, culprits: set[str]) -> None:
    trials: list[Trial] = []
    found = search(chain, tmp_path / "out.onnx", needing(culprits), trials.append)
    assert {group.split("/")[0] for group in found.kept} == {c.split("/")[1] for c in culprits}
    assert in_fp32(tmp_path / "out.onnx") >= culprits
    assert len(trials) == found.trials
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]


def test_nothing_stays_where_float16_holds(chain: Path, tmp_path: Path) -> None:
    found = search(chain, tmp_path / "out.onnx", lambda path: (True, "fine"))
    assert (found.kept, found.trials) == ((), 1)
    assert isinstance(found.conversion, Conversion)


def test_a_tolerance_that_fp32_misses_is_an_error(chain: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not hold even in FP32"):
        search(chain, tmp_path / "out.onnx", lambda path: (False, "bad"))
    assert list(tmp_path.iterdir()) == []


def test_a_tolerance_is_measured_on_inputs(chain: Path, tmp_path: Path) -> None:
    feeds = [{"x": np.random.default_rng(3).standard_normal((5, 8)).astype(np.float32)}]
    assert search(chain, tmp_path / "wide.onnx", within(chain, feeds, rtol=0.05)).kept == ()
    tight = search(chain, tmp_path / "tight.onnx", within(chain, feeds, rtol=1e-6))
    assert tight.kept
    assert within(chain, feeds, rtol=1e-6)(tmp_path / "tight.onnx")[0]


def test_the_picture_shows_what_is_in_fp32() -> None:
    trial = Trial(7, ("a", "b", "c", "d"), frozenset({"b", "d"}), True, "error 1 %")
    assert trial.picture() == "  7 [.#.#] holds, error 1 %"
    many = tuple(map(str, range(200)))
    assert len(Trial(1, many, frozenset(), False, "").picture().split("]")[0]) == 69
