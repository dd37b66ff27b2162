"""Proof: each way a conversion can be wrong is seen, and a right one passes on real audio."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from stt.engine.recognizer import Decoded, DecoderStep
from stt.install import proof
from stt.install.observation import Clip, Observation, bundled_clips, of_length
from stt.install.proof import BOUNDS, compare, recognised, relative_error
from stt.models import inspect

RNG = np.random.default_rng(0)
FRAMES = RNG.standard_normal((20, 4)).astype(np.float32)
LOGITS = RNG.standard_normal(6).astype(np.float32)
CLIPS = (
    Clip("a.flac", np.zeros(100, np.float32), "one two three"),
    Clip("b.flac", np.zeros(100, np.float32), "four five"),
)
FP32 = Observation(
    encoded={1.0: (FRAMES, 18), 30.0: (FRAMES, 20)},
    decoded=(
        Decoded(tuple(range(300)), "one two three", (DecoderStep(0, LOGITS),)),
        Decoded(tuple(range(300, 400)), "four five"),
    ),
)


def changed(
    encoded: dict[float, tuple[np.ndarray, int]] | None = None,
    tokens: tuple[tuple[int, ...], ...] = FP32.tokens,
    texts: tuple[str, ...] = FP32.texts,
    logits: np.ndarray = LOGITS,
) -> Observation:
    steps = ((DecoderStep(0, logits),), ())
    decoded = tuple(map(Decoded, tokens, texts, steps))
    return dataclasses.replace(FP32, encoded=encoded or FP32.encoded, decoded=decoded)


def failed(other: Observation) -> list[str]:
    verdict = compare(FP32, other, BOUNDS["fp16"], CLIPS)
    assert verdict.proven == (not any(not check.passed for check in verdict.checks))
    return [check.name for check in verdict.checks if not check.passed]


def test_the_same_passes() -> None:
    assert failed(FP32) == []
    verdict = compare(FP32, FP32, BOUNDS["fp16"], CLIPS)
    assert verdict.proven
    assert verdict.why == "400 of 400 tokens on 2 clips as in FP32"


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(encoded={1.0: (FRAMES, 18), 30.0: (FRAMES, 21)}), ["lengths"]),
        (changed(encoded={1.0: (FRAMES * 1.03, 18)}), ["encoder error"]),
        (changed(encoded={1.0: (FRAMES * np.nan, 18)}), ["finite", "encoder error"]),
        (changed(logits=LOGITS * 1.1), ["joint error"]),
        (changed(logits=LOGITS * np.inf), ["finite", "joint error"]),
        (changed(tokens=(tuple(range(300)), ())), ["never empty", "tokens"]),
        (changed(tokens=((0, 0, 0, 0, *range(4, 300)), tuple(range(300, 400)))), ["tokens"]),
        (changed(tokens=(tuple(range(300)), (*range(300, 400), 1, 2, 3))), ["tokens"]),
    ],
)
def test_each_fault_is_seen(other: Observation, expected: list[str]) -> None:
    assert failed(other) == expected


def test_one_token_of_four_hundred_may_differ() -> None:
    assert failed(changed(tokens=((7, *range(1, 300)), tuple(range(300, 400))))) == []


def test_frames_past_the_told_length_do_not_count() -> None:
    noisy = FRAMES.copy()
    noisy[18:] = 9
    assert failed(changed(encoded={1.0: (noisy, 18), 30.0: (FRAMES, 20)})) == []


def test_tokens_of_a_model_that_hears_noise_are_not_compared() -> None:
    deaf = changed(texts=("uh", ""))
    verdict = compare(deaf, changed(texts=("", ""), tokens=((1,), (2,))), BOUNDS["fp16"], CLIPS)
    assert verdict.proven
    assert "not compared" in verdict.why


def test_words_found_in_order_count_whatever_their_case() -> None:
    assert recognised(["One, two. three"], ["one two three"]) == 1
    assert recognised(["three two one"], ["one two three"]) == pytest.approx(1 / 3)
    assert recognised([""], [""]) == 0


def test_relative_error() -> None:
    assert relative_error(FRAMES, FRAMES) == 0
    assert relative_error(FRAMES, FRAMES * 2) == pytest.approx(1)
    assert relative_error(FRAMES, FRAMES * np.nan) == float("inf")


def test_bundled_clips_are_speech_with_texts() -> None:
    clips = bundled_clips()
    assert len(clips) >= 3
    assert all(clip.text and len(clip.samples) > 16_000 for clip in clips)
    assert len(of_length(clips, 399)) == 399 * 16_000
    folder = Path(proof.__file__).parent / "speech"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_the_package_has_the_speech_of_the_samples(samples_dir: Path) -> None:
    packed, samples = bundled_clips(), bundled_clips(samples_dir)
    assert [clip.text for clip in packed] == [clip.text for clip in samples]
    for ours, theirs in zip(packed, samples, strict=True):
        assert abs(len(ours.samples) - len(theirs.samples)) < 160
        length = min(len(ours.samples), len(theirs.samples))
        likeness = np.corrcoef(ours.samples[:length], theirs.samples[:length])[0, 1]
        assert likeness > 0.95, ours.name


def test_inputs_and_outputs_are_compared_by_name_type_and_rank(tmp_path: Path) -> None:
    import onnx

    from support import tiny_tdt

    folder = tiny_tdt.build(tmp_path / "tiny")
    for name in ("encoder-model", "decoder_joint-model"):
        model = onnx.load(folder / f"{name}.onnx")
        onnx.save(model, folder / f"{name}.fp16.onnx")
    checks = proof.static_checks(inspect(folder), "fp16")
    assert all(check.passed for check in checks)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, folder / "decoder_joint-model.fp16.onnx")
    check = proof.static_checks(inspect(folder), "fp16")[0]
    assert not check.passed
    assert "decoder_joint-model.fp16.onnx" in check.message
