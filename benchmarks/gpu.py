"""What a card does with Parakeet's graphs: forms, encoder, decoder, the whole path, in one call.

usage: python benchmarks/gpu.py [--model DIR | --make SCRIPT] [--provider cuda|cpu] [--small]
                                [--skip PART ...] [--json FILE] [--work DIR]

--model  a folder in onnx-asr's layout; --make a script that writes one into the folder it is given
         (`make_facsimile.py`, the full-size stand-in); by default the tests' small model
--small  short audio, small batches, few rounds: everything once, on any machine
PART     check, features, encoder, decoder, stages, whole, onnx-asr

Nothing is fetched. The parts, in this order:

forms    FP16 and FP32, the decoder in parts, and the forms for CUDA are written into --work (no
         proof: `stt setup` proves them on the CPU)
check    the FP16 form on the provider beside FP32 on the CPU: lengths, and the relative error
features on the card beside those in memory: how far apart, and how long they take
encoder  RTFx of FP16 as it was and in its form, the same shape again and shapes in turns: what a
         change of shape costs; the best rate of a plain product, and the RTFx it would allow
decoder  milliseconds per second of audio by batch: in parts, in rounds on the card, and with these
         kept as CUDA graphs (on the CPU: fixed in shape and place)
stages   batches one after the other, and beside one another, each in another stage
whole    `stt` from file to text by batch, files of 2 to 28 s, and one long recording
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from stt.convert import fp16
from stt.convert.cuda import write_for_cuda
from stt.convert.decoding_step import write_step
from stt.convert.split import split_file
from stt.engine.manifest import Manifest
from stt.engine.sessions import PROVIDERS, preload, session_providers
from stt.models import inspect

sys.path += [str(Path(__file__).parents[1] / "scripts"), str(Path(__file__).parent)]
import gpu_path
from gpu_path import (
    FULL,
    PRECISION,
    SMALL,
    Size,
    beside,
    decoder,
    say,
    session,
    stages,
    timed,
    whole,
)
from recordings import DIGITS_MODEL

PARTS = ("check", "features", "encoder", "decoder", "stages", "whole", "onnx-asr")
FRAMES_PER_S = 100
OPERATIONS_PER_S = 16.1e9
"""Of Parakeet's encoder for a second of audio: 2 for each of 608 million weights and frame of
80 ms, and attention over 28 s."""


def forms(model: Path, work: Path) -> Path:
    """Copy a model and write all that CUDA runs beside it; returns its folder."""
    folder = work / "model"
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("clips"))
    family = inspect(folder).family
    manifest = Manifest.read(folder)
    for source, target in zip(family.graphs("fp32"), family.graphs(PRECISION), strict=True):
        fp16.convert(folder / source, folder / target)
    for precision in ("fp32", PRECISION):
        encoder, decoder = family.graphs(precision)
        split_file(folder / decoder, [folder / name for name in family.parts(precision)])
        files = family.for_cuda(precision)
        left = write_for_cuda(folder / encoder, folder / files[0])
        shutil.copyfile(folder / decoder, folder / files[1])
        write_step(folder / decoder, folder / files[2], family.step_durations)
        say(f"forms: {precision}: {left} convolutions left")
        unproven = {"proven": True, "why": "not proven: benchmarks/gpu.py wrote it"}
        manifest.splits[precision] = manifest.cuda[precision] = unproven
        if precision != "fp32":
            manifest.precisions[precision] = unproven
    manifest.save(folder)
    return folder


def features(batch: int, frames: int, mels: int) -> dict[str, Any]:
    """Inputs of an encoder: noise."""
    values = np.random.default_rng(batch + frames).standard_normal(
        (batch, mels, frames), np.float32
    )
    return {"audio_signal": values, "length": np.full(batch, frames, np.int64)}


def check(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Compare the FP16 form on the provider with FP32 on the CPU."""
    family = inspect(folder).family
    reference = session(folder / family.graphs("fp32")[0], "cpu")
    form = session(folder / family.for_cuda(PRECISION)[0], provider)
    found = {}
    for seconds in (size.clip_s / 4, size.clip_s):
        feed = features(1, round(seconds * FRAMES_PER_S), reference.get_inputs()[0].shape[1])
        (expected, lengths), (given, same) = reference.run(None, feed), form.run(None, feed)
        error = float(np.linalg.norm(given - expected) / np.linalg.norm(expected))
        found[f"{seconds:g} s"] = {"error": error, "lengths": bool((lengths == same).all())}
        say(f"check: {seconds:g} s: error {error:.2%}, lengths equal: {(lengths == same).all()}")
    return found


def encoder(folder: Path, provider: str, size: Size) -> dict[str, Any]:
    """Time the FP16 encoder and its form, one shape again and again, and shapes in turns."""
    family, found = inspect(folder).family, dict[str, Any]()
    for name in (family.graphs(PRECISION)[0], family.for_cuda(PRECISION)[0]):
        graph = session(folder / name, provider)
        mels, long = graph.get_inputs()[0].shape[1], round(size.clip_s * FRAMES_PER_S)
        for batch in size.batches:
            feed = features(batch, long, mels)
            graph.run(None, feed)
            same = timed(lambda g=graph, f=feed: g.run(None, f), size.rounds)
            turns = [features(batch, long - 40 * turn, mels) for turn in range(4)]
            began = time.perf_counter()
            for feed in turns:
                graph.run(None, feed)
            change = (time.perf_counter() - began) / len(turns) - same
            rate = batch * size.clip_s / same
            found[f"{name} batch {batch}"] = {"rtfx": rate, "change_s": change}
            say(f"encoder: {name}, batch {batch}: {rate:.0f} RTFx, a new shape {change:.3f} s more")
    found["limit_rtfx"] = best_rate(provider, size) / OPERATIONS_PER_S
    say(f"encoder: a plain product's best rate would allow {found['limit_rtfx']:.0f} RTFx")
    return found


def best_rate(provider: str, size: Size) -> float:
    """Operations a second of a large FP16 product on the provider."""
    from onnx import TensorProto, helper

    width = 512 if size is SMALL else 8192
    shape, kind = [width, width], TensorProto.FLOAT16
    values = [helper.make_tensor_value_info(name, kind, shape) for name in "abc"]
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    graph = helper.make_graph(nodes, "product", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    run = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=session_providers(provider)
    )
    device = "cuda" if provider == "cuda" else "cpu"
    binding, array = run.io_binding(), np.ones(shape, np.float16)
    for name in "ab":
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("c", device)
    run.run_with_iobinding(binding)
    return 2.0 * width**3 / timed(lambda: run.run_with_iobinding(binding), 3 * size.rounds)


def main() -> None:
    """Do all parts that are not left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=DIGITS_MODEL)
    parser.add_argument("--make", type=Path, metavar="SCRIPT")
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[], metavar="PART")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--work", type=Path, metavar="DIR", help="default: a temporary folder")
    asked = parser.parse_args()
    preload(onnxruntime)
    if PROVIDERS[asked.provider] not in onnxruntime.get_available_providers():
        sys.exit(f"this ONNX Runtime has no {asked.provider}: install the extra `gpu`")
    size = SMALL if asked.small or (asked.model == DIGITS_MODEL and not asked.make) else FULL
    with tempfile.TemporaryDirectory() as name:
        work = asked.work or Path(name)
        model = asked.model
        if asked.make:
            model = work / "made"
            subprocess.run([sys.executable, asked.make, model], check=True)
        folder = forms(model, work)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "check": lambda: check(folder, asked.provider, size),
            "features": lambda: gpu_path.features(folder, asked.provider, size),
            "encoder": lambda: encoder(folder, asked.provider, size),
            "decoder": lambda: decoder(folder, asked.provider, size),
            "stages": lambda: stages(folder, asked.provider, size),
            "whole": lambda: whole(folder, asked.provider, size, work),
            "onnx-asr": lambda: beside(folder, asked.provider, size),
        }
        found = {part: do() for part, do in parts.items() if part not in asked.skip}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
