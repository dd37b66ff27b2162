"""What we use of onnx-asr's private parts, held against the pinned release."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from onnx_asr.loader import Manager, create_asr_resolver
from onnx_asr.models.nemo import NemoConformerCtc, NemoConformerRnnt, NemoConformerTdt
from onnx_asr.models.whisper import WhisperHf
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

from stt.models.onnx_asr_edge import mel_filters


def test_the_release_is_the_pinned_one() -> None:
    assert version("onnx-asr") == "0.12.0"


@pytest.mark.parametrize(
    ("kind", "names", "lines"),
    [
        (
            NemoConformerTdt,
            ("_create_state", "_max_tokens_per_step", "_features_size", "window_step"),
            ("self._encoder = ", "self._decoder_joint = "),
        ),
        (NemoConformerCtc, (), ("self._model = ", '["logprobs"]')),
    ],
)
def test_a_model_has_what_we_call(
    kind: type, names: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    for name in ("_encode", "_subsampling_factor", *names):
        assert hasattr(kind, name), name
    source = inspect.getsource(inspect.getmodule(kind))  # type: ignore[arg-type]
    assert all(line in source for line in lines)
    parameters = inspect.signature(kind._encode).parameters  # type: ignore[attr-defined]
    assert list(parameters) == ["self", "features", "features_lens"]


def test_the_resampler_is_loaded_where_we_leave_it_out() -> None:
    assert list(inspect.signature(Manager._create_resampler).parameters) == ["self", "sample_rate"]
    assert "self._create_resampler(" in inspect.getsource(Manager._create_asr_adapter)


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


@pytest.mark.parametrize("mels", [80, 128])
def test_the_features_have_a_frame_each_ten_milliseconds(mels: int) -> None:
    import numpy as np

    features, lengths = NemoPreprocessorNumpy(f"nemo{mels}")(
        np.zeros((1, 16_000), np.float32), np.array([16_000])
    )
    assert features.shape == (1, mels, 101)
    assert mel_filters(mels).shape == (257, mels)
    assert lengths.tolist() == [100]
