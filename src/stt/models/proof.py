"""Proof that a converted precision does what FP32 does: on audio, at every kind of length.

`observe` runs one precision, `compare` judges what two of them gave. Encoded lengths must be equal
at durations where wrong conversions are known to miscount (over 20.48 s), outputs finite and near,
and the tokens of real speech the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from stt.convert.model_file import GraphFile
from stt.engine.collapse import CollapseError
from stt.engine.ctc import greedy_ctc
from stt.engine.onnx_asr_models import (
    CtcModel,
    TdtModel,
    encoded_lengths,
    encoder_feed,
    joint_feed,
    load_ctc,
    load_tdt,
)
from stt.engine.tdt import greedy_tdt
from stt.models.clips import Clip, of_length
from stt.models.folder import ModelFolder, graph_names
from stt.models.locate import ReportProgress

Floats = npt.NDArray[np.float32]

DURATIONS_S = (0.3, 1.0, 5.0, 20.4, 20.5, 30.0, 45.0, 47.0, 58.6, 100.0, 300.0, 399.0)
"""Those over 20.48 s are where lengths in float16 go wrong; 400 s is the position table's end."""
LENGTHS = np.arange(1, 40_000, 101)
"""Feature frames (10 ms) whose encoded lengths are compared too, whatever the memory."""
SAME_TOKENS = 0.995
"""Share of FP32's tokens on real speech that must come out the same."""
RECOGNISES = 0.5
"""Share of the clips' words that FP32 must find for its tokens to mean anything."""
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest relative errors (L2 norm of the difference over the norm of FP32's output)."""

    encoder: float
    logits: float


BOUNDS: Mapping[str, Bounds] = {
    "fp16": Bounds(0.02, 0.02),
    "mixed": Bounds(0.02, 0.02),
    "int8": Bounds(0.30, 0.30),
    "tuned": Bounds(1e-4, 1e-6),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One run of prediction network and joint, as FP32 did it."""

    last: int
    state: Any
    frame: Floats
    logits: Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """What one precision of a model gave."""

    encoded: Mapping[float, tuple[Floats, int]]
    """Seconds of audio -> (all frames [T, D], the length it told)."""
    lengths: tuple[int, ...]
    """Encoded lengths of `LENGTHS` feature frames, computed without audio of that length."""
    tokens: tuple[tuple[int, ...], ...]
    """Of each clip; empty also where the model returned NaN."""
    texts: tuple[str, ...]
    steps: tuple[Step, ...]
    """The first steps of decoding; with the logits this precision gave for FP32's inputs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    passed: bool
    told: str
    """The figures, in words."""
    figure: float | None = None
    bound: float | None = None


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
        failed = [check.told for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else self.checks[-1].told

    def figures(self) -> dict[str, object]:
        """For the manifest."""
        return {
            "proven": self.proven,
            "why": self.why,
            "checks": [asdict(check) for check in self.checks],
        }


def observe(
    folder: ModelFolder,
    precision: str,
    clips: Sequence[Clip],
    report: ReportProgress,
    *,
    provider: str = "cpu",
    like: Observation | None = None,
    longest_s: float = DURATIONS_S[-1],
) -> Observation:
    """Run one precision over all durations and clips.

    Args:
        longest_s: leave out longer durations.
        like: FP32's observation, whose decoding steps are repeated; None for FP32 itself.

    Raises:
        ModelError: it does not load.
    """
    free = psutil.virtual_memory().available
    durations = [
        seconds
        for seconds in (like.encoded if like else DURATIONS_S)
        if seconds <= longest_s
        and seconds < folder.max_audio_s
        and memory_needed(folder, precision, seconds) < free
    ]
    model = _load(folder, precision, provider)
    total = sum(durations) + sum(len(clip.samples) for clip in clips) / 16_000
    done, encoded = 0.0, {}
    for seconds in durations:
        report(f"proving {precision}", round(done), round(total))
        encoded[seconds] = model.encode_all(of_length(tuple(clips), seconds))
        done += seconds
    tokens = []
    for clip in clips:
        report(f"proving {precision}", round(done), round(total))
        tokens.append(_tokens(model, clip.samples))
        done += len(clip.samples) / 16_000
    report(f"proving {precision}", round(total), round(total))
    texts = ["".join(model.pieces.get(token, "") for token in ids) for ids in tokens]
    lengths = tuple(encoded_lengths(model, LENGTHS[folder.max_audio_s * 100 >= LENGTHS]))
    return Observation(encoded, lengths, tuple(tokens), tuple(texts), _steps(model, clips, like))


def feeds(
    folder: ModelFolder, clips: Sequence[Clip]
) -> tuple[list[dict[str, npt.NDArray[Any]]], list[dict[str, npt.NDArray[Any]]]]:
    """Inputs of FP32's graphs on real speech: of the encoder, and of the decoder_joint if any."""
    model = _load(folder, "fp32", "cpu")
    encoder = [encoder_feed(model, of_length(tuple(clips), seconds)) for seconds in (5.0, 20.5)]
    steps = _steps(model, clips, None)
    return encoder, [joint_feed(step.last, step.state, step.frame) for step in steps[::20]]


def _load(folder: ModelFolder, precision: str, provider: str) -> TdtModel | CtcModel:
    load: Callable[..., TdtModel | CtcModel] = load_tdt
    if folder.kind == "nemo-conformer-ctc":
        load = load_ctc
    return load(folder.as_published, precision, provider, 0)


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


def _tokens(model: TdtModel | CtcModel, samples: Floats) -> tuple[int, ...]:
    try:
        frames = model.encode(samples)
        if isinstance(model, CtcModel):
            return tuple(token.id for token in greedy_ctc(frames, model.blank))
        found = greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary)
    except CollapseError:
        return ()  # counted as empty where FP32 is not
    return tuple(emission.id for emission in found)


def _steps(
    model: TdtModel | CtcModel, clips: Sequence[Clip], like: Observation | None
) -> tuple[Step, ...]:
    """Record the first decoding steps, or repeat those recorded with FP32's inputs."""
    if isinstance(model, CtcModel) or not clips:
        return ()
    if like is not None:
        return tuple(
            Step(s.last, s.state, s.frame, model.logits(s.last, s.state, s.frame)[0])
            for s in like.steps
        )
    recorded: list[Step] = []

    def step(last: int, state: Any, frame: Floats) -> tuple[Floats, Any]:
        logits, after = model.logits(last, state, frame)
        recorded.append(Step(last, state, frame, logits))
        return logits, after

    frames, length = model.encode_all(clips[0].samples)
    greedy_tdt(step, model.initial_state(), frames[:length], model.vocabulary)
    return tuple(recorded[:_STEPS])


def compare(
    fp32: Observation, other: Observation, bounds: Bounds, clips: Sequence[Clip]
) -> Verdict:
    """Judge a precision by what it gave beside what FP32 gave."""
    checks = [_lengths(fp32, other), _finite(other), _encoder(fp32, other, bounds)]
    if fp32.steps:
        checks.append(_logits(fp32, other, bounds))
    return Verdict((*checks, _never_empty(fp32, other), _same_tokens(fp32, other, clips)))


def static_checks(folder: Path, kind: str, precision: str) -> tuple[Check, ...]:
    """Check without running: names, ranks and types of all inputs and outputs against FP32's, and
    that arithmetic on lengths is float32 also where the CPU's optimiser would hide that it is not.

    Raises:
        ModelError: a graph cannot be read.
    """
    from stt.convert.model_file import read

    changed, narrow = [], []
    for fp32, other in zip(graph_names(kind, "fp32"), graph_names(kind, precision), strict=True):
        file = read(folder / other)
        if _edges(read(folder / fp32).model.graph) != _edges(file.model.graph):
            changed.append(other)
        narrow += _half_lengths(file)
    told = f"inputs and outputs of {', '.join(changed)} changed" if changed else "edges unchanged"
    exact = f"lengths computed in float16 at {', '.join(narrow[:3])}" if narrow else "in float32"
    return (
        Check("inputs and outputs", not changed, told),
        Check("length arithmetic", not narrow, exact, len(narrow), 0),
    )


def _half_lengths(file: GraphFile) -> list[str]:
    """Nodes of the length arithmetic that give or take float16."""
    from stt.convert.counting import find_counting
    from stt.convert.element_types import FLOAT16, called, infer

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
    pairs = zip(LENGTHS, fp32.lengths, other.lengths, strict=False)
    wrong += [f"{two} for {one} at {frames / 100:g} s" for frames, one, two in pairs if one != two]
    told = f"{len(other.encoded) + len(other.lengths)} of as many lengths right"
    if wrong:
        told = f"{len(wrong)} wrong lengths: {', '.join(wrong[:4])}"
    elif left := [f"{seconds:g}" for seconds in DURATIONS_S if seconds not in other.encoded]:
        told += f"; whole audio of {', '.join(left)} s not run: the model or the memory ends before"
    return Check("lengths", not wrong, told, len(wrong), 0)


def _finite(other: Observation) -> Check:
    bad = [f"{s:g} s" for s, (frames, _) in other.encoded.items() if not np.isfinite(frames).all()]
    bad += ["logits"] if any(not np.isfinite(step.logits).all() for step in other.steps) else []
    told = f"NaN or infinity at {', '.join(bad)}" if bad else "all finite"
    return Check("finite", not bad, told, len(bad), 0)


def _encoder(fp32: Observation, other: Observation, bounds: Bounds) -> Check:
    errors = {
        seconds: relative_error(*_cut(fp32.encoded[seconds], frames))
        for seconds, (frames, _) in other.encoded.items()
    }
    worst = max(errors, key=lambda seconds: errors[seconds])
    error = errors[worst]
    told = f"encoder error {error:.2%} at {worst:g} s (at most {bounds.encoder:.0%})"
    return Check("encoder error", error <= bounds.encoder, told, error, bounds.encoder)


def _cut(fp32: tuple[Floats, int], frames: Floats) -> tuple[Floats, Floats]:
    """Both outputs up to the length that FP32 told, as far as there are frames."""
    length = min(fp32[1], len(frames), len(fp32[0]))
    return fp32[0][:length], frames[:length]


def _logits(fp32: Observation, other: Observation, bounds: Bounds) -> Check:
    error = relative_error(
        np.stack([step.logits for step in fp32.steps]),
        np.stack([step.logits for step in other.steps]),
    )
    told = f"joint error {error:.2%} over {len(fp32.steps)} steps (at most {bounds.logits:.0%})"
    return Check("joint error", error <= bounds.logits, told, error, bounds.logits)


def _never_empty(fp32: Observation, other: Observation) -> Check:
    lost = sum(bool(one) and not two for one, two in zip(fp32.tokens, other.tokens, strict=True))
    told = f"empty on {lost} clips where FP32 is not" if lost else "never empty where FP32 is not"
    return Check("never empty", not lost, told, lost, 0)


def _same_tokens(fp32: Observation, other: Observation, clips: Sequence[Clip]) -> Check:
    understood = recognised(fp32.texts, [clip.text for clip in clips])
    total = sum(map(len, fp32.tokens))
    if understood < RECOGNISES or not total:
        return Check(
            "tokens",
            True,
            f"tokens not compared: FP32 itself finds {understood:.0%} of the clips' words",
        )
    same = sum(map(_common, fp32.tokens, other.tokens))
    longest = sum(
        max(len(one), len(two)) for one, two in zip(fp32.tokens, other.tokens, strict=True)
    )
    share = same / longest
    told = f"{same} of {longest} tokens on {len(clips)} clips as in FP32"
    return Check("tokens", share >= SAME_TOKENS, told, share, SAME_TOKENS)


def recognised(texts: Sequence[str], references: Sequence[str]) -> float:
    """Share of the reference words that come in the texts in the same order, case aside."""
    pairs = [(_words(one), _words(two)) for one, two in zip(references, texts, strict=True)]
    total = sum(len(reference) for reference, _ in pairs)
    return sum(_common(one, two) for one, two in pairs) / total if total else 0.0


def _words(text: str) -> tuple[str, ...]:
    kept = "".join(c if c.isalnum() or c == "'" else " " for c in text.casefold())
    return tuple(kept.split())


def _common(one: Sequence[object], two: Sequence[object]) -> int:
    blocks = SequenceMatcher(None, list(map(str, one)), list(map(str, two)), autojunk=False)
    return sum(block.size for block in blocks.get_matching_blocks())


def relative_error(fp32: Floats, other: Floats) -> float:
    """L2 norm of the difference over that of FP32; infinite where the other is not finite."""
    if not np.isfinite(other).all():
        return float("inf")
    size = float(np.linalg.norm(fp32))
    return float(np.linalg.norm(fp32 - other)) / size if size else 0.0
