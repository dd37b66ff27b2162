"""The precision selector: a pure function from what is wanted and known to what runs, and why."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from stt.engine.folder import PRECISIONS, STARTER, ModelFolder, absent
from stt.engine.manifest import MANIFEST, Measurement, Proof
from stt.errors import ModelError
from stt.transcript import Choice

FASTER = 1.05
"""A precision is faster than another from this ratio of measured speeds on, if their confidence
intervals do not overlap either: anything less is a tie."""
_LIGHTER = 0.8
"""A precision is lighter than another up to this ratio of load times and of memory: load times are
measured once, and a small model's memory is mostly that of the process."""


def choose(
    requested: str,
    known: Known,
    *,
    strict: bool = False,
    auto_int8: bool = False,
) -> Choice:
    """Choose the precision to load next.

    `auto` takes the first of fp16 and fp32 that works; fp16 must have been proven here, and fp32
    comes before it where it was measured faster. On the CPU it does so too where fp16 is as fast,
    unless that loads faster and takes less memory. int8 is taken where nothing else
    is there, or with `auto_int8` where it was proven and measured faster; on a GPU never. Where
    only unproven ones are left, the best placed of them runs, and the reason says so. A precision
    asked for by name needs no proof; one that cannot run is replaced as in `auto`, unless `strict`.

    Args:
        requested: auto, fp16, fp32 or int8.
        known: what is known of this model's precisions on one provider.
        strict: refuse to replace a precision asked for by name.
        auto_int8: let `auto` take int8 where it was measured faster.

    Returns:
        The choice; its reason names every better-placed precision and why it was passed over.

    Raises:
        ModelError: nothing is left to try, or `strict` forbids it.
    """
    passed: dict[str, str] = {}
    if requested != "auto":
        why_not = known.unusable(requested)
        if why_not is None:
            return Choice(requested, known.provider, _by_name(requested, known))
        if why_not == absent(requested) and requested != "fp32" and known.model:
            why_not += f" (`{known.set_up(requested)}` makes them{known.copied})"
        if strict:
            raise ModelError(
                f"precision {requested} cannot be used: {why_not}, and `strict` is set; choose "
                "another precision or drop `strict`"
            )
        passed[requested] = why_not
    precision, remark = _automatic(known, passed, auto_int8=auto_int8)
    if requested == "auto" and precision == PRECISIONS[0] and not set(passed) - _no_files(known):
        remark = "; ".join(filter(None, (_preference(known), remark)))
    return Choice(precision, known.provider, _reason(requested, passed, remark))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model's precisions on one provider."""

    provider: str
    """Short name of the execution provider, e.g. cpu or cuda."""
    problems: Mapping[str, str | None]
    """Precision -> None where its files are complete, else what is wrong with them."""
    proofs: Mapping[str, Proof]
    """Precision -> what set-up found when it compared it with fp32 on audio."""
    measured: Mapping[tuple[str, str], Measurement]
    """(precision, provider) -> what set-up measured on this machine."""
    failed: Mapping[str, str]
    """Precision -> why it did not load, for those already tried."""
    native_half: bool = False
    """Whether the CPU computes in float16 itself, as ARM's do; ONNX Runtime computes fp16 in fp32
    on others, after converting all weights. Of no meaning on other providers."""
    model: str = ""
    """What `stt setup` knows the model by: its name, or its folder where it was not set up."""
    copy: str = ""
    """Of a folder that was not set up: the name of the copy that set-up makes and works on."""

    @classmethod
    def of(
        cls, folder: ModelFolder, provider: str, failed: Mapping[str, str] | None = None
    ) -> Known:
        """Put together what a model's folder tells, and what this machine is."""
        installed = (folder.path / MANIFEST).is_file()
        model = folder.name if installed else str(folder.path)
        if not folder.family.is_set_up and model != STARTER:  # set-up makes nothing of others
            model = ""
        return cls(
            provider,
            folder.problems,
            folder.proofs,
            folder.measured,
            {} if failed is None else failed,
            native_half=platform.machine().lower() in ("arm64", "aarch64"),
            model=model,
            copy=folder.name if model and not installed else "",
        )

    def set_up(self, precision: str) -> str:
        """Return the command that makes and proves a precision of this model."""
        if not self.model or precision == "fp32":
            return "stt setup"
        return f"stt setup {shlex.quote(self.model)} --precision {precision}"

    @property
    def copied(self) -> str:
        """What is to be done after set-up, as it works on a copy; empty where it does not."""
        return f" in a copy; then use `-m {shlex.quote(self.copy)}`" if self.copy else ""

    def unusable(self, precision: str) -> str | None:
        """Say why a precision cannot run at all."""
        return self.failed.get(precision) or self.problems.get(precision, absent(precision))

    def doubt(self, precision: str) -> str | None:
        """Say why a precision that can run is not to be trusted unasked; fp32 always is."""
        if precision == "fp32":
            return None
        if self.refuted(precision):
            why = self.proofs[precision].why if precision in self.proofs else ""
            return "found wrong here" + (f" ({why})" if why else "")
        proves = f", which proves it{self.copied}" if self.copy else ""
        return (
            None
            if precision in self.proofs
            else f"not proven here (run `{self.set_up(precision)}`{proves})"
        )

    def refuted(self, precision: str) -> bool:
        """Tell whether set-up found its results wrong, which is worse than never having looked."""
        proof, measurement = self.proofs.get(precision), self._measurement(precision)
        return (proof is not None and not proof.proven) or (
            measurement is not None and not measurement.correct
        )

    def faster(self, precision: str, than: str) -> str | None:
        """Say how much faster a precision was measured than another, if it was."""
        one, other = self._measurement(precision), self._measurement(than)
        if one is None or other is None or one.rtfx < FASTER * other.rtfx:
            return None
        if one.rtfx_bounds[0] <= other.rtfx_bounds[1]:
            return None
        return f"{precision} measured faster here ({self.figures(precision, than)})"

    def rather_fp32(self, half: str) -> str | None:
        """Say why fp32 is better than fp16, if it is; both can run."""
        if faster := self.faster("fp32", than=half):
            return faster
        if self.provider != "cpu" or self.faster(half, than="fp32") or self._is_lighter(half):
            return None
        why = "" if self.native_half else "computed in fp32 here"
        one, full = self._measurement(half), self._measurement("fp32")
        if one is None or full is None:
            return f"proven, but {why}" if why else None
        weight = self._weight(half, "fp32")
        if full.rtfx >= FASTER * one.rtfx:  # not beyond the spread, or fp32 would be called faster
            speed = f"no faster ({one.rtfx:.1f} against {full.rtfx:.1f} times real time)"
            return ", ".join(filter(None, (speed, weight)))
        return f"as fast, but {weight or why or 'no lighter'}"

    def figures(self, precision: str, than: str) -> str:
        """Tell speed, load time and memory of one precision against another's, as measured."""
        one, other = self._measurement(precision), self._measurement(than)
        if one is None or other is None:
            return ""
        speed = f"{one.rtfx:.1f} against {other.rtfx:.1f} times real time"
        return "; ".join(filter(None, (speed, self._weight(precision, than))))

    def _weight(self, precision: str, than: str) -> str:
        """Tell load time and memory of one against the other's; empty where neither is known."""
        one, other = self._measurement(precision), self._measurement(than)
        figures = []
        if one and other and one.load_s is not None and other.load_s is not None:
            figures.append(f"loads in {one.load_s:.1f} s against {other.load_s:.1f}")
        if one and other and one.peak_mib is not None and other.peak_mib is not None:
            figures.append(f"{one.peak_mib:,.0f} MiB against {other.peak_mib:,.0f}")
        return ", ".join(figures)

    def _is_lighter(self, half: str) -> bool:
        """Whether it loads faster than fp32 and takes less memory."""
        one, full = self._measurement(half), self._measurement("fp32")
        if one is None or full is None:
            return False
        if None in (one.load_s, full.load_s, one.peak_mib, full.peak_mib):
            return False
        return (one.load_s or 0.0) <= _LIGHTER * (full.load_s or 0.0) and (
            one.peak_mib or 0.0
        ) <= _LIGHTER * (full.peak_mib or 0.0)

    def slow_int8(self, precision: str) -> str | None:
        """Say that int8 is the wrong choice on a GPU (10 to 25 times slower on CUDA)."""
        if precision != "int8" or self.provider == "cpu":
            return None
        return f"int8 is many times slower than fp32 on {self.provider}"

    def _measurement(self, precision: str) -> Measurement | None:
        return self.measured.get((precision, self.provider))


def _automatic(known: Known, passed: dict[str, str], *, auto_int8: bool) -> tuple[str, str]:
    """Return the precision to take unasked and a remark on it; add to `passed` what is not."""
    fp32_works = known.unusable("fp32") is None
    for precision in (name for name in PRECISIONS if name not in passed):
        why_not = known.unusable(precision) or known.slow_int8(precision) or known.doubt(precision)
        if why_not is None and precision == "fp16" and fp32_works:
            why_not = known.rather_fp32(precision)
        if why_not is not None:
            passed[precision] = why_not
        elif auto_int8 and (gain := _int8_gain(known, precision, passed)):
            return "int8", f"{gain}, and auto_int8 is set"
        else:
            return precision, _int8_hint(known, precision, passed)
    return _last_resort(known, passed)


def _no_files(known: Known) -> set[str]:
    """Precisions that nobody misses: only fp16 is expected to be there."""
    return {name for name, why in known.problems.items() if name != "fp16" and why == absent(name)}


def _int8_hint(known: Known, precision: str, passed: Mapping[str, str]) -> str:
    """Say that int8 would be faster, where nobody has asked for it."""
    if precision == "int8" or "int8" in passed:
        return ""
    if known.unusable("int8") or known.slow_int8("int8") or known.doubt("int8"):
        return ""
    if not known.faster("int8", than=precision):
        return ""
    ratio = known.measured["int8", "cpu"].rtfx / known.measured[precision, "cpu"].rtfx
    return f"int8 is {ratio:.1f} times as fast: `stt config set auto_int8 true` allows it"


def _preference(known: Known) -> str:
    """Say why fp16 was taken when nothing was passed over, with the figures there are."""
    if faster := known.faster("fp16", than="fp32"):
        return faster
    figures = known.figures("fp16", than="fp32")
    return f"auto prefers fp16 (fp32 is no faster: {figures})" if figures else "auto prefers fp16"


def _int8_gain(known: Known, precision: str, passed: dict[str, str]) -> str | None:
    """Say how much faster int8 is than what would run, or add to `passed` why it is not taken."""
    if precision == "int8" or "int8" in passed:
        return None
    why_not = known.unusable("int8") or known.slow_int8("int8") or known.doubt("int8")
    gain = known.faster("int8", than=precision)
    if why_not or not gain:
        passed["int8"] = why_not or "not measured faster here"
        return None
    return gain


def _last_resort(known: Known, passed: dict[str, str]) -> tuple[str, str]:
    """Take one that was passed over for want of proof, rather than nothing."""
    left = [p for p in PRECISIONS if not (known.unusable(p) or known.slow_int8(p))]
    if not left:
        reasons = "; ".join(f"{precision}: {why}" for precision, why in passed.items())
        again = f"run `stt setup {shlex.quote(known.model)}`" if known.model else "run `stt setup`"
        cure = "" if "; correct " in reasons else f"; {again} again"
        raise ModelError(f"no precision of this model can be used ({reasons}){cure}")
    precision = min(left, key=known.refuted)  # the first of those not found wrong
    del passed[precision]
    return precision, f"{precision} is {known.doubt(precision)}, but nothing better is left"


def _by_name(precision: str, known: Known) -> str:
    notes = ["asked for by name"]
    if doubt := known.doubt(precision):
        notes.append(doubt)
    if known.slow_int8(precision):
        notes.append(f"on {known.provider} fp32 is many times faster")
    return "; ".join(notes)


def _reason(requested: str, passed: Mapping[str, str], remark: str) -> str:
    shown = {name: why for name, why in passed.items() if name == "fp16" or why != absent(name)}
    parts = [f"{name} passed over: {why}" for name, why in shown.items() if name != requested]
    if requested != "auto":
        parts.insert(0, f"{requested} was asked for, but: {passed[requested]}")
    return "; ".join([*parts, remark] if remark else parts)
