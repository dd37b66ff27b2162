"""The precision selector: a pure function from what is wanted and known to what runs, and why."""

from __future__ import annotations

from collections.abc import Mapping

from stt.errors import ModelError
from stt.models.folder import Measurement
from stt.transcript import Choice

PREFERENCE = ("fp16", "fp32", "int8")
SLOWER = 0.95
"""fp16 below this share of fp32's measured speed counts as slower: less is noise."""


def choose(
    requested: str,
    provider: str,
    problems: Mapping[str, str | None],
    measured: Mapping[tuple[str, str], Measurement],
    failed: Mapping[str, str],
    *,
    strict: bool = False,
) -> Choice:
    """Choose the precision to load next.

    `auto` prefers fp16 and falls back to fp32; int8 is taken only by name, or on the CPU where
    nothing else is there. A precision asked for by name that cannot run is replaced the same way,
    unless `strict`.

    Args:
        requested: auto, fp16, fp32 or int8.
        provider: short name of the execution provider, e.g. cpu or cuda.
        problems: precision -> None where its files are complete, else what is wrong with them.
        measured: (precision, provider) -> what set-up measured on this machine.
        failed: precision -> why it did not load, for those already tried.
        strict: refuse to replace a precision asked for by name.

    Returns:
        The choice; its reason names every better-placed precision and why it was passed over.

    Raises:
        ModelError: nothing is left to try, or `strict` forbids it.
    """
    order = PREFERENCE if requested == "auto" else _named_first(requested)
    passed: dict[str, str] = {}
    for precision in order:
        by_name = precision == requested
        why_not = failed.get(precision) or problems.get(precision, f"no {precision} files")
        if why_not is None and not by_name:
            why_not = _unsuitable(precision, provider, problems, measured, failed)
        if why_not is None:
            return Choice(precision, provider, _reason(requested, precision, provider, passed))
        passed[precision] = why_not
        if by_name and strict:
            raise ModelError(
                f"precision {requested} cannot be used: {why_not}, and `strict` is set; choose "
                "another precision or drop `strict`"
            )
    told = "; ".join(f"{precision}: {why}" for precision, why in passed.items())
    raise ModelError(f"no precision of this model can be used ({told}); run `stt setup` again")


def _named_first(requested: str) -> tuple[str, ...]:
    return (requested, *(precision for precision in PREFERENCE if precision != requested))


def _unsuitable(
    precision: str,
    provider: str,
    problems: Mapping[str, str | None],
    measured: Mapping[tuple[str, str], Measurement],
    failed: Mapping[str, str],
) -> str | None:
    """Say why a precision nobody named is passed over although its files are there."""
    if precision == "int8" and provider != "cpu":
        return f"int8 is many times slower than fp32 on {provider}"
    own = measured.get((precision, provider))
    if own is not None and not own.correct:
        return "measured wrong on this machine"
    full = measured.get(("fp32", provider))
    fp32_usable = problems.get("fp32", "no fp32 files") is None and "fp32" not in failed
    if precision == "fp16" and own and full and fp32_usable and own.rtfx < SLOWER * full.rtfx:
        return f"measured slower here ({own.rtfx:.1f} RTFx, fp32 {full.rtfx:.1f})"
    return None


def _reason(requested: str, precision: str, provider: str, passed: Mapping[str, str]) -> str:
    if precision == requested:
        slow = precision == "int8" and provider != "cpu"
        return "asked for by name" + (f"; on {provider} fp32 is many times faster" if slow else "")
    if not passed:
        return "auto prefers fp16"
    if requested == "auto":
        return "; ".join(f"{name} passed over: {why}" for name, why in passed.items())
    others = "".join(f"; {n} passed over: {why}" for n, why in passed.items() if n != requested)
    return f"{requested} was asked for, but: {passed[requested]}{others}"
