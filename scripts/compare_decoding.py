"""Decoding of a transducer, several ways in turn on the same encoder frames: time and tokens.

usage: python scripts/compare_decoding.py [MODEL_DIR] [--audio DIR] [--clips 200] [--precision fp32]
                                          [--rounds 9] [--threads 2] [--tokens-per-second 3]

onnx-asr's loop; ours with the fused decoder_joint; ours with its parts (made in a temporary folder)
over batches; and, in FP32, the whole loop as one graph (`loop_graph`). Time is for 30 s stretches
of the recordings below AUDIO_DIR, one way after the other in every round; tokens, frames and
durations are compared on `--clips` recordings of 0.3 to 20 s.

--tokens-per-second makes a model with random weights speak like a real one: a bias on the blank is
searched with which about so many tokens come out, and put into the graphs of all ways alike.
Exit code 1 if a clip comes out otherwise and no near tie excuses it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from compare_tdt import read_clips
from loop_graph import loop_model
from recordings import DIGITS_MODEL, MODEL_HELP, SAMPLES
from stt.convert.model_file import read
from stt.convert.split import split, split_file
from stt.engine.folder import graph_names, inspect, split_names
from stt.engine.sessions import session_options
from stt.install.clips import Clip, of_length
from stt.models.label_looping import Decoding, label_looping
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.split_transducer import (
    FRAMES,
    NEW_STATES,
    PREDICTION,
    STATES,
    TOKENS,
    SplitTransducer,
)
from stt.models.tdt import Floats, greedy_tdt

BATCHES = (1, 4, 16, 32)
SECONDS = 30
PIECES = 8
"""Different stretches of audio; larger batches take them again, begun elsewhere."""


@dataclass
class Inside:
    """A session that adds up the seconds spent in it."""

    session: object
    seconds: float = 0.0

    def __getattr__(self, name: str) -> object:
        inner = getattr(self.session, name)
        if name not in ("run", "run_with_iobinding"):
            return inner

        def timed(*args: object) -> object:
            began = time.perf_counter()
            found = inner(*args)
            self.seconds += time.perf_counter() - began
            return found

        return timed


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--audio", type=Path, default=SAMPLES, help="recordings")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--tokens-per-second", type=float)
    args = parser.parse_args()
    clips = read_clips(args.audio, args.clips)
    with tempfile.TemporaryDirectory() as name:
        folder = copied(args.model, Path(name), args.precision)
        model = load(folder, args.precision, args.threads)
        pieces = [model.encode(piece) for piece in stretches(clips)]
        if args.tokens_per_second:
            add_blank_bias(folder, model, pieces, args.tokens_per_second)
            model = load(folder, args.precision, args.threads)
        loop = InOneGraph(folder, args.precision, model) if args.precision == "fp32" else None
        print(table(model, pieces, args.rounds, loop))
        right = same_tokens(model, [model.encode(clip) for clip in clips])
    sys.exit(0 if right else 1)


def copied(source: Path, folder: Path, precision: str) -> Path:
    """Links to a model's files and a copy of its decoder_joint, to be edited; no manifest."""
    for path in source.iterdir():
        if path.suffix in (".onnx", ".data", ".txt", ".json") and path.name != "manifest.json":
            (folder / path.name).symlink_to(path.resolve())
    joint = graph_names("nemo-conformer-tdt", precision)[1]
    (folder / joint).unlink()
    shutil.copy(source / joint, folder / joint)
    return folder


def load(folder: Path, precision: str, threads: int) -> TdtModel:
    """The model with its decoder_joint in parts."""
    joint = graph_names("nemo-conformer-tdt", precision)[1]
    split_file(folder / joint, [folder / name for name in split_names(precision)])
    found = replace(inspect(folder), split=frozenset([precision]))
    return load_tdt(found, precision, "cpu", threads)


def stretches(clips: Sequence[Floats]) -> list[Floats]:
    """Pieces of `SECONDS` out of all clips in a row."""
    speech = of_length(tuple(Clip("", clip, "") for clip in clips), SECONDS * PIECES)
    return list(speech.reshape(PIECES, -1))


def add_blank_bias(folder: Path, model: TdtModel, pieces: Sequence[Floats], wanted: float) -> None:
    """Find and put in the bias of the blank with which `wanted` tokens a second come out."""
    size, blank = model.vocabulary.size, model.vocabulary.blank
    assert model.split is not None

    class Biased:
        def __init__(self, frames: Floats) -> None:
            self.networks, self.bias = model.split.batch([frames]), 0.0

        def predict(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
            self.networks.predict(rows, tokens)

        def join(self, rows: Sequence[int], frames: Sequence[int]) -> Floats:
            logits = self.networks.join(rows, frames)
            logits[..., blank] += self.bias
            return logits

    low, high = -20.0, 20.0
    for _ in range(12):
        bias = (low + high) / 2
        networks = Biased(pieces[0])
        networks.bias = bias
        (found,) = label_looping(networks, [len(pieces[0])], model.vocabulary)
        rate = len(found.emissions) / SECONDS
        low, high = (bias, high) if rate > wanted else (low, bias)
    path = folder / "decoder_joint-model.onnx"
    graph = onnx.load(path)
    (last,) = [node for node in graph.graph.node if "outputs" in node.output]
    (tensor,) = [t for t in graph.graph.initializer if t.name in last.input]
    values = numpy_helper.to_array(tensor).copy()
    assert values.shape == (size + len(model.vocabulary.durations),)
    values[blank] += np.float32(bias)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, path)
    print(f"bias {bias:+.4f} on the blank: {rate:.1f} tokens a second on the first stretch\n")


def onnx_asr(model: TdtModel, frames: Floats) -> tuple[list[int], list[int]]:
    """Tokens and frames by onnx-asr's own loop."""
    lengths = np.array([len(frames)])
    tokens, at, _ = next(iter(model.asr._decoding(frames[None], lengths)))
    return list(tokens), list(at)


def in_parts(model: TdtModel, split: SplitTransducer, batch: Sequence[Floats]) -> list[Decoding]:
    """Ours with the parts."""
    return label_looping(split.batch(batch), [len(f) for f in batch], model.vocabulary)


class InOneGraph:
    """The whole loop as one graph, see `loop_graph`."""

    def __init__(self, folder: Path, precision: str, model: TdtModel) -> None:
        path = folder / graph_names("nemo-conformer-tdt", precision)[1]
        content = loop_model(split(read(path)), model.vocabulary)
        options = session_options(1)
        self.session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        self.model = model

    def decode(self, frames: Floats) -> list[tuple[int, int, int]]:
        """Tokens, frames and durations."""
        parts, blank = self.model.split, self.model.vocabulary.blank
        assert parts is not None
        first, *states = parts.prediction.run(
            [PREDICTION, *NEW_STATES],
            {
                TOKENS: np.array([[blank]], np.int32),
                **dict(zip(STATES, self.model.initial_state(), strict=True)),
            },
        )
        begin = dict(zip(self.begin, (first, *states), strict=True))
        feed = {FRAMES: np.ascontiguousarray(frames.T)[None], **begin}
        tokens, at, steps = self.session.run(None, feed)
        told = tokens != blank
        found = (tokens[told].tolist(), at[told].tolist(), steps[told].tolist())
        return list(zip(*found, strict=True))

    @property
    def begin(self) -> list[str]:
        """Names of the inputs behind the frames."""
        return [entry.name for entry in self.session.get_inputs()][1:]


def table(model: TdtModel, pieces: Sequence[Floats], rounds: int, loop: InOneGraph | None) -> str:
    """Time every way in every round; returns the lines to print."""
    parts = model.split
    assert parts is not None
    batches = {n: [np.roll(pieces[i % PIECES], 37 * (i // PIECES), 0) for i in range(n)]
               for n in BATCHES}  # fmt: skip
    turn = 0

    def one() -> Floats:
        return pieces[turn % PIECES]

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "onnx-asr": (1, lambda: onnx_asr(model, one())),
        "ours, fused": (
            1,
            lambda: greedy_tdt(model.step, model.initial_state(), one(), model.vocabulary),
        ),
        "ours, in parts, batch 1": (1, lambda: in_parts(model, parts, [one()])),
        **{
            f"ours, in parts, batch {n}": (n, lambda n=n: in_parts(model, parts, batches[n]))
            for n in BATCHES[1:]
        },
    }
    if loop is not None:
        ways["the loop in one graph, batch 1"] = (1, lambda: loop.decode(one()))
        for piece in pieces:
            ours = greedy_tdt(model.step, model.initial_state(), piece, model.vocabulary)
            assert loop.decode(piece) == [(e.id, e.frame, e.duration) for e in ours]
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):  # noqa: B007  read by `one`; the first round warms up
        for way, (count, run) in ways.items():
            began = time.perf_counter()
            run()
            taken[way].append((time.perf_counter() - began) / count)
    inside = [Inside(s) for s in (parts.prediction, parts.projection, parts.joint)]
    watched = SplitTransducer(*inside)
    lines = [
        "| decoding | ms per 30 s | best | times onnx-asr | Python's share |",
        "|---|---|---|---|---|",
    ]
    for way, (count, _) in ways.items():
        times = taken[way][1:]
        ratio = median(a / b for a, b in zip(taken["onnx-asr"][1:], times, strict=True))
        share = python_share(model, watched, inside, batches[count]) if "parts" in way else ""
        typical, best = 1e3 * median(times), 1e3 * min(times)
        lines.append(f"| {way} | {typical:.1f} | {best:.1f} | {ratio:.2f} | {share} |")
    found = in_parts(model, parts, pieces)
    tokens = sum(len(d.emissions) for d in found)
    frames = sum(map(len, pieces))
    lines.append(
        f"\n{tokens} tokens in {frames} frames: {tokens / frames:.3f} a frame, "
        f"{tokens / (SECONDS * PIECES):.1f} a second; medians of {rounds} rounds"
    )
    return "\n".join(lines)


def python_share(
    model: TdtModel, watched: SplitTransducer, inside: Sequence[Inside], batch: Sequence[Floats]
) -> str:
    """What is not spent inside ONNX Runtime: the loop, gathering, maxima, logarithms."""
    shares = []
    for _ in range(5):
        for session in inside:
            session.seconds = 0.0
        began = time.perf_counter()
        in_parts(model, watched, batch)
        total = time.perf_counter() - began
        shares.append(1 - sum(session.seconds for session in inside) / total)
    return f"{median(shares):.1%}"


def same_tokens(model: TdtModel, clips: Sequence[Floats]) -> bool:
    """Compare tokens, frames and durations of all ways; prints a line for each."""
    assert model.split is not None
    fused = [
        greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary) for frames in clips
    ]
    theirs = [onnx_asr(model, frames) for frames in clips]
    agree = sum(
        ([e.id for e in ours], [e.frame for e in ours]) == other
        for ours, other in zip(fused, theirs, strict=True)
    )
    print(f"\nfused: {agree} of {len(clips)} clips as onnx-asr")
    right = agree == len(clips)
    for size in BATCHES:
        found = [
            decoding
            for begin in range(0, len(clips), size)
            for decoding in in_parts(model, model.split, clips[begin : begin + size])
        ]
        wrong = [
            decoding.near_ties
            for decoding, ours in zip(found, fused, strict=True)
            if [(e.id, e.frame, e.duration) for e in decoding.emissions]
            != [(e.id, e.frame, e.duration) for e in ours]
        ]
        apart = max(
            (
                abs(a.logprob - b.logprob)
                for decoding, ours in zip(found, fused, strict=True)
                for a, b in zip(decoding.emissions, ours, strict=False)
            ),
            default=0.0,
        )
        print(
            f"in parts, batch {size}: {len(clips) - len(wrong)} of {len(clips)} clips as fused, "
            f"{sum(map(len, fused))} tokens, {sum(d.near_ties for d in found)} near ties, "
            f"logprobs apart by at most {apart:.1e}"
        )
        right = right and all(wrong)
    return right


if __name__ == "__main__":
    main()
