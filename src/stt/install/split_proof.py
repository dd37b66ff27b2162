"""Proof that a decoder_joint in parts does what the whole one of the same precision does.

Both decode the same encoder frames. The whole one is `tdt.greedy_tdt`, a token at a time, as
onnx-asr does it; the parts are decoded by `label_looping`, one utterance at a time and all at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stt.engine.recognizer import Decoded, DecoderStep, PartsProbe
from stt.install.observation import Observation
from stt.install.proof import Check, Verdict, relative_error

BOUNDS = {"fp32": 1e-4, "fp16": 5e-3, "mixed": 5e-3}
"""Largest relative error of the logits (L2 norm), parts against whole, for the same inputs."""
_CLIPS = 4
"""Clips to decode."""
_STEPS = 100


def prove(parts: PartsProbe, seen: Observation, precision: str) -> Verdict:
    """Compare the parts of one precision with the whole decoder_joint.

    Args:
        parts: loaded.
        seen: what the whole gave for the clips.
        precision: of both.
    """
    frames, whole = seen.frames[:_CLIPS], seen.decoded[:_CLIPS]
    single = [parts.decode([one])[0] for one in frames]
    together = parts.decode(frames)
    return Verdict(
        (
            _same_logits(parts, seen.steps[:_STEPS], BOUNDS[precision]),
            _same("alone", whole, single),
            _same("together", whole, together),
        )
    )


def _same_logits(parts: PartsProbe, steps: Sequence[DecoderStep], bound: float) -> Check:
    ours = np.stack([parts.logits(step) for step in steps])
    error = relative_error(np.stack([s.logits for s in steps]), ours)
    told = f"logits differ by {error:.1e} over {len(steps)} steps (at most {bound:.0e})"
    return Check("logits in parts", error <= bound, told, error, bound)


def _same(how: str, whole: Sequence[Decoded], parts: Sequence[Decoded]) -> Check:
    """Tokens, frames and durations alike in each clip, but where two were as good as equal."""
    clear = [(one, two) for one, two in zip(whole, parts, strict=True) if not two.near_ties]
    same = sum((one.tokens, one.places) == (two.tokens, two.places) for one, two in clear)
    told = f"the same tokens on {same} of {len(clear)} clips decoded {how}"
    if not clear:
        told = f"decoded {how}, tokens not compared: on every clip two were as good as equal"
    elif ties := len(whole) - len(clear):
        told += f"; on {ties} more two tokens were as good as equal"
    return Check(f"tokens {how}", same == len(clear), told, same, len(clear))
