"""The selector as a table: (what is wanted, what is known) -> (what runs, why)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.engine.folder import PRECISIONS, absent
from stt.engine.manifest import Measurement, Proof
from stt.engine.precision import FASTER, Known, choose
from stt.errors import ModelError

PROVEN, REFUTED = Proof(True, ""), Proof(False, "3 of 20 words differ")
WRONG = Measurement(30.0, False)
ALL = Known(
    "cpu",
    problems=dict.fromkeys(PRECISIONS),
    proofs=dict.fromkeys(("fp16", "int8"), PROVEN),
    measured={},
    failed={},
)


def without(*missing: str, known: Known = ALL) -> Known:
    return replace(known, problems=dict(known.problems) | {p: absent(p) for p in missing})


def unproven(*precisions: str, known: Known = ALL) -> Known:
    kept = {p: proof for p, proof in known.proofs.items() if p not in precisions}
    return replace(known, proofs=kept)


def speeds(known: Known = ALL, provider: str = "", **rtfx: float) -> Known:
    """Measured on a quiet machine: to 1 %."""
    measured = {
        (p, provider or known.provider): Measurement(
            value, True, rtfx_low=value * 0.99, rtfx_high=value * 1.01
        )
        for p, value in rtfx.items()
    }
    return replace(known, measured=measured)


def as_written(native_half: bool = False, **rows: tuple[float, ...]) -> Known:
    """Precision -> rtfx, load_s, peak_mib, and the ends of its interval where it has one."""
    measured = {
        (p, "cpu"): Measurement(rtfx, True, load_s, peak_mib, *interval)
        for p, (rtfx, load_s, peak_mib, *interval) in rows.items()
    }
    return replace(ALL, measured=measured, native_half=native_half)


GPU = replace(ALL, provider="cuda")
LOST = replace(GPU, problems=dict(ALL.problems) | {"fp16": "x.fp16.onnx is missing"})
PASSED = "fp16 passed over:"
NO_FP16 = f"{PASSED} no fp16 files"
AS_FAST = f"{PASSED} as fast, but"
IN_FP32 = f"{AS_FAST} computed in fp32 here"
PREFERRED = "auto prefers fp16"
UNPROVEN = "not proven here (run `stt setup`)"
REFUSED = "found wrong here (3 of 20 words differ)"
LEFT = "but nothing better is left"
NO_GAIN = "int8 passed over: not measured faster here"
NO_INT8 = f"int8 passed over: {UNPROVEN}"
SLOW_INT8 = "int8 passed over: int8 is many times slower than fp32 on cuda"


@pytest.mark.parametrize(
    ("known", "precision", "reason"),
    [
        (GPU, "fp16", PREFERRED),
        (without("fp16", known=GPU), "fp32", NO_FP16),
        (without("fp16", "int8"), "fp32", NO_FP16),  # nobody misses int8
        (LOST, "fp32", f"{PASSED} x.fp16.onnx is missing"),
        (replace(ALL, failed={"fp16": "did not load (x)"}), "fp32", f"{PASSED} did not load (x)"),
        # proof
        (unproven("fp16", known=GPU), "fp32", f"{PASSED} {UNPROVEN}"),
        (unproven("fp16", "int8"), "fp32", f"{PASSED} {UNPROVEN}"),
        (replace(ALL, proofs={"fp16": REFUTED}), "fp32", f"{PASSED} {REFUSED}"),
        (replace(GPU, measured={("fp16", "cuda"): WRONG}), "fp32", f"{PASSED} found wrong here"),
        # rather one that is not proven than nothing, and rather that than one found wrong
        (unproven("fp16", known=without("fp32", "int8")), "fp16", f"fp16 is {UNPROVEN}, {LEFT}"),
        (
            replace(without("fp32"), proofs={"fp16": REFUTED}),
            "int8",
            f"{PASSED} {REFUSED}; int8 is {UNPROVEN}, {LEFT}",
        ),
        # speed, on a GPU
        (
            speeds(GPU, fp16=20.3, fp32=24.1),
            "fp32",
            f"{PASSED} fp32 measured faster here (24.1 against 20.3 times real time)",
        ),
        (
            speeds(GPU, fp16=20.0, fp32=20.9),
            "fp16",
            f"{PREFERRED} (fp32 is no faster: 20.0 against 20.9 times real time)",
        ),
        (speeds(GPU, fp16=20, fp32=21.5), "fp32", "fp32 measured faster here (21.5 a"),
        (speeds(without("fp32", known=GPU), fp16=10, fp32=30), "fp16", PREFERRED),
        (replace(speeds(GPU, fp16=10, fp32=30), failed={"fp32": "x"}), "fp16", "auto prefers"),
        (speeds(GPU, fp32=30), "fp16", PREFERRED),
        (speeds(GPU, "cpu", fp16=10, fp32=30), "fp16", PREFERRED),
        # int8
        (without("fp16", "fp32"), "int8", NO_FP16),
        # on the CPU: nothing measured, or on another provider only
        (ALL, "fp32", f"{PASSED} proven, but computed in fp32 here"),
        (speeds(provider="cuda", fp16=30, fp32=10), "fp32", f"{PASSED} proven, but comp"),
        (replace(ALL, native_half=True), "fp16", PREFERRED),
        (speeds(fp16=12, fp32=10), "fp16", "fp16 measured faster here (12.0 against 10.0 times"),
        (speeds(fp16=10, fp32=12), "fp32", f"{PASSED} fp32 measured faster here (12.0 ag"),
        (speeds(fp16=10.4, fp32=10), "fp32", IN_FP32),
        # the figures of two set-ups on one machine, as manifests had them
        (
            as_written(fp32=(12.3, 3.1, 2952), fp16=(10.1, 5.9, 4590)),
            "fp32",
            f"{PASSED} no faster (10.1 against 12.3 times real time), "
            "loads in 5.9 s against 3.1, 4,590 MiB against 2,952",
        ),
        (
            as_written(fp32=(9.7, 3.1, 2952), fp16=(12.2, 5.9, 4590)),
            "fp32",
            f"{AS_FAST} loads in 5.9 s against 3.1, 4,590 MiB against 2,952",
        ),
        # a difference that the intervals swallow
        (
            as_written(
                fp32=(10, 3, 900, 7, 12), fp16=(20, 2.9, 900, 11, 29), int8=(15, 1, 500, 12, 30)
            ),
            "fp32",
            f"{AS_FAST} loads in 2.9 s against 3.0, 900 MiB against 900",
        ),
        # as fast, and lighter in both
        (
            as_written(native_half=True, fp32=(10, 3, 900, 9, 11), fp16=(10, 2, 500, 9, 11)),
            "fp16",
            f"{PREFERRED} (fp32 is no faster: 10.0 against 10.0 times real time; "
            "loads in 2.0 s against 3.0, 500 MiB against 900)",
        ),
        # a small model on a busy machine
        (
            as_written(fp32=(9, 9, 160, 6, 11), fp16=(8, 4, 147, 6, 11)),
            "fp32",
            f"{PASSED} no faster (8.0 against 9.0 times real time), "
            "loads in 4.0 s against 9.0, 147 MiB against 160",
        ),
        # as fast, and lighter in one alone
        (
            as_written(native_half=True, fp32=(10, 3, 900, 9, 11), fp16=(10, 4, 500, 9, 11)),
            "fp32",
            f"{AS_FAST} loads in 4.0 s against 3.0, 500 MiB against 900",
        ),
        (
            speeds(fp16=10, fp32=10, int8=99),
            "fp32",
            f"{IN_FP32}; int8 is 9.9 times as fast: `stt config set auto_int8 true` allows it",
        ),
    ],
)
def test_auto(known: Known, precision: str, reason: str) -> None:
    choice = choose("auto", known)
    assert (choice.precision, choice.provider) == (precision, known.provider)
    assert reason in choice.reason
    assert "no int8" not in choice.reason


@pytest.mark.parametrize(
    ("known", "precision", "reason"),
    [
        (
            speeds(fp16=10, fp32=10, int8=99),
            "int8",
            f"{IN_FP32}; int8 measured faster here (99.0 against 10.0 times real time), "
            "and auto_int8 is set",
        ),
        (
            speeds(fp16=10, fp32=20, int8=99),
            "int8",
            f"{PASSED} fp32 measured faster here (20.0 against 10.0 times real time); "
            "int8 measured faster here (99.0 against 20.0 times real time), and auto_int8 is set",
        ),
        (speeds(fp16=10, fp32=10, int8=10.4), "fp32", f"{IN_FP32}; {NO_GAIN}"),
        (speeds(without("fp32"), fp16=10, int8=10.4), "fp16", NO_GAIN),
        (speeds(unproven("int8", known=without("fp32")), fp16=10, int8=99), "fp16", NO_INT8),
        (without("int8", "fp32"), "fp16", PREFERRED),
        (speeds(GPU, fp16=10, int8=99), "fp16", SLOW_INT8),
    ],
)
def test_auto_with_auto_int8(known: Known, precision: str, reason: str) -> None:
    choice = choose("auto", known, auto_int8=True)
    assert (choice.precision, choice.reason) == (precision, reason)


BY_NAME = "asked for by name"
FAILED = replace(ALL, failed={"fp32": "did not load (y)"})


@pytest.mark.parametrize(
    ("requested", "known", "precision", "reason"),
    [
        ("fp32", ALL, "fp32", BY_NAME),
        ("fp16", unproven("fp16"), "fp16", f"{BY_NAME}; {UNPROVEN}"),
        ("fp16", replace(ALL, proofs={"fp16": REFUTED}), "fp16", f"{BY_NAME}; {REFUSED}"),
        ("int8", GPU, "int8", f"{BY_NAME}; on cuda fp32 is many times faster"),
        ("fp16", without("fp16"), "fp32", "fp16 was asked for, but: no fp16 files"),
        ("int8", without("int8", known=GPU), "fp16", "int8 was asked for, but: no int8 files"),
        ("fp32", FAILED, "fp16", "fp32 was asked for, but: did not load (y)"),
        (
            "mixed",
            unproven("fp16"),
            "fp32",
            f"mixed was asked for, but: no mixed files; {PASSED} {UNPROVEN}",
        ),
    ],
)
def test_by_name(requested: str, known: Known, precision: str, reason: str) -> None:
    choice = choose(requested, known)
    assert (choice.precision, choice.reason) == (precision, reason)


def test_strict_makes_a_fallback_an_error_but_of_auto() -> None:
    with pytest.raises(ModelError, match="fp16 cannot be used: no fp16 files"):
        choose("fp16", without("fp16"), strict=True)
    assert choose("auto", without("fp16"), strict=True).precision == "fp32"


def test_a_folder_that_was_not_set_up_is_set_up_as_a_copy_to_be_used() -> None:
    known = replace(without("fp16"), model="/x/my model", copy="my model")
    cure = (
        r"no fp16 files \(`stt setup '/x/my model' --precision fp16` makes them in a copy; "
        r"then use `-m 'my model'`\)"
    )
    with pytest.raises(ModelError, match=cure):
        choose("fp16", known, strict=True)
    assert "which proves it in a copy; then use `-m 'my model'`)" in (
        replace(known, proofs={}).doubt("int8") or ""
    )


def test_nothing_left_names_every_reason_and_a_cure() -> None:
    failed = {"fp16": "did not load (a)", "fp32": "did not load (b)"}
    reasons = r"fp16: did not load \(a\); fp32: did not load \(b\); int8: no int8"
    with pytest.raises(ModelError, match=reasons):
        choose("auto", replace(without("int8"), failed=failed))
    # this model's set-up, unless a file is to be corrected
    known = replace(without("fp16", "int8"), model="/x/D", copy="D")
    with pytest.raises(ModelError, match=r"run `stt setup /x/D` again$"):
        choose("auto", replace(known, failed={"fp32": "did not load (y)"}))
    failed = {"fp32": "did not load (features_size; correct /x/D/config.json)"}
    with pytest.raises(ModelError, match=r"no int8 files\)$"):
        choose("auto", replace(known, failed=failed))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("auto_int8", [True, False])
def test_int8_is_never_chosen_unasked_on_a_gpu(provider: str, auto_int8: bool) -> None:
    known = replace(without("fp16", "fp32"), provider=provider)
    with pytest.raises(ModelError, match="int8 is many times slower"):
        choose("auto", known, auto_int8=auto_int8)


def maps(values: st.SearchStrategy[object]) -> st.SearchStrategy[Mapping[str, object]]:
    return st.dictionaries(st.sampled_from(PRECISIONS), values)


known_things = st.builds(
    Known,
    provider=st.sampled_from(["cpu", "cuda", "tensorrt"]),
    problems=st.fixed_dictionaries({p: st.sampled_from([None, "missing"]) for p in PRECISIONS}),
    proofs=maps(st.builds(Proof, st.booleans(), st.just(""))),
    measured=st.dictionaries(
        st.tuples(st.sampled_from(PRECISIONS), st.sampled_from(["cpu", "cuda"])),
        st.builds(
            lambda rtfx, correct, off: Measurement(
                rtfx, correct, rtfx_low=rtfx / off, rtfx_high=rtfx * off
            ),
            st.floats(0.1, 100),
            st.booleans(),
            st.floats(1, 2),
        ),
    ),
    failed=maps(st.just("did not load")),
    native_half=st.booleans(),
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
    assert choice.reason and "\n" not in choice.reason
    assert choose(requested, known, auto_int8=auto_int8) == choice
    if requested in works(known):
        assert choice.precision == requested


@given(known_things, st.booleans())
def test_auto_takes_what_is_proven_and_not_slower_than_fp32(known: Known, auto_int8: bool) -> None:
    if not eligible("auto", known):
        return
    chosen = choose("auto", known, auto_int8=auto_int8).precision
    trusted = {p for p in eligible("auto", known) if known.doubt(p) is None}
    assert chosen in trusted or not trusted
    if "fp32" not in works(known):
        return
    own = known.measured.get((chosen, known.provider))
    full = known.measured.get(("fp32", known.provider))
    if own and full and chosen != "fp32":
        assert full.rtfx < FASTER * own.rtfx or full.rtfx_bounds[0] <= own.rtfx_bounds[1]
    assert auto_int8 or chosen != "int8"
    if known.provider == "cpu" and chosen == "fp16" and not auto_int8:
        assert known.faster(chosen, than="fp32") or known.native_half


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
