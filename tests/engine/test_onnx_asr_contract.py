"""What we use of onnx-asr's private parts, held against the pinned release."""

from __future__ import annotations

import inspect
from importlib.metadata import version

from onnx_asr.models.nemo import NemoConformerTdt
from onnx_asr.models.whisper import WhisperHf
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy


def test_the_release_is_the_pinned_one() -> None:
    assert version("onnx-asr") == "0.12.0"


def test_the_transducer_has_what_we_call() -> None:
    for name in (
        "_encode",
        "_create_state",
        "_max_tokens_per_step",
        "_subsampling_factor",
        "window_step",
    ):
        assert hasattr(NemoConformerTdt, name), name
    source = inspect.getsource(inspect.getmodule(NemoConformerTdt))  # type: ignore[arg-type]
    assert "self._encoder = " in source
    assert "self._decoder_joint = " in source
    assert list(inspect.signature(NemoConformerTdt._encode).parameters) == [
        "self",
        "features",
        "features_lens",
    ]


def test_the_file_names_carry_the_precision() -> None:
    assert NemoConformerTdt._get_model_files("fp16") == {
        "encoder": "encoder-model?fp16.onnx",
        "decoder_joint": "decoder_joint-model?fp16.onnx",
        "vocab": "vocab.txt",
    }
    assert WhisperHf._get_model_files(None)["decoder"] == "**/decoder_model_merged.onnx"


def test_the_features_have_a_frame_each_ten_milliseconds() -> None:
    import numpy as np

    features, lengths = NemoPreprocessorNumpy("nemo128")(
        np.zeros((1, 16_000), np.float32), np.array([16_000])
    )
    assert features.shape == (1, 128, 101)
    assert lengths.tolist() == [100]
