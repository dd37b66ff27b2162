"""Proof that a converted precision of Whisper does what FP32 does, on speech.

Compared are the encoder's output, the decoder's logits at FP32's own tokens, and the tokens that
come out: what `proof` compares of transducers, and at the same bounds but for INT8's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stt.engine.folder import ModelFolder
from stt.errors import ModelError
from stt.install.clips import Clip
from stt.install.observation import Observation, load, observe
from stt.install.proof import Check, Verdict, common, relative_error, static_checks
from stt.types import ReportProgress

ENCODER_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
"""Largest relative error (L2 norm of the difference over that of FP32) of the encoder's output."""
LOGITS_ERROR: Mapping[str, float] = {"fp16": 0.02, "int8": 0.30}
SAME_TOKENS: Mapping[str, float] = {"fp16": 0.995, "int8": 0.90}
"""Share of FP32's tokens that must come out the same. INT8 loses words, which is known and told;
it is used unasked only where `auto_int8` allows it."""


def prove(
    folder: ModelFolder,
    precision: str,
    fp32: Observation,
    clips: Sequence[Clip],
    report: ReportProgress,
) -> Verdict:
    """Compare a precision of a Whisper model with its FP32; one that does not load has failed.

    Args:
        folder: the model's.
        precision: fp16 or int8, complete in the folder.
        fp32: what FP32 gave for these clips.
        clips: of each the first 30 s.
        report: called with (stage, clips done, clips in all).
    """
    static = static_checks(folder, precision)
    try:
        other = observed(folder, precision, clips, report, like=fp32)
    except ModelError as error:
        failed = Check("loads", passed=False, told=" ".join(str(error).split()))
        return Verdict((*static, failed))
    return Verdict((*static, *_judged(precision, fp32, other)))


def observed(
    folder: ModelFolder,
    precision: str,
    clips: Sequence[Clip],
    report: ReportProgress,
    like: Observation | None = None,
) -> Observation:
    """Run all clips; `like`: FP32's, whose tokens are fed again for the logits.

    Raises:
        ModelError: the precision does not load.
    """
    probe, done = load(folder, precision), 0
    report(f"proving {precision}", done, len(clips))

    def heard(_: float) -> None:
        nonlocal done
        done += 1
        report(f"proving {precision}", done, len(clips))

    return observe(probe, (), clips, heard, like=like, most_steps=None)


def _judged(precision: str, fp32: Observation, other: Observation) -> tuple[Check, ...]:
    encoder = max(map(relative_error, fp32.frames, other.frames))
    logits = relative_error(*(np.stack([s.logits for s in one.steps]) for one in (fp32, other)))
    pairs = list(zip(fp32.tokens, other.tokens, strict=True))
    lost = sum(bool(one) and not two for one, two in pairs)
    same = sum(common(one, two) for one, two in pairs)
    total = max(1, sum(max(len(one), len(two)) for one, two in pairs))
    least = SAME_TOKENS[precision]
    steps = len(fp32.steps)
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
