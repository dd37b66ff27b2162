"""Proof that a decoder_joint in parts does what the whole one of the same precision does.

Both decode the same encoder frames. The whole one is `tdt.greedy_tdt`, a token at a time, as
onnx-asr does it; the parts are decoded by `label_looping`, one utterance at a time and all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stt.install.observation import Observation, Step
from stt.install.proof import Check, Verdict, relative_error
from stt.models.label_looping import Decoding
from stt.models.onnx_asr_edge import TdtModel
from stt.models.split_transducer import SplitTransducer
from stt.models.tdt import Emission

BOUNDS = {"fp32": 1e-4, "fp16": 5e-3, "mixed": 5e-3}
"""Largest relative error of the logits (L2 norm), parts against whole, for the same inputs."""
_CLIPS = 4
"""Clips to decode."""
_STEPS = 100


def prove(model: TdtModel, parts: SplitTransducer, seen: Observation, precision: str) -> Verdict:
    """Compare the parts of one precision with the whole decoder_joint.

    Args:
        model: the whole.
        parts: the same in parts.
        seen: what the whole gave for the clips.
        precision: of both.
    """
    frames, whole = seen.frames[:_CLIPS], seen.emissions[:_CLIPS]
    apart = replace(model, split=parts)
    single = [apart.decode([one])[0] for one in frames]
    together = apart.decode(frames)
    return Verdict(
        (
            _same_logits(parts, seen.steps[:_STEPS], BOUNDS[precision]),
            _same("alone", whole, single),
            _same("together", whole, together),
        )
    )


def _same_logits(split: SplitTransducer, steps: Sequence[Step], bound: float) -> Check:
    ours = np.stack([split.step(s.last, s.state, s.frame)[0] for s in steps])
    error = relative_error(np.stack([s.logits for s in steps]), ours)
    told = f"logits differ by {error:.1e} over {len(steps)} steps (at most {bound:.0e})"
    return Check("logits in parts", error <= bound, told, error, bound)


def _same(how: str, whole: Sequence[Sequence[Emission]], parts: Sequence[Decoding]) -> Check:
    """Tokens, frames and durations alike in each clip, but where two were as good as equal."""
    clear = [(one, two) for one, two in zip(whole, parts, strict=True) if not two.near_ties]
    same = sum(_plain(one) == _plain(two.emissions) for one, two in clear)
    told = f"the same tokens on {same} of {len(clear)} clips decoded {how}"
    if not clear:
        told = f"decoded {how}, tokens not compared: on every clip two were as good as equal"
    elif ties := len(whole) - len(clear):
        told += f"; on {ties} more two tokens were as good as equal"
    return Check(f"tokens {how}", same == len(clear), told, same, len(clear))


def _plain(emissions: Sequence[Emission]) -> list[tuple[int, int, int]]:
    return [(e.id, e.frame, e.duration) for e in emissions]
