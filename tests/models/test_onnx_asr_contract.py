"""What we use of onnx-asr's private parts, held against the pinned release."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from onnx_asr.loader import create_asr_resolver
from onnx_asr.models.nemo import NemoConformerCtc, NemoConformerRnnt, NemoConformerTdt
from onnx_asr.models.whisper import WhisperHf
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

from stt.models.onnx_asr_edge import mel_filters


def test_the_release_is_the_pinned_one() -> None:
    assert version("onnx-asr") == "0.12.0"


def test_the_transducer_has_what_we_call() -> None:
    for name in (
        "_encode",
        "_create_state",
        "_max_tokens_per_step",
        "_subsampling_factor",
        "_features_size",
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


def test_the_kinds_have_their_names_and_files() -> None:
    kinds = {"tdt": NemoConformerTdt, "rnnt": NemoConformerRnnt, "ctc": NemoConformerCtc}
    for name, kind in kinds.items():
        assert create_asr_resolver(f"nemo-conformer-{name}", ".").model_type is kind
    assert NemoConformerRnnt._get_model_files("fp16") == NemoConformerTdt._get_model_files("fp16")
    assert NemoConformerCtc._get_model_files("mixed") == {
        "model": "model?mixed.onnx",
        "vocab": "vocab.txt",
    }


def test_a_ctc_model_has_what_we_call() -> None:
    source = inspect.getsource(NemoConformerCtc)
    assert "self._model = " in source
    assert '["logprobs"]' in source
    assert hasattr(NemoConformerCtc, "_subsampling_factor")
    assert list(inspect.signature(NemoConformerCtc._encode).parameters) == [
        "self",
        "features",
        "features_lens",
    ]


@pytest.mark.parametrize("mels", [80, 128])
def test_the_features_have_a_frame_each_ten_milliseconds(mels: int) -> None:
    import numpy as np

    features, lengths = NemoPreprocessorNumpy(f"nemo{mels}")(
        np.zeros((1, 16_000), np.float32), np.array([16_000])
    )
    assert features.shape == (1, mels, 101)
    assert mel_filters(mels).shape == (257, mels)
    assert lengths.tolist() == [100]
