"""What a precision of Whisper must give beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from stt.engine.recognizer import Decoded, DecoderStep
from stt.install.observation import Observation
from stt.install.proof import Check
from stt.install.starter import judged as all_checks


@dataclass(frozen=True)
class Heard:
    """What one precision made of one clip: encoder's output, logits at each step, tokens."""

    hidden: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    tokens: tuple[int, ...]


def observed(clips: Sequence[Heard]) -> Observation:
    decoded = [
        Decoded(one.tokens, "", tuple(DecoderStep(None, row) for row in one.logits))
        for one in clips
    ]
    return Observation({}, tuple(decoded), tuple(one.hidden for one in clips))


RANDOM = np.random.default_rng(3)
FP32 = [
    Heard(
        RANDOM.normal(size=(30, 8)).astype(np.float32),
        RANDOM.normal(size=(5, 50)).astype(np.float32),
        tuple(range(20 * number, 20 * number + 20)),
    )
    for number in range(5)
]


def judged(precision: str, *other: Heard) -> dict[str, Check]:
    return {check.name: check for check in all_checks(precision, observed(FP32), observed(other))}


def failed(precision: str, *other: Heard) -> set[str]:
    return {name for name, check in judged(precision, *other).items() if not check.passed}


def test_the_same_is_proven() -> None:
    assert failed("fp16", *FP32) == set()
    assert failed("int8", *FP32) == set()


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.03), ("int8", 0.4)])
def test_an_output_too_far_off_fails(precision: str, error: float) -> None:
    off = [replace(one, hidden=one.hidden * (1 + error)) for one in FP32]
    assert failed(precision, *off) == {"encoder error"}
    off = [replace(one, logits=one.logits * (1 + error)) for one in FP32]
    assert failed(precision, *off) == {"joint error"}


def test_one_clip_far_off_fails_though_the_others_are_right() -> None:
    assert failed("fp16", *FP32[:4], replace(FP32[4], hidden=FP32[4].hidden * 1.5)) == {
        "encoder error"
    }


def test_nan_fails() -> None:
    wrong = replace(FP32[0], logits=np.full_like(FP32[0].logits, np.nan))
    checks = judged("int8", wrong, *FP32[1:])
    assert not checks["joint error"].passed
    assert checks["joint error"].figure == float("inf")


def test_other_words_fail_and_int8_may_lose_some() -> None:
    one_wrong = [replace(FP32[0], tokens=(*FP32[0].tokens[:-1], 999)), *FP32[1:]]
    assert failed("fp16", *one_wrong) == {"tokens"}
    assert failed("int8", *one_wrong) == set()
    many = [replace(one, tokens=(*one.tokens[:-4], 7, 8, 9, 10)) for one in FP32]
    assert failed("int8", *many) == {"tokens"}


def test_silence_where_fp32_has_words_fails() -> None:
    checks = judged("fp16", replace(FP32[0], tokens=()), *FP32[1:])
    assert checks["never empty"].message == "empty on 1 clips where FP32 is not"
    assert not checks["never empty"].passed
