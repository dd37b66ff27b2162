"""What one precision of a model gives on speech: encoder frames, decoding steps, tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from stt.engine.folder import ModelFolder, graph_names
from stt.errors import NonFiniteOutput
from stt.install.clips import Clip, of_length
from stt.models.ctc import greedy_ctc
from stt.models.onnx_asr_edge import (
    CtcModel,
    LstmState,
    TdtModel,
    encoder_feed,
    joint_feed,
    load_ctc,
    load_tdt,
    usable,
)
from stt.models.tdt import Emission, greedy_tdt

Floats = npt.NDArray[np.float32]
Model = TdtModel | CtcModel

STEPS = 200
"""Decoding steps whose logits are compared, at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """One run of prediction network and joint, as FP32 did it."""

    last: int
    state: LstmState
    frame: Floats
    logits: Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """What one precision of a model gave."""

    encoded: Mapping[float, tuple[Floats, int]]
    """Seconds of audio -> (all frames [T, D], the length it told)."""
    tokens: tuple[tuple[int, ...], ...]
    """Of each clip; empty also where the model returned NaN."""
    texts: tuple[str, ...]
    steps: tuple[Step, ...]
    """The first steps of decoding; with the logits this precision gave for FP32's inputs."""
    frames: tuple[Floats, ...] = ()
    """Encoder frames [T, D] of each clip; none where the model returned NaN."""
    emissions: tuple[tuple[Emission, ...], ...] = ()
    """What a transducer's decoder_joint as a whole decoded of each clip's frames."""


def load(folder: ModelFolder, precision: str, provider: str = "cpu") -> Model:
    """Load the files of a precision themselves: not its tuned form or parts.

    Raises:
        ModelError: it does not load.
    """
    read: Callable[..., Model] = load_tdt
    if folder.kind == "nemo-conformer-ctc":
        read = load_ctc
    return read(folder.as_published, precision, provider, 0)


def observe(
    model: Model,
    durations: Sequence[float],
    clips: Sequence[Clip],
    heard: Callable[[float], None] = lambda _: None,
    *,
    like: Observation | None = None,
) -> Observation:
    """Run a loaded model over speech of all durations and over the clips.

    Args:
        model: one precision.
        durations: seconds.
        clips: speech.
        heard: called with the seconds of speech that have just been run.
        like: FP32's observation, whose decoding steps are repeated; None for FP32 itself.
    """
    encoded = {}
    for seconds in durations:
        encoded[seconds] = model.encode_all(of_length(tuple(clips), seconds))
        heard(seconds)
    recorded: list[Step] = []
    frames, emissions, tokens = [], [], []
    for clip in clips:
        given, told = model.encode_all(clip.samples)
        frames.append(given[: max(told, 0)])
        if isinstance(model, CtcModel):
            tokens.append(_ctc_tokens(model, given, told))
        else:
            emissions.append(_decoded(model, given, told, recorded))
            tokens.append(tuple(emission.id for emission in emissions[-1]))
        heard(len(clip.samples) / 16_000)
    texts = ("".join(model.pieces.get(token, "") for token in ids) for ids in tokens)
    return Observation(
        encoded,
        tuple(tokens),
        tuple(texts),
        tuple(recorded) if like is None else _repeated(model, like.steps),
        tuple(frames),
        tuple(emissions),
    )


def _ctc_tokens(model: CtcModel, frames: Floats, told: int) -> tuple[int, ...]:
    try:
        return tuple(token.id for token in greedy_ctc(usable(frames, told), model.blank))
    except NonFiniteOutput:
        return ()  # counted as empty where FP32 is not


def _decoded(
    model: TdtModel, frames: Floats, told: int, recorded: list[Step]
) -> tuple[Emission, ...]:
    """Decode one clip with the whole decoder_joint; the first steps of all go into `recorded`."""

    def step(last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
        logits, after = model.step(last, state, frame)
        if len(recorded) < STEPS:
            recorded.append(Step(last, state, frame, logits))
        return logits, after

    try:
        usable_frames = usable(frames, told)
        return tuple(greedy_tdt(step, model.initial_state(), usable_frames, model.vocabulary))
    except NonFiniteOutput:
        return ()


def _repeated(model: Model, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The logits that a model gives for the inputs of steps recorded with another."""
    if isinstance(model, CtcModel):
        return ()
    return tuple(
        Step(s.last, s.state, s.frame, model.logits(s.last, s.state, s.frame)[0]) for s in steps
    )


def feeds(
    model: Model, clips: Sequence[Clip]
) -> tuple[list[dict[str, npt.NDArray[Any]]], list[dict[str, npt.NDArray[Any]]]]:
    """Inputs of FP32's graphs on real speech: of the encoder, and of the decoder_joint if any."""
    encoder = [encoder_feed(model, of_length(tuple(clips), seconds)) for seconds in (5.0, 20.5)]
    steps = observe(model, (), clips[:1]).steps
    return encoder, [joint_feed(step.last, step.state, step.frame) for step in steps[::20]]


def memory_needed(folder: ModelFolder, precision: str, seconds: float) -> int:
    """Bytes that running the encoder on so much audio may take, with some room.

    The graph: three and a half times its file, as float16 becomes float32 on a CPU. Attention:
    fourteen matrices of eight heads over all encoder frames in float32, as measured with the arena
    (without it every matrix is fresh pages: 300 s of audio took 2.3 times as long for no less).
    """
    graph = folder.path / graph_names(folder.kind, precision)[0]
    data = graph.with_name(f"{graph.name}.data")
    size = graph.stat().st_size + (data.stat().st_size if data.exists() else 0)
    factor = 3.5 if precision != "fp32" else 1.5
    return int(factor * size + 14 * 8 * 4 * (seconds * 12.5) ** 2)


def possible(folder: ModelFolder, precision: str, durations: Sequence[float]) -> tuple[float, ...]:
    """Those of some durations in seconds that the model takes and the free memory has room for."""
    free = psutil.virtual_memory().available
    return tuple(
        seconds
        for seconds in durations
        if seconds < folder.max_audio_s and memory_needed(folder, precision, seconds) < free
    )
