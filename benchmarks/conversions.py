"""Time, error and memory of INT8 variants of a model's encoder and decoder, in one interleaved run.

usage: python scripts/compare_int8.py [MODEL_DIR] [AUDIO] [--seconds S] [--rounds N] [--ours]
           [--no-amx]

Beside FP32 and our INT8 stand the published style (ONNX Runtime's quantize_dynamic on all
operators, unsigned weights) and quantize_dynamic on MatMul alone; making those two takes a minute
and much memory for the full-size model, `--ours` leaves them out. MODEL_DIR is an onnx-asr folder
of a TDT model. Each variant lives in a process of its own, so that its peak memory is its own;
rounds go FP32, A, B, ..., FP32, A, B, ... and the best of each is told. `--no-amx` has the kernel
refuse AMX to these processes (x86-64 Linux): MLAS then uses AVX-512 VNNI as on CPUs without AMX.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import multiprocessing
import struct
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from recordings import DIGITS_MODEL, MODEL_HELP, SAMPLES
from stt.audio.files import open_audio
from stt.audio.samples import resampled
from stt.convert.int8 import quantize
from stt.types import SAMPLE_RATE

STEPS = 200


def refuse_amx() -> None:
    """Have arch_prctl(ARCH_REQ_XCOMP_PERM) fail in this process, by a seccomp filter."""

    def instruction(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    program = b"".join(
        (
            instruction(0x20, 0, 0, 0),  # load the number of the system call
            instruction(0x15, 0, 3, 158),  # arch_prctl on x86-64?
            instruction(0x20, 0, 0, 16),  # load its first argument
            instruction(0x15, 0, 1, 0x1023),  # ARCH_REQ_XCOMP_PERM?
            instruction(0x06, 0, 0, 0x00050001),  # fail with EPERM
            instruction(0x06, 0, 0, 0x7FFF0000),  # allow
        )
    )

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))

    buffer = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    told = Filter(len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(told), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel took no seccomp filter")


def peak_mib() -> float:
    """Peak memory of this process; not getrusage's, which a child takes over from its parent."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def serve(path: Path, feeds: dict[str, np.ndarray], runs: int, amx: bool, pipe: Connection) -> None:
    """Load a model; on every message run it and send (seconds, first output); None ends it."""
    if not amx:
        refuse_amx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pipe.send(peak_mib())
    while pipe.recv() is not None:
        began = time.perf_counter()
        for _ in range(runs):
            outputs = session.run(None, feeds)
        seconds = (time.perf_counter() - began) / runs
        # frames of padding are nobody's output
        valid = outputs[0][..., : outputs[1][0]] if "length" in feeds else outputs[0]
        pipe.send((seconds, valid))
    pipe.send(peak_mib())


def compare(
    variants: dict[str, Path], feeds: dict[str, np.ndarray], runs: int, rounds: int, amx: bool
) -> None:
    """Print the table of one model file; the first variant is what the others are held against."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    loaded = {}
    for name, path in variants.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(path, feeds, runs, amx, theirs), daemon=True).start()
        loaded[name] = pipes[name].recv()
    times: dict[str, list[float]] = {name: [] for name in variants}
    outputs = {}
    for _ in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send("run")
            seconds, outputs[name] = pipe.recv()
            times[name].append(seconds)
    first = next(iter(variants))
    best = {name: min(spent[1:]) for name, spent in times.items()}  # the first round warms up
    middle = {name: float(np.median(spent[1:])) for name, spent in times.items()}
    print(
        "| variant | bytes | ms best | speed best / median | relative error | MiB loaded / peak |"
    )
    print("|---|---|---|---|---|---|")
    reference = outputs[first]
    for name, path in variants.items():
        pipes[name].send(None)
        peak = pipes[name].recv()
        beside = path.with_name(f"{path.name}.data")
        size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
        error = np.linalg.norm(outputs[name] - reference) / np.linalg.norm(reference)
        print(
            f"| {name} | {size / 1e6:,.1f}e6 | {best[name] * 1000:,.2f} | "
            f"{best[first] / best[name]:.2f} / {middle[first] / middle[name]:.2f} | {error:.1%} | "
            f"{loaded[name]:,.0f} / {peak:,.0f} |",
            flush=True,
        )


def make_variants(source: Path, work: Path, ours_only: bool) -> dict[str, Path]:
    """Quantise one file in every style."""
    variants = {"FP32": source}
    if not ours_only:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        everything, products = work / f"all-{source.name}", work / f"matmul-{source.name}"
        logging.disable(logging.WARNING)
        quantize_dynamic(source, everything, weight_type=QuantType.QUInt8)
        quantize_dynamic(
            source, products, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"]
        )
        variants |= {"published style": everything, "MatMul only": products}
    variants["ours"] = work / f"ours-{source.name}"
    began = time.perf_counter()
    quantize(source, variants["ours"])
    print(f"{source.name}: quantised in {time.perf_counter() - began:.1f} s", flush=True)
    return variants


def features(audio: Path, seconds: float) -> dict[str, np.ndarray]:
    """The encoder's input from the beginning of a recording."""
    from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

    limit, parts, length = round(seconds * SAMPLE_RATE), [], 0
    with open_audio(audio) as stream:
        for block in resampled(stream.blocks, stream.sample_rate):
            parts.append(block)
            length += len(block)
            if length >= limit:
                break
    samples = np.concatenate(parts)[None, :limit].astype(np.float32)
    lengths = np.array([samples.shape[1]], np.int64)
    mels, frames = NemoPreprocessorNumpy("nemo128")(samples, lengths)
    return {
        "audio_signal": np.ascontiguousarray(mels, np.float32),
        "length": frames.astype(np.int64),
    }


def step_feeds(model: Path, frames: int) -> dict[str, np.ndarray]:
    """One decoding step on a random encoder frame, with states of that size."""
    from stt.convert.model_file import read

    inputs = read(model).model.graph.input
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inputs
    }
    rng = np.random.default_rng(3)
    layers, _, width = shapes["input_states_1"]
    encoder = rng.standard_normal((1, shapes["encoder_outputs"][1], frames))
    states = rng.uniform(-0.5, 0.5, (2, layers, 1, width)).astype(np.float32)
    return {
        "encoder_outputs": encoder.astype(np.float32),
        "targets": np.array([[3]], np.int32),
        "target_length": np.array([1], np.int32),
        "input_states_1": states[0],
        "input_states_2": states[1],
    }


def main() -> None:
    """Compare encoders on the recording, then decoders on one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES / "story.flac")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--ours", action="store_true", help="only FP32 and our INT8")
    parser.add_argument("--no-amx", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, runs in (("encoder-model", 1), ("decoder_joint-model", STEPS)):
            source = args.model / f"{name}.onnx"
            feeds = step_feeds(source, 1) if runs > 1 else features(args.audio, args.seconds)
            variants = make_variants(source, Path(folder), args.ours)
            compare(variants, feeds, runs, args.rounds, not args.no_amx)


if __name__ == "__main__":
    main()
