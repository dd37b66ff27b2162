"""A decoder_joint taken apart gives what it gave whole; what is none is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from stt.convert import fp16
from stt.convert.int8 import quantize
from stt.convert.model_file import read
from stt.convert.split import split, split_file
from stt.errors import ModelError
from stt.models import FAMILIES
from stt.models.split_transducer import SplitTransducer, load_graph
from support import graphs, tiny_nemo, tiny_tdt
from support.paths import DIGITS

Floats = npt.NDArray[np.float32]
WHOLE = DIGITS / "decoder_joint-model.onnx"
FRAMES, WIDTH, TOKENS, DURATIONS = 9, 128, 49, 5


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, SplitTransducer]:
    """The digits model's decoder_joint in one precision, whole and in parts."""
    import onnxruntime

    precision, folder = request.param, tmp_path_factory.mktemp(request.param)
    whole = folder / f"decoder_joint-model.{precision}.onnx"
    make: dict[str, Callable[[], object]] = {
        "fp32": lambda: whole.write_bytes(WHOLE.read_bytes()),
        "fp16": lambda: fp16.convert(WHOLE, whole),
        "int8": lambda: quantize(WHOLE, whole),
    }
    make[precision]()
    paths = [folder / name for name in FAMILIES["nemo-conformer-tdt"].parts(precision)]
    split_file(whole, paths)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    parts = SplitTransducer(*(load_graph(p, options, ["CPUExecutionProvider"]) for p in paths))
    return precision, graphs.session(whole), parts


def drawn(rows: int, seed: int = 3) -> tuple[Floats, Any, tuple[Floats, Floats]]:
    """Encoder frames [rows, T, D], tokens and states."""
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((rows, FRAMES, WIDTH)).astype(np.float32)
    frames *= np.linspace(0.1, 3.0, FRAMES, dtype=np.float32)[:, None]  # loud and quiet ones
    states = rng.uniform(-0.5, 0.5, (2, 2, rows, WIDTH)).astype(np.float32)
    return frames, rng.integers(0, TOKENS, rows), (states[0], states[1])


def test_the_parts_give_what_the_whole_gives(pair: tuple[str, Any, SplitTransducer]) -> None:
    precision, whole, parts = pair
    bound = {"fp32": 1e-5, "fp16": 2e-3, "int8": 1e-4}[precision]
    frames, tokens, states = drawn(3)
    for row, token in enumerate(tokens):
        state = tuple(s[:, row : row + 1] for s in states)
        for frame in frames[row]:
            logits, *after = whole.run(
                ["outputs", "output_states_1", "output_states_2"],
                {
                    "encoder_outputs": frame[None, :, None],
                    "targets": np.array([[token]], np.int32),
                    "target_length": np.array([1], np.int32),
                    "input_states_1": state[0],
                    "input_states_2": state[1],
                },
            )
            ours, our_after = parts.step(int(token), (state[0], state[1]), frame)
            assert np.linalg.norm(ours - logits.reshape(-1)) <= bound * np.linalg.norm(logits)
            np.testing.assert_allclose(our_after[0], after[0], atol=bound)
            np.testing.assert_allclose(our_after[1], after[1], atol=bound)


def test_a_frame_comes_out_the_same_with_any_neighbours(
    pair: tuple[str, Any, SplitTransducer],
) -> None:
    _, _, parts = pair
    frames, _, _ = drawn(2)
    together = parts.project(frames[0])
    alone = np.concatenate([parts.project(frame[None]) for frame in frames[0]])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    given = np.random.default_rng(1).standard_normal((1, 1, WIDTH)).astype(np.float32)
    feed = {"projected": together[None], "prediction": given}
    (window,) = parts.joint.run(None, feed)
    (one,) = parts.joint.run(None, {**feed, "projected": together[None, 4:5]})
    assert window.shape == (1, FRAMES, TOKENS + DURATIONS)
    np.testing.assert_allclose(window[:, 4:5], one, atol=1e-4)


def test_every_weight_goes_to_one_part(tmp_path: Path) -> None:
    whole, parts = read(WHOLE), split(read(WHOLE))
    found = [set(part.weights) for part in (parts.prediction, parts.projection, parts.joint)]
    assert set.union(*found) == set(whole.weights)
    assert sum(map(len, found)) == len(whole.weights)
    paths = [tmp_path / name for name in FAMILIES["nemo-conformer-tdt"].parts("fp32")]
    split_file(WHOLE, paths)
    for path in paths:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    kinds = [node.op_type for node in onnx.load(paths[2]).graph.node]
    assert "Unsqueeze" not in kinds
    assert "LSTM" not in kinds


def test_names_of_nodes_do_not_matter() -> None:
    renamed = read(WHOLE)
    known = {v.name for v in (*renamed.model.graph.input, *renamed.model.graph.output)}
    known |= set(renamed.weights) | {t.name for t in renamed.model.graph.initializer}
    for node in renamed.model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [n if n in known or not n else f"v{abs(hash(n))}" for n in names]
    ours, theirs = split(renamed), split(read(WHOLE))
    for one, two in (
        (ours.prediction, theirs.prediction),
        (ours.projection, theirs.projection),
        (ours.joint, theirs.joint),
    ):
        assert set(one.weights) == set(two.weights)


# --- what cannot be taken apart -------------------------------------------------------------------


def with_joint(body: str) -> str:
    """A decoder_joint whose logits are computed by `body` from `frame` and `token`, 4-D both."""
    return f"""
decoder (float[B, 4, T] encoder_outputs, int32[B, 1] targets, int32[B] target_length,
         float[1, B, 4] input_states_1, float[1, B, 4] input_states_2)
    => (float[B, T, 1, 4] outputs, int32[B] prednet_lengths,
        float[1, B, 4] output_states_1, float[1, B, 4] output_states_2)
<float[3, 4] table = {{1,0,0,0, 0,1,0,0, 0,0,1,0}}, int64[1] one = {{1}}, int64[1] two = {{2}}>
{{
    rows = Gather(table, targets)
    turned = Transpose <perm = [1, 0, 2]> (input_states_1)
    said = Add(rows, turned)
    output_states_1 = Transpose <perm = [1, 0, 2]> (said)
    output_states_2 = Identity(input_states_2)
    frames = Transpose <perm = [0, 2, 1]> (encoder_outputs)
    frame = Unsqueeze(frames, two)
    token = Unsqueeze(said, one)
    prednet_lengths = Identity(target_length)
    {body}
}}
"""


def taken_apart(path: Path, text: str) -> None:
    onnx.save(graphs.parsed(text), path)
    split_file(
        path, [path.with_name(name) for name in FAMILIES["nemo-conformer-tdt"].parts("fp32")]
    )


def test_a_joint_of_any_frame_wise_operators(tmp_path: Path) -> None:
    taken_apart(tmp_path / "m.onnx", with_joint("sum = Add(frame, token) outputs = Tanh(sum)"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("sum = Add(frame, token) outputs = Softmax <axis = 1> (sum)", "Softmax.*may mix frames"),
        ("more = Tanh(token) sum = Add(frame, token) outputs = Add(sum, more)", "takes 2 values"),
        ("wide = Tanh(frame) outputs = Add(wide, token)", "frame side is not put on an axis"),
        ("flat = Tanh(token) outputs = Add(frame, flat)", "token side is not put on an axis"),
        ("outputs = Identity(frame)", "do not depend on frames and tokens"),
        (
            "f = Cast <to = 1> (target_length) sum = Add(frame, token) outputs = Add(sum, f)",
            "outputs depends on more",
        ),
    ],
)
def test_other_structures_are_refused(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"m.onnx: .*{why}"):
        taken_apart(tmp_path / "m.onnx", with_joint(body))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_models_that_are_no_decoder_joint_are_refused(tmp_path: Path) -> None:
    tdt = tiny_tdt.build(tmp_path / "a")
    rnnt = tiny_nemo.build(tmp_path / "b", "nemo-conformer-rnnt")
    with pytest.raises(ModelError, match="no input named encoder_outputs"):
        split(read(tdt / "encoder-model.onnx"))
    with pytest.raises(ModelError, match="do not depend on frames and tokens"):
        split(read(tdt / "decoder_joint-model.onnx"))
    with pytest.raises(ModelError, match=r"Unsqueeze.* may mix frames"):
        split(read(rnnt / "decoder_joint-model.onnx"))


def test_activations_quantised_together_are_refused(tmp_path: Path) -> None:
    body = """sum = Add(frame, token)
    q, s, z = DynamicQuantizeLinear(sum)
    outputs = DequantizeLinear(q, s, z)"""
    with pytest.raises(ModelError, match="may mix frames"):
        taken_apart(tmp_path / "m.onnx", with_joint(body))
