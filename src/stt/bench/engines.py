"""What can be measured, and one of it in a process of its own: orders in, timings out, as JSON.

usage: python -m stt.bench.engines ENGINE FOLDER PRECISION PROVIDER THREADS

An order is a line {"files": [WAV, ...], "batch": n} on standard input. Engines are used as their
documentation has it; no code of theirs is replaced.
"""

from __future__ import annotations

import json
import sys
import time
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stt.batch.pool import transcribe_many
from stt.engine.folder import PRECISIONS, ModelFolder
from stt.engine.sessions import preload, session_providers, usable_cores
from stt.errors import SttError, UsageError
from stt.install.measure import peak_mib
from stt.models import inspect
from stt.settings.loading import load_settings
from stt.settings.places import Places
from stt.system.packages import require
from stt.transcriber import load_with
from stt.types import SAMPLE_RATE, Samples

OTHERS = ("onnx-asr", "sherpa-onnx")
Transcribe = Callable[[Sequence[Path], int], None]
"""(WAV files, how many at a time)."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One engine with one precision of one model folder."""

    engine: str
    folder: Path
    precision: str

    def __str__(self) -> str:
        """Return it as the table names it."""
        return f"{self.engine} {self.folder.name} {self.precision}"


def contenders(
    model: ModelFolder, against: Sequence[str], provider: str, places: Places
) -> tuple[Contender, ...]:
    """List every precision of the model for this application, then for each of `against`.

    Args:
        model: the folder to measure.
        against: `onnx-asr`, or `ENGINE=MODEL` to give an engine the files of another folder, or of
            another installed model; sherpa-onnx takes a folder in its own layout.
        provider: short name; int8 is left out on all but the CPU.
        places: where installed models are.

    Raises:
        UsageError: an engine that is not known or not installed, or has no files it can read.
        ModelError: a folder that holds no model.
    """
    require("onnxruntime", "running a model")
    found = _precisions("stt", model)
    for item in against:
        engine, _, name = item.partition("=")
        if engine not in OTHERS:
            raise UsageError(f"--against {engine!r} is not known; use {' or '.join(OTHERS)}")
        other = (places.find(name) or Path(name)) if name else model.path
        if engine == "sherpa-onnx":
            require("sherpa_onnx", "--against sherpa-onnx")
            found += _of_sherpa(other)
        else:
            found += _precisions(engine, inspect(other) if name else model)
    return tuple(one for one in found if provider == "cpu" or one.precision != "int8")


def _precisions(engine: str, model: ModelFolder) -> list[Contender]:
    folder = model.path.resolve()
    return [Contender(engine, folder, p) for p in PRECISIONS if model.problems[p] is None]


def _of_sherpa(folder: Path) -> list[Contender]:
    ends = {"fp32": ".onnx", "int8": ".int8.onnx"}
    found = [p for p, end in ends.items() if (folder / f"joiner{end}").is_file()]
    if not found or not (folder / "tokens.txt").is_file():
        raise UsageError(
            f"{folder}: not in sherpa-onnx's layout; give --against sherpa-onnx=DIR with "
            "encoder.onnx, decoder.onnx and joiner.onnx (or .int8.onnx) and tokens.txt"
        )
    return [Contender("sherpa-onnx", folder.resolve(), precision) for precision in found]


def load_stt(folder: Path, precision: str, provider: str, threads: int) -> tuple[Transcribe, str]:
    """Load this application; returns what transcribes, and the provider that runs."""
    given = {"precision": precision, "provider": provider, "threads": threads}
    transcriber = load_with(load_settings(None, {"model": str(folder), "strict": True, **given}))

    def transcribe(files: Sequence[Path], batch: int) -> None:
        cutting = replace(transcriber.cutting, batch_size=batch)
        for found in transcribe_many(replace(transcriber, cutting=cutting), files):
            if isinstance(found, SttError):
                raise found

    return transcribe, transcriber.choice.provider


def load_onnx_asr(
    folder: Path, precision: str, provider: str, threads: int
) -> tuple[Transcribe, str]:
    """Load onnx-asr, with the same threads."""
    import onnx_asr
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    model = onnx_asr.load_model(
        kind,
        folder,
        quantization=None if precision == "fp32" else precision,
        sess_options=options,
        providers=session_providers(provider),
    )

    def transcribe(files: Sequence[Path], batch: int) -> None:
        for begin in range(0, len(files), batch):
            list(model.recognize([str(file) for file in files[begin : begin + batch]]))

    return transcribe, provider


def load_sherpa(
    folder: Path, precision: str, provider: str, threads: int
) -> tuple[Transcribe, str]:
    """Load sherpa-onnx from a folder in its own layout."""
    import sherpa_onnx

    end = ".int8.onnx" if precision == "int8" else ".onnx"
    model = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(folder / f"{part}{end}") for part in ("encoder", "decoder", "joiner")),
        tokens=str(folder / "tokens.txt"),
        num_threads=threads or usable_cores(),
        provider=provider,
        model_type="nemo_transducer",
    )

    def transcribe(files: Sequence[Path], batch: int) -> None:
        for begin in range(0, len(files), batch):
            streams = [model.create_stream() for _ in files[begin : begin + batch]]
            for stream, file in zip(streams, files[begin:], strict=False):
                stream.accept_waveform(SAMPLE_RATE, _samples(file))
            model.decode_streams(streams)

    return transcribe, provider


def _samples(path: Path) -> Samples:
    with wave.open(str(path), "rb") as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return values.astype(np.float32) / np.float32(32768)


_LOADERS = {"stt": load_stt, "onnx-asr": load_onnx_asr, "sherpa-onnx": load_sherpa}


def main(engine: str, folder: Path, precision: str, provider: str, threads: int) -> None:
    """Load, then obey until standard input ends."""
    if engine != "sherpa-onnx" and provider != "cpu":  # it brings an ONNX Runtime of its own
        import onnxruntime

        preload(onnxruntime)
    began = time.perf_counter()
    transcribe, running = _LOADERS[engine](folder, precision, provider, threads)
    load_s = time.perf_counter() - began
    for line in sys.stdin:
        order = json.loads(line)
        began, cpu = time.perf_counter(), time.process_time()
        transcribe([Path(file) for file in order["files"]], order["batch"])
        answer = {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "peak_mib": peak_mib(),
            "load_s": load_s,
            "provider": running,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
