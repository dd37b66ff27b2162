"""The selector as a table: (what is wanted, what is there) -> (what runs, why)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.engine.precision import PREFERENCE, choose
from stt.errors import ModelError
from stt.models.folder import Measurement

NO16, NO8 = {"fp16": "no fp16 files"}, {"int8": "no int8 files"}
ALL = dict.fromkeys(PREFERENCE)
FAST, SLOW = Measurement(30.0, True), Measurement(10.0, True)
WRONG = Measurement(30.0, False)


@pytest.mark.parametrize(
    ("requested", "provider", "problems", "measured", "failed", "precision", "reason"),
    [
        ("auto", "cpu", ALL, {}, {}, "fp16", "auto prefers fp16"),
        ("auto", "cpu", ALL | NO16, {}, {}, "fp32", "fp16 passed over: no fp16 files"),
        (
            "auto",
            "cpu",
            ALL | {"fp16": "decoder_joint-model.fp16.onnx is missing"},
            {},
            {},
            "fp32",
            "fp16 passed over: decoder_joint-model.fp16.onnx is missing",
        ),
        ("auto", "cpu", ALL, {}, {"fp16": "did not load (x)"}, "fp32", "did not load (x)"),
        (
            "auto",
            "cpu",
            ALL,
            {("fp16", "cpu"): SLOW, ("fp32", "cpu"): FAST},
            {},
            "fp32",
            "measured slower here (10.0 RTFx, fp32 30.0)",
        ),
        # measured on another provider says nothing here
        (
            "auto",
            "cuda",
            ALL,
            {("fp16", "cpu"): SLOW, ("fp32", "cpu"): FAST},
            {},
            "fp16",
            "auto prefers fp16",
        ),
        # slower than an fp32 that is not there is still the best there is
        (
            "auto",
            "cpu",
            ALL | {"fp32": "no fp32 files"},
            {("fp16", "cpu"): SLOW, ("fp32", "cpu"): FAST},
            {},
            "fp16",
            "auto prefers fp16",
        ),
        ("auto", "cpu", ALL, {("fp16", "cpu"): WRONG}, {}, "fp32", "measured wrong"),
        ("auto", "cpu", NO16 | {"fp32": "no fp32 files", "int8": None}, {}, {}, "int8", "no fp32"),
        ("fp32", "cpu", ALL, {}, {}, "fp32", "asked for by name"),
        ("fp16", "cpu", ALL, {("fp16", "cpu"): WRONG}, {}, "fp16", "asked for by name"),
        ("fp16", "cpu", ALL | NO16, {}, {}, "fp32", "fp16 was asked for, but: no fp16 files"),
        ("int8", "cpu", ALL | NO8, {}, {}, "fp16", "int8 was asked for, but"),
        ("int8", "cuda", ALL, {}, {}, "int8", "on cuda fp32 is many times faster"),
        ("fp32", "cpu", ALL, {}, {"fp32": "did not load (y)"}, "fp16", "did not load (y)"),
    ],
)
def test_table(
    requested: str,
    provider: str,
    problems: Mapping[str, str | None],
    measured: Mapping[tuple[str, str], Measurement],
    failed: Mapping[str, str],
    precision: str,
    reason: str,
) -> None:
    choice = choose(requested, provider, problems, measured, failed)
    assert (choice.precision, choice.provider) == (precision, provider)
    assert reason in choice.reason


def test_strict_makes_a_fallback_an_error() -> None:
    with pytest.raises(ModelError, match="fp16 cannot be used: no fp16 files"):
        choose("fp16", "cpu", ALL | NO16, {}, {}, strict=True)


def test_strict_does_not_touch_auto() -> None:
    assert choose("auto", "cpu", ALL | NO16, {}, {}, strict=True).precision == "fp32"


def test_int8_is_never_chosen_unasked_on_a_gpu() -> None:
    problems = NO16 | {"fp32": "no fp32 files", "int8": None}
    with pytest.raises(ModelError, match="int8 is many times slower"):
        choose("auto", "cuda", problems, {}, {})


def test_nothing_left_names_every_reason() -> None:
    failed = {"fp16": "did not load (a)", "fp32": "did not load (b)"}
    with pytest.raises(ModelError, match=r"load \(a\); fp32: did not load \(b\); int8: no int8"):
        choose("auto", "cpu", ALL | NO8, {}, failed)


problem_maps = st.fixed_dictionaries(
    {precision: st.sampled_from([None, "missing"]) for precision in PREFERENCE}
)


@given(
    requested=st.sampled_from(["auto", *PREFERENCE]),
    provider=st.sampled_from(["cpu", "cuda"]),
    problems=problem_maps,
    measured=st.dictionaries(
        st.tuples(st.sampled_from(PREFERENCE), st.sampled_from(["cpu", "cuda"])),
        st.builds(Measurement, st.floats(0.1, 100), st.booleans()),
    ),
)
def test_walking_the_failures_tries_each_complete_precision_once(
    requested: str,
    provider: str,
    problems: dict[str, str | None],
    measured: dict[tuple[str, str], Measurement],
) -> None:
    failed: dict[str, str] = {}
    for _ in range(len(PREFERENCE) + 1):
        try:
            choice = choose(requested, provider, problems, measured, failed)
        except ModelError:
            break
        assert problems[choice.precision] is None
        assert choice.precision not in failed
        assert choice.reason
        failed[choice.precision] = "did not load"
    else:
        raise AssertionError("the walk does not end")
