"""One engine with one model in a process of its own, for `bench`: orders in, timings out, as JSON.

usage: python -m stt.bench_worker ENGINE FOLDER PRECISION PROVIDER THREADS

An order is a line {"files": [WAV, ...], "batch": n} on standard input. Time spent in features and
encoder is taken where every engine passes: the functions that compute features, and the sessions
whose file is an encoder. So no engine runs code of ours in its loops.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.sessions import preload, session_providers
from stt.install.measure import peak_mib

Transcribe = Callable[[Sequence[Path], int], list[str]]
"""(WAV files, how many at a time) -> their texts."""

_FEATURES = (
    "stt.models.onnx_asr_edge:nemo_features",
    "stt.models.whisper:log_mel",
    "onnx_asr.preprocessors.numpy_preprocessor:NemoPreprocessorNumpy.__call__",
    "onnx_asr.preprocessors.numpy_preprocessor:WhisperPreprocessorNumpy.__call__",
    "onnx_asr.preprocessors.preprocessor:OnnxPreprocessor.__call__",
)
_WHOLE = (
    "stt.models.nemo:TokenRecognizer.recognize",
    "stt.models.whisper:WhisperRecognizer.recognize",
)
"""Features, encoder and decoding together."""
_DECODING = ("onnx_asr.models.whisper:WhisperHf._decoding",)
_DECODING_STEPS = (
    "onnx_asr.asr:_AsrWithTransducerDecoding._decoding",
    "onnx_asr.asr:_AsrWithCtcDecoding._decoding",
)
"""Generators: they work while they are read."""
_ENCODERS = ("encoder", "model")
"""What the file names of encoders begin with; a CTC model is an encoder and nothing else."""


class Clock:
    """Seconds spent in each stage so far, in all threads together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` of work."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, counting its time."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.add(stage, time.perf_counter() - began)

        return counted

    def timed_steps(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the generator function, counting the time inside it."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Iterator[Any]:
            steps = function(*args, **kwargs)
            advance = self.timed(stage, lambda: next(steps, None))
            while (step := advance()) is not None:
                yield step

        return counted

    def timed_runs(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return a session's method, counting its time where the session is an encoder."""
        counted = self.timed("encoder", run)

        @functools.wraps(run)
        def either(session: Any, *args: Any, **kwargs: Any) -> Any:
            name = Path(str(session._model_path)).name
            return (counted if name.startswith(_ENCODERS) else run)(session, *args, **kwargs)

        return either

    def install(self) -> None:
        """Begin to count, in every engine of this process."""
        import onnxruntime

        for path in _FEATURES:
            _wrap(path, lambda f: self.timed("features", f))
        for path in _WHOLE:
            _wrap(path, lambda f: self.timed("whole", f))
        for path in _DECODING:
            _wrap(path, lambda f: self.timed("decoding", f))
        for path in _DECODING_STEPS:
            _wrap(path, lambda f: self.timed_steps("decoding", f))
        for name in ("run", "run_with_iobinding"):
            method = getattr(onnxruntime.InferenceSession, name)
            setattr(onnxruntime.InferenceSession, name, self.timed_runs(method))

    def stages(self, total: float) -> dict[str, float]:
        """Return seconds of features, encoder, decoding and, of `total`, what they leave."""
        features, encoder = (self.seconds.get(name, 0.0) for name in ("features", "encoder"))
        whole = self.seconds.get("whole", 0.0)
        decoding = self.seconds.get("decoding", max(0.0, whole - features - encoder))
        other = max(0.0, total - features - encoder - decoding)
        return {"features": features, "encoder": encoder, "decoding": decoding, "other": other}


def _wrap(path: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace module:name or module:Class.name."""
    module, _, name = path.partition(":")
    *outer, last = name.split(".")
    holder = functools.reduce(getattr, outer, importlib.import_module(module))
    setattr(holder, last, wrapper(getattr(holder, last)))


def load_stt(folder: Path, precision: str, provider: str, threads: int) -> tuple[Transcribe, str]:
    """Load this application; returns what transcribes, and the provider that runs."""
    from dataclasses import replace

    from stt.batch.pool import transcribe_many
    from stt.errors import SttError
    from stt.settings.loading import load_settings
    from stt.transcriber import load_with

    given = {"precision": precision, "provider": provider, "threads": threads}
    settings = load_settings(None, {"model": str(folder), "strict": True, **given})
    transcriber = load_with(settings)

    def transcribe(files: Sequence[Path], batch: int) -> list[str]:
        cutting = replace(transcriber.cutting, batch_size=batch)
        texts = []
        for found in transcribe_many(replace(transcriber, cutting=cutting), files):
            if isinstance(found, SttError):
                raise found
            texts.append(found.text)
        return texts

    return transcribe, transcriber.choice.provider


def load_onnx_asr(
    folder: Path, precision: str, provider: str, threads: int
) -> tuple[Transcribe, str]:
    """Load onnx-asr as its documentation does, with the same threads."""
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

    def transcribe(files: Sequence[Path], batch: int) -> list[str]:
        starts = range(0, len(files), batch)
        groups = [[str(file) for file in files[i : i + batch]] for i in starts]
        return [str(text) for group in groups for text in model.recognize([*group])]

    return transcribe, provider


def load_sherpa(
    folder: Path, precision: str, provider: str, threads: int
) -> tuple[Transcribe, str]:
    """Load sherpa-onnx from a folder that `models.sherpa.export` made."""
    import sherpa_onnx

    from stt.engine.sessions import usable_cores
    from stt.install import sherpa

    model = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(folder / name) for name in (sherpa.ENCODER, sherpa.DECODER, sherpa.JOINER)),
        tokens=str(folder / sherpa.TOKENS),
        num_threads=threads or usable_cores(),
        provider=provider,
        model_type="nemo_transducer",
    )

    def transcribe(files: Sequence[Path], batch: int) -> list[str]:
        texts = []
        for begin in range(0, len(files), batch):
            streams = [model.create_stream() for _ in files[begin : begin + batch]]
            for stream, file in zip(streams, files[begin:], strict=False):
                stream.accept_waveform(16_000, _samples(file))
            model.decode_streams(streams)
            texts += [stream.result.text for stream in streams]
        return texts

    return transcribe, provider


def _samples(path: Path) -> npt.NDArray[np.float32]:
    with wave.open(str(path), "rb") as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return values.astype(np.float32) / np.float32(32768)


_LOADERS = {"stt": load_stt, "onnx-asr": load_onnx_asr, "sherpa-onnx": load_sherpa}


def main(engine: str, folder: Path, precision: str, provider: str, threads: int) -> None:
    """Load, then obey until standard input ends."""
    import onnxruntime

    clock = Clock()
    if engine != "sherpa-onnx":  # it brings an ONNX Runtime of its own, and only that is measured
        clock.install()
        if provider != "cpu":
            preload(onnxruntime)
    began = time.perf_counter()
    transcribe, running = _LOADERS[engine](folder, precision, provider, threads)
    load_s = time.perf_counter() - began
    for line in sys.stdin:
        order = json.loads(line)
        clock.seconds.clear()
        began, cpu = time.perf_counter(), time.process_time()
        texts = transcribe([Path(file) for file in order["files"]], order["batch"])
        seconds = time.perf_counter() - began
        answer = {
            "seconds": seconds,
            "cpu": time.process_time() - cpu,
            "stages": None if engine == "sherpa-onnx" else clock.stages(seconds),
            "peak_mib": peak_mib(),
            "load_s": load_s,
            "provider": running,
            "texts": texts,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
