"""Proof that a decoder_joint in parts does what the whole one of the same precision does.

Both decode the same encoder frames. The whole one is `tdt.greedy_tdt`, a token at a time, as
onnx-asr does it; the parts are decoded by `label_looping`, one utterance at a time and all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stt.engine.label_looping import Decoding
from stt.engine.onnx_asr_models import LstmState, TdtModel, load_tdt
from stt.engine.split_transducer import SplitTransducer
from stt.engine.tdt import Emission, Floats, greedy_tdt
from stt.errors import ModelError
from stt.models.clips import Clip
from stt.models.folder import ModelFolder
from stt.models.proof import Check, Step, Verdict, relative_error

BOUNDS = {"fp32": 1e-4, "fp16": 5e-3, "mixed": 5e-3, "int8": 5e-3}
"""Largest relative error of the logits (L2 norm), parts against whole, for the same inputs."""
_CLIPS = 4
"""Clips to decode: each must be encoded first, which is what takes time."""
_STEPS = 100


def prove(folder: ModelFolder, precision: str, clips: Sequence[Clip]) -> Verdict:
    """Compare the parts of one precision with the whole; parts that do not load have failed.

    Args:
        folder: its parts need not be proven yet.

    Raises:
        ModelError: the whole one does not load, or gives nothing usable.
    """
    try:
        with_parts = replace(folder, split=frozenset([precision]))
        model = load_tdt(with_parts, precision, "cpu", 0)
    except ModelError as error:
        load_tdt(replace(folder, split=frozenset()), precision, "cpu", 0)
        return Verdict((Check("loads", passed=False, told=str(error)),))
    if model.split is None:  # for mypy: the CPU takes parts
        raise ModelError(f"{folder.path}: has no parts for {precision}")
    frames = [model.encode(clip.samples) for clip in clips[:_CLIPS]]
    steps: list[Step] = []
    whole = [_recorded(model, f, steps) for f in frames]
    single = [model.decode([f])[0] for f in frames]
    together = model.decode(frames)
    return Verdict(
        (
            _same_logits(model.split, steps[:_STEPS], BOUNDS[precision]),
            _same("one at a time", whole, single),
            # INT8 takes one scale for the states of a batch: told, not demanded
            _same("as a batch", whole, together, demanded=precision != "int8"),
        )
    )


def _recorded(model: TdtModel, frames: Floats, steps: list[Step]) -> list[Emission]:
    def step(last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
        logits, after = model.step(last, state, frame)
        steps.append(Step(last, state, frame, logits))
        return logits, after

    return greedy_tdt(step, model.initial_state(), frames, model.vocabulary)


def _same_logits(split: SplitTransducer, steps: Sequence[Step], bound: float) -> Check:
    ours = np.stack([split.step(s.last, s.state, s.frame)[0] for s in steps])
    error = relative_error(np.stack([s.logits for s in steps]), ours)
    told = f"logits differ by {error:.1e} over {len(steps)} steps (at most {bound:.0e})"
    return Check("logits in parts", error <= bound, told, error, bound)


def _same(
    how: str,
    whole: Sequence[Sequence[Emission]],
    parts: Sequence[Decoding],
    *,
    demanded: bool = True,
) -> Check:
    """Tokens, frames and durations alike in each clip, but where two were as good as equal."""
    clear = [(one, two) for one, two in zip(whole, parts, strict=True) if not two.near_ties]
    same = sum(_plain(one) == _plain(two.emissions) for one, two in clear)
    ties = sum(two.near_ties for two in parts)
    told = f"{how} the same on {same} of {len(clear)} clips, {ties} near ties in the others"
    return Check(f"tokens {how}", same == len(clear) or not demanded, told, same, len(clear))


def _plain(emissions: Sequence[Emission]) -> list[tuple[int, int, int]]:
    return [(e.id, e.frame, e.duration) for e in emissions]
