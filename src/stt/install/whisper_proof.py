"""Proof that a converted precision of Whisper does what FP32 does, on speech.

Compared are the encoder's output, the decoder's logits at FP32's own tokens, and the tokens that
come out: what `proof` compares of transducers, and at the same bounds but for INT8's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from stt.engine.folder import ModelFolder
from stt.engine.recognizer import DecoderStep, Probe
from stt.errors import ModelError
from stt.install.clips import Clip
from stt.install.observation import load
from stt.install.proof import Check, Verdict, relative_error, static_checks
from stt.types import Floats, ReportProgress, Samples

ENCODER_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
"""Largest relative error (L2 norm of the difference over that of FP32) of the encoder's output."""
LOGITS_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
SAME_TOKENS: Mapping[str, float] = {"fp16": 0.995, "int8": 0.90}
"""Share of FP32's tokens that must come out the same. INT8 loses words, which is known and told;
it is used unasked only where `auto_int8` allows it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one precision made of one clip."""

    hidden: Floats
    """The encoder's output, float32 [positions, width]."""
    steps: tuple[DecoderStep, ...]
    """FP32's."""
    logits: Floats
    """Of the last position at each step, float32 [steps, vocabulary]."""
    tokens: tuple[int, ...]
    """What was decoded, timestamps among it; empty also where the output was not finite."""


def prove(
    folder: ModelFolder, precisions: Sequence[str], clips: Sequence[Clip], report: ReportProgress
) -> dict[str, Verdict]:
    """Compare precisions of a Whisper model with its FP32; one that does not load has failed.

    Args:
        folder: the model's.
        precisions: fp16 or int8, complete in the folder.
        clips: of each the first 30 s.
        report: called with (stage, clips done, clips in all).

    Raises:
        ModelError: FP32 does not load.
    """
    fp32 = _hear(folder, "fp32", clips, report)
    verdicts = {}
    for precision in precisions:
        static = static_checks(folder, precision)
        try:
            other = _hear(folder, precision, clips, report, like=fp32)
        except ModelError as error:
            failed = Check("loads", passed=False, told=" ".join(str(error).split()))
            verdicts[precision] = Verdict((*static, failed))
        else:
            verdicts[precision] = Verdict((*static, *_judged(precision, fp32, other)))
    return verdicts


def _hear(
    folder: ModelFolder,
    precision: str,
    clips: Sequence[Clip],
    report: ReportProgress,
    like: Sequence[Heard] | None = None,
) -> list[Heard]:
    """Run all clips; `like`: FP32's, whose tokens are fed again for the logits."""
    probe = load(folder, precision)
    heard = []
    for number, clip in enumerate(clips):
        report(f"proving {precision}", number, len(clips))
        heard.append(_hear_one(probe, clip.samples, like[number] if like else None))
    report(f"proving {precision}", len(clips), len(clips))
    return heard


def _hear_one(probe: Probe, samples: Samples, like: Heard | None) -> Heard:
    hidden, valid = probe.encode(samples)
    decoded = probe.decode(hidden, valid)
    steps = decoded.steps if like is None else like.steps
    logits = [step.logits for step in steps] if like is None else probe.repeat(hidden, steps)
    return Heard(hidden, steps, np.stack(logits), decoded.tokens)


def _judged(precision: str, fp32: Sequence[Heard], other: Sequence[Heard]) -> tuple[Check, ...]:
    pairs = list(zip(fp32, other, strict=True))
    encoder = max(relative_error(one.hidden, two.hidden) for one, two in pairs)
    logits = relative_error(
        np.concatenate([one.logits for one in fp32]), np.concatenate([two.logits for two in other])
    )
    lost = sum(bool(one.tokens) and not two.tokens for one, two in pairs)
    same = sum(_common(one.tokens, two.tokens) for one, two in pairs)
    total = max(1, sum(max(len(one.tokens), len(two.tokens)) for one, two in pairs))
    least = SAME_TOKENS[precision]
    steps = sum(len(one.logits) for one in fp32)
    return (
        _bounded("encoder error", "encoder error", encoder, ENCODER_ERROR[precision]),
        # under the name that `proof` has for it, so that one table shows both
        _bounded(
            "joint error", f"logits' error over {steps} steps", logits, LOGITS_ERROR[precision]
        ),
        Check(
            "never empty",
            not lost,
            f"empty on {lost} clips where FP32 is not" if lost else "never empty where FP32 is not",
            lost,
            0,
        ),
        Check(
            "tokens",
            same / total >= least,
            f"{same} of {total} tokens on {len(pairs)} clips as in FP32",
            same / total,
            least,
        ),
    )


def _bounded(name: str, what: str, error: float, bound: float) -> Check:
    return Check(name, error <= bound, f"{what} {error:.2%} (at most {bound:.0%})", error, bound)


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    blocks = SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)
