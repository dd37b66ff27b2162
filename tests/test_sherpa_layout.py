"""sherpa-onnx's halves of a decoder_joint, of benchmarks/, give together what the whole gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from stt.errors import ModelError
from support import tiny_nemo
from support.paths import DIGITS, ROOT

sys.path.append(str(ROOT / "benchmarks"))
from engines import DECODER, ENCODER, JOINER, TOKENS, export


def test_the_halves_give_what_the_whole_gives(tmp_path: Path) -> None:
    export(DIGITS, "fp32", tmp_path)
    whole = onnxruntime.InferenceSession(DIGITS / "decoder_joint-model.onnx")
    decoder = onnxruntime.InferenceSession(tmp_path / DECODER)
    joiner = onnxruntime.InferenceSession(tmp_path / JOINER)
    rng = np.random.default_rng(5)
    shapes = {value.name: value.shape for value in whole.get_inputs()}
    layers, _, width = shapes["input_states_1"]
    frame = rng.normal(size=(1, shapes["encoder_outputs"][1], 1)).astype(np.float32)
    said = {
        "targets": np.array([[2]], np.int32),
        "target_length": np.array([1], np.int32),
        "input_states_1": rng.normal(size=(layers, 1, width)).astype(np.float32),
        "input_states_2": rng.normal(size=(layers, 1, width)).astype(np.float32),
    }
    names = [output.name for output in whole.get_outputs()]
    expected = dict(zip(names, whole.run(None, said | {"encoder_outputs": frame}), strict=True))
    prediction, _, *after = decoder.run(None, said)
    (outputs,) = joiner.run(None, {"encoder_outputs": frame, "decoder_outputs": prediction})
    np.testing.assert_allclose(outputs, expected["outputs"], atol=1e-5)
    for index, state in enumerate(after, 1):
        np.testing.assert_allclose(state, expected[f"output_states_{index}"], atol=1e-6)


def test_the_encoder_says_what_sherpa_onnx_asks(tmp_path: Path) -> None:
    export(DIGITS, "fp32", tmp_path)
    encoder = onnx.load(tmp_path / ENCODER, load_external_data=False)
    told = {entry.key: entry.value for entry in encoder.metadata_props}
    tokens = (tmp_path / TOKENS).read_text("utf-8").splitlines()
    assert int(told["vocab_size"]) == len(tokens) - 1
    assert "tdt" in told["url"]


def test_other_models_are_refused(tmp_path: Path) -> None:
    ctc = tiny_nemo.build(tmp_path / "ctc", "nemo-conformer-ctc")
    with pytest.raises(ModelError, match="nemo-conformer-tdt models only"):
        export(ctc, "fp32", tmp_path)
