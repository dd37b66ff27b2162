"""The selector as a table: (what is wanted, what is known) -> (what runs, why)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.engine.precision import FASTER, Known, choose
from stt.errors import ModelError
from stt.models.folder import PRECISIONS, Measurement, Proof, absent

PROVEN, REFUTED = Proof(True, ""), Proof(False, "3 of 20 words differ")
WRONG = Measurement(30.0, False)
ALL = Known(
    "cpu",
    problems=dict.fromkeys(PRECISIONS),
    proofs=dict.fromkeys(("fp16", "mixed", "int8"), PROVEN),
    measured={},
    failed={},
)


def without(*missing: str, known: Known = ALL) -> Known:
    return replace(known, problems=dict(known.problems) | {p: absent(p) for p in missing})


def unproven(*precisions: str, known: Known = ALL) -> Known:
    kept = {p: proof for p, proof in known.proofs.items() if p not in precisions}
    return replace(known, proofs=kept)


def speeds(known: Known = ALL, provider: str = "cpu", **rtfx: float) -> Known:
    measured = {(p, provider): Measurement(value, True) for p, value in rtfx.items()}
    return replace(known, measured=measured)


@pytest.mark.parametrize(
    ("known", "precision", "reason"),
    [
        (ALL, "fp16", "auto prefers fp16"),
        (without("fp16"), "mixed", "fp16 passed over: no fp16 files"),
        # nobody misses mixed or int8
        (without("fp16", "mixed", "int8"), "fp32", "fp16 passed over: no fp16 files"),
        (
            replace(ALL, problems=dict(ALL.problems) | {"fp16": "x.fp16.onnx is missing"}),
            "mixed",
            "fp16 passed over: x.fp16.onnx is missing",
        ),
        (
            replace(ALL, failed={"fp16": "did not load (x)", "mixed": "did not load (y)"}),
            "fp32",
            "fp16 passed over: did not load (x); mixed passed over: did not load (y)",
        ),
        # proof
        (unproven("fp16"), "mixed", "fp16 passed over: not proven here (run `stt setup`)"),
        (
            unproven("fp16", "mixed", "int8", known=without("mixed")),
            "fp32",
            "fp16 passed over: not proven here (run `stt setup`)",
        ),
        (
            replace(without("mixed"), proofs={"fp16": REFUTED}),
            "fp32",
            "fp16 passed over: found wrong here (3 of 20 words differ)",
        ),
        (
            replace(without("mixed"), measured={("fp16", "cpu"): WRONG}),
            "fp32",
            "fp16 passed over: found wrong here",
        ),
        # rather one that is not proven than nothing, and rather that than one found wrong
        (
            unproven("fp16", known=without("mixed", "fp32", "int8")),
            "fp16",
            "fp16 is not proven here (run `stt setup`), but nothing better is left",
        ),
        (
            replace(without("mixed", "fp32"), proofs={"fp16": REFUTED}),
            "int8",
            "fp16 passed over: found wrong here (3 of 20 words differ); "
            "int8 is not proven here (run `stt setup`), but nothing better is left",
        ),
        # speed
        (
            speeds(without("mixed"), fp16=20.3, fp32=24.1),
            "fp32",
            "fp16 passed over: fp32 measured faster here (24.1 against 20.3 times real time)",
        ),
        (
            speeds(fp16=20.0, fp32=20.9),
            "fp16",
            "auto prefers fp16 (measured 20.0 times real time, fp32 20.9)",
        ),
        (speeds(fp16=20.0, fp32=21.0, mixed=21.0), "mixed", "fp32 measured faster here (21.0 ag"),
        (speeds(without("fp32"), fp16=10, fp32=30), "fp16", "auto prefers fp16"),
        (replace(speeds(fp16=10, fp32=30), failed={"fp32": "x"}), "fp16", "auto prefers fp16"),
        (speeds(fp32=30), "fp16", "auto prefers fp16"),
        (speeds(provider="cuda", fp16=10, fp32=30), "fp16", "auto prefers fp16"),
        # int8
        (
            speeds(fp16=10, fp32=10, int8=99),
            "fp16",
            "int8 measured faster here (99.0 against 10.0 times real time); "
            "`stt config set auto_int8 true` allows it",
        ),
        (
            without("fp16", "mixed", "fp32"),
            "int8",
            "fp16 passed over: no fp16 files",
        ),
    ],
)
def test_auto(known: Known, precision: str, reason: str) -> None:
    choice = choose("auto", known)
    assert (choice.precision, choice.provider) == (precision, "cpu")
    assert reason in choice.reason
    assert "no mixed" not in choice.reason
    assert "no int8" not in choice.reason


@pytest.mark.parametrize(
    ("known", "precision", "reason"),
    [
        (
            speeds(fp16=10, fp32=10, int8=99),
            "int8",
            "int8 measured faster here (99.0 against 10.0 times real time), and auto_int8 is set",
        ),
        (
            speeds(without("mixed"), fp16=10, fp32=20, int8=99),
            "int8",
            "fp16 passed over: fp32 measured faster here (20.0 against 10.0 times real time); "
            "int8 measured faster here (99.0 against 20.0 times real time), and auto_int8 is set",
        ),
        (speeds(fp16=10, int8=10.4), "fp16", "int8 passed over: not measured faster here"),
        (ALL, "fp16", "int8 passed over: not measured faster here"),
        (
            speeds(unproven("int8"), fp16=10, int8=99),
            "fp16",
            "int8 passed over: not proven here (run `stt setup`)",
        ),
        (without("int8"), "fp16", "auto prefers fp16"),
        (
            replace(speeds(provider="cuda", fp16=10, int8=99), provider="cuda"),
            "fp16",
            "int8 passed over: int8 is many times slower than fp32 on cuda",
        ),
    ],
)
def test_auto_with_auto_int8(known: Known, precision: str, reason: str) -> None:
    choice = choose("auto", known, auto_int8=True)
    assert choice.precision == precision
    assert choice.reason == reason


@pytest.mark.parametrize(
    ("requested", "known", "precision", "reason"),
    [
        ("fp32", ALL, "fp32", "asked for by name"),
        ("mixed", ALL, "mixed", "asked for by name"),
        (
            "fp16",
            unproven("fp16"),
            "fp16",
            "asked for by name; not proven here (run `stt setup`)",
        ),
        (
            "fp16",
            replace(ALL, proofs={"fp16": REFUTED}),
            "fp16",
            "asked for by name; found wrong here (3 of 20 words differ)",
        ),
        (
            "int8",
            replace(ALL, provider="cuda"),
            "int8",
            "asked for by name; on cuda fp32 is many times faster",
        ),
        (
            "fp16",
            without("fp16", "mixed"),
            "fp32",
            "fp16 was asked for, but: no fp16 files",
        ),
        ("int8", without("int8"), "fp16", "int8 was asked for, but: no int8 files"),
        (
            "fp32",
            replace(ALL, failed={"fp32": "did not load (y)"}),
            "fp16",
            "fp32 was asked for, but: did not load (y)",
        ),
        (
            "mixed",
            unproven("fp16", known=without("mixed")),
            "fp32",
            "mixed was asked for, but: no mixed files; "
            "fp16 passed over: not proven here (run `stt setup`)",
        ),
    ],
)
def test_by_name(requested: str, known: Known, precision: str, reason: str) -> None:
    choice = choose(requested, known)
    assert (choice.precision, choice.reason) == (precision, reason)


def test_strict_makes_a_fallback_an_error() -> None:
    with pytest.raises(ModelError, match="fp16 cannot be used: no fp16 files"):
        choose("fp16", without("fp16"), strict=True)


def test_strict_does_not_touch_auto() -> None:
    assert choose("auto", without("fp16", "mixed"), strict=True).precision == "fp32"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("auto_int8", [True, False])
def test_int8_is_never_chosen_unasked_on_a_gpu(provider: str, auto_int8: bool) -> None:
    known = replace(without("fp16", "mixed", "fp32"), provider=provider)
    with pytest.raises(ModelError, match="int8 is many times slower"):
        choose("auto", known, auto_int8=auto_int8)


def test_nothing_left_names_every_reason() -> None:
    failed = {"fp16": "did not load (a)", "fp32": "did not load (b)"}
    told = (
        r"fp16: did not load \(a\); mixed: no mixed files; fp32: did not load \(b\); int8: no int8"
    )
    with pytest.raises(ModelError, match=told):
        choose("auto", replace(without("mixed", "int8"), failed=failed))


# --- properties ---------------------------------------------------------------------------------


def maps(values: st.SearchStrategy[object]) -> st.SearchStrategy[Mapping[str, object]]:
    return st.dictionaries(st.sampled_from(PRECISIONS), values)


known_things = st.builds(
    Known,
    provider=st.sampled_from(["cpu", "cuda", "tensorrt"]),
    problems=st.fixed_dictionaries({p: st.sampled_from([None, "missing"]) for p in PRECISIONS}),
    proofs=maps(st.builds(Proof, st.booleans(), st.just(""))),
    measured=st.dictionaries(
        st.tuples(st.sampled_from(PRECISIONS), st.sampled_from(["cpu", "cuda"])),
        st.builds(Measurement, st.floats(0.1, 100), st.booleans()),
    ),
    failed=maps(st.just("did not load")),
)
requests = st.sampled_from(["auto", *PRECISIONS])


def works(known: Known) -> set[str]:
    return {p for p in PRECISIONS if known.problems[p] is None and p not in known.failed}


def eligible(requested: str, known: Known) -> set[str]:
    """What may run: all that works, but int8 on a GPU only by name."""
    left = works(known)
    return left if known.provider == "cpu" or requested == "int8" else left - {"int8"}


@given(requests, known_things, st.booleans())
def test_one_that_works_is_chosen_while_there_is_one(
    requested: str, known: Known, auto_int8: bool
) -> None:
    if not eligible(requested, known):
        with pytest.raises(ModelError):
            choose(requested, known, auto_int8=auto_int8)
        return
    choice = choose(requested, known, auto_int8=auto_int8)
    assert choice.precision in eligible(requested, known)
    assert choice.reason
    assert "\n" not in choice.reason
    assert choose(requested, known, auto_int8=auto_int8) == choice
    if requested in works(known):
        assert choice.precision == requested


@given(known_things, st.booleans())
def test_auto_never_takes_what_is_not_proven_where_it_need_not(
    known: Known, auto_int8: bool
) -> None:
    trusted = {p for p in eligible("auto", known) if known.doubt(p) is None}
    if trusted:
        assert choose("auto", known, auto_int8=auto_int8).precision in trusted


@given(known_things, st.booleans())
def test_auto_never_takes_what_was_measured_clearly_slower_than_fp32(
    known: Known, auto_int8: bool
) -> None:
    if "fp32" not in works(known):
        return
    chosen = choose("auto", known, auto_int8=auto_int8).precision
    own = known.measured.get((chosen, known.provider))
    full = known.measured.get(("fp32", known.provider))
    if own and full and chosen != "fp32":
        assert full.rtfx < FASTER * own.rtfx
    if chosen == "int8":
        assert auto_int8


@given(requests, known_things)
def test_walking_the_failures_tries_each_that_works_once_and_ends(
    requested: str, known: Known
) -> None:
    failed = dict(known.failed)
    tried = []
    for _ in range(len(PRECISIONS) + 1):
        try:
            choice = choose(requested, replace(known, failed=failed))
        except ModelError:
            break
        assert choice.precision not in failed
        tried.append(choice.precision)
        failed[choice.precision] = "did not load"
    assert set(tried) == eligible(requested, known)
