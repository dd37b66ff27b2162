"""What can be measured, each in a process of its own, so that load time and memory are its own.

Orders go in and timings come out as JSON, a line each: {"files": [WAV, ...], "batch": n}. Engines
are used as their documentation has it; no code of theirs is replaced.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import soundfile

from stt.batch.pool import transcribe_many
from stt.engine.folder import PRECISIONS, ModelFolder
from stt.engine.sessions import preload, session_providers, usable_cores
from stt.errors import ModelError, SttError, UsageError
from stt.install.measure import peak_mib
from stt.models import inspect
from stt.settings.loading import load_settings
from stt.settings.places import Places
from stt.system.packages import require
from stt.transcriber import load_with
from stt.types import SAMPLE_RATE

OTHERS = ("onnx-asr", "sherpa-onnx")
_CHILD = "from stt.bench.contenders import main; main()"


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


class Worker:
    """A contender's process: asks in JSON, a line each."""

    load_s = one_s = first_result_s = 0.0
    """Seconds: of loading, of the first recording, of both with the program's start."""

    def __init__(self, contender: Contender, provider: str, threads: int, errors: IO[str]) -> None:
        self.contender, self.provider, self._errors = contender, provider, errors
        arguments = (contender.engine, contender.folder, contender.precision, provider, threads)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def ask(self, files: Sequence[Path], batch: int) -> dict[str, Any]:
        """Have `files` transcribed, `batch` at a time: `seconds`, `cpu` seconds, `peak_mib`.

        Raises:
            ModelError: the process ended; the text is its last line.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"files": [str(file) for file in files], "batch": batch}
        answer = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            reason = (self._errors.read().strip() or "it was killed").splitlines()[-1]
            reason = re.sub(r"^[\w.]+(Error|Exception): ", "", reason)
            raise ModelError(f"{self.contender} did not run: {reason}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # which closes its input


@contextmanager
def started(contender: Contender, provider: str, threads: int, first: Path) -> Iterator[Worker]:
    """Start a contender and have it transcribe one recording."""
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        worker = Worker(contender, provider, threads, errors)
        try:
            answer = worker.ask([first], 1)
            worker.first_result_s = time.perf_counter() - began
            worker.load_s, worker.provider = answer["load_s"], answer["provider"]
            worker.one_s = answer["seconds"]
            yield worker
        finally:
            worker.close()


# --- in the process -------------------------------------------------------------------------

_Loaded = tuple[Callable[[Sequence[Path], int], None], str]
"""What transcribes (WAV files, so many at a time), and the provider that runs."""


def _stt(folder: Path, precision: str, provider: str, threads: int) -> _Loaded:
    given = {"precision": precision, "provider": provider, "threads": threads}
    transcriber = load_with(load_settings(None, {"model": str(folder), "strict": True, **given}))

    def transcribe(files: Sequence[Path], batch: int) -> None:
        cutting = replace(transcriber.cutting, batch_size=batch)
        for found in transcribe_many(replace(transcriber, cutting=cutting), files):
            if isinstance(found, SttError):
                raise found

    return transcribe, transcriber.choice.provider


def _onnx_asr(folder: Path, precision: str, provider: str, threads: int) -> _Loaded:
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


def _sherpa(folder: Path, precision: str, provider: str, threads: int) -> _Loaded:
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
                stream.accept_waveform(SAMPLE_RATE, soundfile.read(file, dtype="float32")[0])
            model.decode_streams(streams)

    return transcribe, provider


_LOADERS = {"stt": _stt, "onnx-asr": _onnx_asr, "sherpa-onnx": _sherpa}


def main() -> None:
    """Load what the arguments name, then obey until standard input ends."""
    engine, folder, precision, provider, threads = sys.argv[1:]
    if engine != "sherpa-onnx" and provider != "cpu":  # it brings an ONNX Runtime of its own
        import onnxruntime

        preload(onnxruntime)
    began = time.perf_counter()
    transcribe, running = _LOADERS[engine](Path(folder), precision, provider, int(threads))
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
