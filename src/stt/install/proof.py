"""Proof that a conversion does what FP32 does: on paper, in its lengths, and on speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from stt.convert.counting import CountingError, counted, cut_lengths, miscounted
from stt.convert.model_file import GraphFile, read
from stt.engine.folder import ModelFolder, cuda_form
from stt.engine.recognizer import Decoded, DecoderStep, PartsProbe
from stt.install.observation import Clip, Observation
from stt.types import Floats

DURATIONS_S = (0.3, 1.0, 5.0, 20.4, 20.5, 30.0, 45.0, 47.0, 58.6, 100.0, 300.0, 399.0)
"""Those over 20.48 s are where lengths in float16 go wrong; 400 s is the position table's end."""
ORDINARY_S = (0.3, 5.0, 20.5)
"""Seconds of audio that an encoder's numbers are compared on, beside the longest utterance."""
LONGEST_S = 28.0
"""Seconds of the longest utterance where the setting `max_segment_s` does not say more."""
SAME_TOKENS = 0.995
"""Share of FP32's tokens on real speech that must come out the same."""
RECOGNISES = 0.5
"""Share of the clips' words that FP32 must find for its tokens to mean anything."""


def durations(longest_s: float) -> tuple[float, ...]:
    """Seconds of audio to compare the encoder's numbers on, where none is longer than `longest_s`.

    Up to the usual longest utterance a few tell all; beyond it, all of `DURATIONS_S`.
    """
    longest = max(longest_s, LONGEST_S)
    longer = [seconds for seconds in DURATIONS_S if LONGEST_S < seconds < longest]
    return tuple(dict.fromkeys((*ORDINARY_S, LONGEST_S, *longer, longest)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest relative errors (L2 norm of the difference over the norm of FP32's output)."""

    encoder: float
    logits: float


BOUNDS: Mapping[str, Bounds] = {
    "fp16": Bounds(0.02, 0.02),
    "int8": Bounds(0.30, 0.30),
    "tuned": Bounds(1e-4, 1e-6),
    cuda_form("fp32"): Bounds(1e-4, 1e-6),
    cuda_form("fp16"): Bounds(0.02, 0.02),
}


PARTS_ERROR: Mapping[str, float] = {"fp32": 1e-4, "fp16": 5e-3}
"""Largest relative error of the logits, decoder_joint in parts against whole, for the same inputs.
"""
_PARTS_CLIPS = 4
"""Clips that the parts decode."""
_PARTS_STEPS = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    passed: bool
    message: str
    """The figures, in words."""
    figure: float | None = None
    bound: float | None = None

    def entry(self) -> dict[str, object]:
        """For the manifest."""
        figures = {"figure": self.figure, "bound": self.bound}
        return {"name": self.name, "passed": self.passed, "told": self.message, **figures}


def within(name: str, words: str, error: float, bound: float) -> Check:
    """Check that a relative error is at most so large."""
    return Check(name, error <= bound, f"{words} (at most {bound:.0%})", error, bound)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one precision."""

    checks: tuple[Check, ...]

    @property
    def proven(self) -> bool:
        """Whether it may be used."""
        return all(check.passed for check in self.checks)

    @property
    def why(self) -> str:
        """What failed, or the most telling of what held."""
        failed = [check.message for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else self.checks[-1].message

    def figures(self) -> dict[str, object]:
        """For the manifest."""
        checks = [check.entry() for check in self.checks]
        return {"proven": self.proven, "why": self.why, "checks": checks}


def compare(
    fp32: Observation, other: Observation, bounds: Bounds, clips: Sequence[Clip]
) -> Verdict:
    """Judge a precision by what it gave beside what FP32 gave.

    Outputs finite and near, lengths equal, and the tokens of speech that FP32 understands the same.
    """
    checks = [_lengths(fp32, other), _finite(other), _encoder(fp32, other, bounds)]
    if fp32.steps:
        checks.append(_logits(fp32, other, bounds))
    return Verdict((*checks, never_empty(fp32, other), _tokens(fp32, other, clips)))


def compare_parts(parts: PartsProbe, seen: Observation, precision: str) -> Verdict:
    """Judge the parts of one precision by what the whole decoder_joint of the same one gave.

    Both decode the same encoder frames: the whole one a token at a time, as onnx-asr does it, the
    parts by label looping, one utterance at a time and all at once.

    `seen` is what the whole gave for the clips.
    """
    frames, whole = seen.frames[:_PARTS_CLIPS], seen.decoded[:_PARTS_CLIPS]
    single = [parts.decode([one])[0] for one in frames]
    together = parts.decode(frames)
    return Verdict(
        (
            _same_logits(parts, seen.steps[:_PARTS_STEPS], PARTS_ERROR[precision]),
            _same_tokens_in_parts("alone", whole, single),
            _same_tokens_in_parts("together", whole, together),
        )
    )


def compare_rounds(rounds: PartsProbe, seen: Observation) -> tuple[Check, ...]:
    """Judge rounds as one graph by what the whole decoder_joint of the same precision gave."""
    frames, whole = seen.frames[:_PARTS_CLIPS], seen.decoded[:_PARTS_CLIPS]
    return (_same_tokens_in_parts("in rounds", whole, rounds.decode(frames)),)


def _same_logits(parts: PartsProbe, steps: Sequence[DecoderStep], bound: float) -> Check:
    ours = np.stack([parts.logits(step) for step in steps])
    error = relative_error(np.stack([s.logits for s in steps]), ours)
    message = f"logits differ by {error:.1e} over {len(steps)} steps (at most {bound:.0e})"
    return Check("logits in parts", error <= bound, message, error, bound)


def _same_tokens_in_parts(how: str, whole: Sequence[Decoded], parts: Sequence[Decoded]) -> Check:
    """Tokens, frames and durations alike in each clip, but where two were as good as equal."""
    clear = [(one, two) for one, two in zip(whole, parts, strict=True) if not two.near_ties]
    same = sum((one.tokens, one.places) == (two.tokens, two.places) for one, two in clear)
    message = f"the same tokens on {same} of {len(clear)} clips decoded {how}"
    if not clear:
        message = f"decoded {how}, tokens not compared: on every clip two were as good as equal"
    elif ties := len(whole) - len(clear):
        message += f"; on {ties} more two tokens were as good as equal"
    return Check(f"tokens {how}", same == len(clear), message, same, len(clear))


def static_checks(folder: ModelFolder, precision: str) -> tuple[Check, ...]:
    """Check without running: names, ranks and types of all inputs and outputs against FP32's.

    Arithmetic on lengths must be float32, also where the CPU's optimiser would hide that it is not.

    Raises:
        ModelError: a graph cannot be read.
    """
    changed, narrow = [], []
    path, family = folder.path, folder.family
    for fp32, other in zip(family.graphs("fp32"), family.graphs(precision), strict=True):
        file = read(path / other)
        if _edges(read(path / fp32).model.graph) != _edges(file.model.graph):
            changed.append(other)
        narrow += _half_lengths(file)
    message = (
        f"inputs and outputs of {', '.join(changed)} changed" if changed else "edges unchanged"
    )
    exact = f"lengths computed in float16 at {', '.join(narrow[:3])}" if narrow else "in float32"
    return (
        Check("inputs and outputs", not changed, message),
        Check("length arithmetic", not narrow, exact, len(narrow), 0),
    )


def lengths_alone(folder: ModelFolder, precision: str) -> Check | None:
    """Compare all that the encoder computes from `length` alone, at every length the model takes.

    It runs in ONNX's reference implementation, so that arithmetic in float16 is that of a device
    that has it, whatever this machine's CPU makes of it.

    Returns:
        None where FP32's lengths depend on more than `length`: then only audio can tell.

    Raises:
        ModelError: a graph cannot be read.
    """
    parts = [
        cut_lengths(read(folder.path / folder.family.graphs(name)[0]))
        for name in ("fp32", precision)
    ]
    if parts[0] is None:
        return None
    lengths = np.arange(1, folder.max_audio_s * 100 + 1)
    try:
        right = counted(parts[0], lengths)
    except CountingError:
        return None
    name = "lengths alone"
    try:
        wrong = (
            lengths if parts[1] is None else miscounted(right, counted(parts[1], lengths), lengths)
        )
    except CountingError as error:
        return Check(name, passed=False, message=f"its lengths cannot be computed ({error})")
    message = f"lengths of all of 0.01 to {lengths[-1] / 100:g} s counted as in FP32"
    if len(wrong):
        message = (
            f"{len(wrong):,} of {len(lengths):,} lengths miscounted, from {wrong[0] / 100:g} s on"
        )
    return Check(name, not len(wrong), message, len(wrong), 0)


def _half_lengths(file: GraphFile) -> list[str]:
    """Nodes of the length arithmetic that give or take float16."""
    from stt.convert.counting import find_counting
    from stt.convert.element_types import FLOAT16, infer
    from stt.convert.graph import called

    types = infer(file)
    nodes = file.model.graph.node
    return [
        called(nodes[index])
        for index in sorted(find_counting(file, types).exact)
        if FLOAT16 in {types.get(name) for name in (*nodes[index].input, *nodes[index].output)}
    ]


def _edges(graph: Any) -> list[tuple[str, int, int]]:
    stored = {tensor.name for tensor in graph.initializer}
    values = [value for value in (*graph.input, *graph.output) if value.name not in stored]
    types = [(value.name, value.type.tensor_type) for value in values]
    return [(name, kind.elem_type, len(kind.shape.dim)) for name, kind in types]


def _lengths(fp32: Observation, other: Observation) -> Check:
    wrong = [
        f"{length} for {fp32.encoded[seconds][1]} at {seconds:g} s"
        for seconds, (_, length) in other.encoded.items()
        if length != fp32.encoded[seconds][1]
    ]
    message = f"{len(other.encoded)} of as many lengths right"
    if wrong:
        message = f"{len(wrong)} wrong lengths: {', '.join(wrong[:4])}"
    elif left := [f"{seconds:g}" for seconds in fp32.encoded if seconds not in other.encoded]:
        message += f"; audio of {', '.join(left)} s not run: the memory ends before"
    return Check("lengths", not wrong, message, len(wrong), 0)


def _finite(other: Observation) -> Check:
    bad = [f"{s:g} s" for s, (frames, _) in other.encoded.items() if not np.isfinite(frames).all()]
    bad += ["logits"] if any(not np.isfinite(step.logits).all() for step in other.steps) else []
    message = f"NaN or infinity at {', '.join(bad)}" if bad else "all finite"
    return Check("finite", not bad, message, len(bad), 0)


def _encoder(fp32: Observation, other: Observation, bounds: Bounds) -> Check:
    errors = {}
    for seconds, (frames, _) in other.encoded.items():
        right, length = fp32.encoded[seconds]
        length = min(length, len(frames), len(right))
        errors[seconds] = relative_error(right[:length], frames[:length])
    worst = max(errors, key=lambda seconds: errors[seconds])
    error = errors[worst]
    words = f"encoder error {error:.2%} at {worst:g} s"
    return within("encoder error", words, error, bounds.encoder)


def _logits(fp32: Observation, other: Observation, bounds: Bounds) -> Check:
    error = logits_error(fp32, other)
    words = f"joint error {error:.2%} over {len(fp32.steps)} steps"
    return within("joint error", words, error, bounds.logits)


def logits_error(fp32: Observation, other: Observation) -> float:
    """Relative error of the logits at all of FP32's steps."""
    return relative_error(*(np.stack([s.logits for s in one.steps]) for one in (fp32, other)))


def never_empty(fp32: Observation, other: Observation) -> Check:
    """Whether there are tokens on every clip where FP32 has some."""
    lost = sum(bool(one) and not two for one, two in zip(fp32.tokens, other.tokens, strict=True))
    where = f"empty on {lost} clips" if lost else "never empty"
    return Check("never empty", not lost, f"{where} where FP32 is not", lost, 0)


def _tokens(fp32: Observation, other: Observation, clips: Sequence[Clip]) -> Check:
    understood = recognised(fp32.texts, [clip.text for clip in clips])
    if understood < RECOGNISES or not any(fp32.tokens):
        message = f"tokens not compared: FP32 itself finds {understood:.0%} of the clips' words"
        return Check("tokens", passed=True, message=message)
    return same_tokens(fp32, other, SAME_TOKENS)


def same_tokens(fp32: Observation, other: Observation, least: float) -> Check:
    """Whether at least this share of the tokens comes out as FP32 has it."""
    pairs = list(zip(fp32.tokens, other.tokens, strict=True))
    same = sum(common(one, two) for one, two in pairs)
    longest = max(1, sum(max(len(one), len(two)) for one, two in pairs))
    message = f"{same} of {longest} tokens on {len(pairs)} clips as in FP32"
    return Check("tokens", same / longest >= least, message, same / longest, least)


def recognised(texts: Sequence[str], references: Sequence[str]) -> float:
    """Share of the reference words that come in the texts in the same order, case aside."""
    pairs = [(_words(one), _words(two)) for one, two in zip(references, texts, strict=True)]
    total = sum(len(reference) for reference, _ in pairs)
    return sum(common(one, two) for one, two in pairs) / total if total else 0.0


def _words(text: str) -> tuple[str, ...]:
    kept = "".join(c if c.isalnum() or c == "'" else " " for c in text.casefold())
    return tuple(kept.split())


def common(one: Sequence[object], two: Sequence[object]) -> int:
    """Return how many items come in both in the same order."""
    blocks = SequenceMatcher(None, list(map(str, one)), list(map(str, two)), autojunk=False)
    return sum(block.size for block in blocks.get_matching_blocks())


def relative_error(fp32: Floats, other: Floats) -> float:
    """L2 norm of the difference over that of FP32; infinite where the other is not finite."""
    if not np.isfinite(other).all():
        return float("inf")
    size = float(np.linalg.norm(fp32))
    return float(np.linalg.norm(fp32 - other)) / size if size else 0.0
