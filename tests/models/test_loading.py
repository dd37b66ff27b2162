"""The real ONNX path on the small real Parakeet: tokens, words, limits of reading, fallbacks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt import models
from stt.engine.folder import ModelFolder
from stt.engine.sessions import Runtime
from stt.engine.stages import finished
from stt.errors import ModelError, NonFiniteOutput, ProviderError
from stt.models import inspect
from stt.models.nemo import encoding
from stt.models.nemo_graphs import usable_frames
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.tdt import greedy_tdt
from stt.models.transducer import TdtRecognizer
from stt.types import SAMPLE_RATE
from support.paths import DIGITS

CLIPS = [soundfile.read(p, dtype="float32")[0] for p in sorted((DIGITS / "clips").glob("*.flac"))]


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    return inspect(DIGITS)


@pytest.fixture(scope="module")
def model(folder: ModelFolder) -> TdtModel:
    return load_tdt(folder, "fp32", Runtime("cpu", 1))


@pytest.mark.parametrize("clip", range(len(CLIPS)))
def test_the_same_tokens_and_frames_as_onnx_asr(model: TdtModel, clip: int) -> None:
    frames = model.encode(CLIPS[clip])
    ours = greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary)
    ids, at, logprobs = next(
        iter(model.asr._decoding(frames[None], np.array([len(frames)]), need_logprobs=True))
    )
    assert [e.id for e in ours] == list(ids)
    assert [e.frame for e in ours] == list(at)
    assert [e.logprob for e in ours] == pytest.approx(list(logprobs), abs=1e-4)
    assert ours


def test_durations_are_those_of_the_model(model: TdtModel) -> None:
    tokens = TdtRecognizer(model).decode([CLIPS[0]])[0]
    assert {token.duration for token in tokens} <= {0, 1, 2, 3, 4}
    assert max(token.duration for token in tokens) > 0


def test_a_length_that_promises_too_many_frames_is_clamped(
    model: TdtModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = model.asr._encode

    def lying(features: object, lengths: object) -> object:
        frames, valid = encode(features, lengths)
        return frames, valid + 5

    honest = model.encode(CLIPS[0])
    monkeypatch.setattr(model.asr, "_encode", lying)
    assert len(model.encode(CLIPS[0])) <= len(honest) + 1


@pytest.mark.parametrize("samples", [1, 80, 512, 1600])
def test_the_shortest_utterances_do_not_break_the_encoder(model: TdtModel, samples: int) -> None:
    (found,) = TdtRecognizer(model).recognize([np.zeros(samples, np.float32)])
    assert found == []


def test_a_batch_gives_what_each_gives_alone(model: TdtModel) -> None:
    recognizer = TdtRecognizer(model)
    alone = [recognizer.recognize([one])[0] for one in CLIPS[:4]]
    assert recognizer.recognize(CLIPS[:4]) == alone


def test_batches_of_like_length_encode_what_each_gives_alone(model: TdtModel) -> None:
    batch = [*CLIPS[:6], *(np.tile(clip, 3) for clip in CLIPS[:6])]
    elsewhere = replace(model, provider="cuda")  # where batches are padded; the CPU computes
    for together, samples in zip(
        usable_frames(finished(encoding(elsewhere, batch))), batch, strict=True
    ):
        alone = model.encode(samples)
        assert together.shape == alone.shape
        np.testing.assert_allclose(together, alone, atol=2e-3)


def test_a_collapse_in_a_batch_is_told_with_its_place(model: TdtModel) -> None:
    batch = CLIPS[:3]
    batch[1] = np.full_like(np.tile(batch[1], 2), np.nan)
    with pytest.raises(NonFiniteOutput) as caught:
        usable_frames(finished(encoding(replace(model, provider="cuda"), batch)))
    assert caught.value.index == 1


def test_words_lie_inside_their_utterance_and_rise(model: TdtModel) -> None:
    for samples, found in zip(CLIPS, TdtRecognizer(model).recognize(CLIPS), strict=True):
        words = [word for segment in found for word in segment.words]
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 <= time <= len(samples) / SAMPLE_RATE for time in times)


def test_a_provider_that_is_not_there_is_an_error(folder: ModelFolder) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ProviderError, match="provider cuda is not in this ONNX Runtime"):
        models.load(folder, provider="cuda")


def test_a_listed_provider_that_does_not_run(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime lists CUDA, warns that it cannot load it, and runs on the CPU instead."""
    import onnxruntime

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(
        "stt.models.onnx_asr_edge.session_providers", lambda name: ["CPUExecutionProvider"]
    )
    with pytest.raises(ProviderError, match="ONNX Runtime ran on cpu"):
        models.load(folder, provider="cuda")
    _, choice = models.load(folder, provider="auto")
    assert choice.provider == "cpu"
    assert "cuda passed over: ONNX Runtime lists it but could not start it" in choice.reason


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for path in DIGITS.glob("*.*"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_nothing_loads_is_one_error_that_names_every_reason(copied: Path) -> None:
    (copied / "encoder-model.onnx").write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match=r"encoder-model.onnx is not an ONNX file") as caught:
        models.load(inspect(copied))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_size_is_refused(copied: Path) -> None:
    vocabulary = (copied / "vocab.txt").read_text("utf-8").splitlines()
    (copied / "vocab.txt").write_text("\n".join(vocabulary[1:]) + "\n", "utf-8")
    with pytest.raises(ModelError, match="5 durations, but the model has"):
        models.load(inspect(copied))
