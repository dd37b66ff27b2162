"""A loaded model with its settings: what the command line and Python callers use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.audio.damage import Damage
from stt.audio.files import AudioStream, mono_stream, open_audio, printable
from stt.audio.raw import RawAudio
from stt.audio.selection import Selection
from stt.engine.fallback import GuardedRecognizer, Reserve
from stt.engine.recognizer import TRAILING_SILENCE, Recognizer, load_recognizer
from stt.errors import AudioError, UsageError
from stt.models.folder import ModelFolder
from stt.models.locate import ReportProgress, locate
from stt.optional import require
from stt.pipeline import Cutting, Memory, Step, recognized
from stt.settings import LoadedSettings, Settings, load_settings
from stt.transcript import Choice, Segment, Transcript

OnStep = Callable[[Step, float | None], None]
"""(step, seconds of the whole recording where known): called as a recording proceeds."""

_MOST_CHANNELS = 64
"""More than this in the last axis are samples: the axes are the wrong way round."""

_LARGEST = 1e30
"""Largest float taken over as it is: float32 ends at 3.4e38."""


@dataclass(frozen=True, slots=True)
class Transcriber:
    """Transcribes recordings with one loaded model. Make it with `stt.load`."""

    folder: ModelFolder
    choice: Choice
    """The precision and provider that run, and why."""
    recognizer: Recognizer
    cutting: Cutting
    reserve: Reserve | None = None
    """FP32 for recordings of which the chosen precision makes nothing usable; None: it is none."""
    pool: Executor | None = None
    """Threads that recognise, where recordings share them; None: each has its own."""
    jobs: int = 0
    """Recordings worked on at a time; 0: as many as keep the recogniser busy."""

    @property
    def model(self) -> str:
        """The model folder's name."""
        return self.folder.name

    def transcribe(
        self,
        source: str | Path | npt.NDArray[Any],
        *,
        sample_rate: int | None = None,
        on_step: OnStep | None = None,
        memory: Memory | None = None,
    ) -> Transcript:
        """Transcribe one recording whole.

        Args:
            source: a path, '-' for standard input, or samples: float [n] or [n, channels] in ±1,
                or int16/int32. Floats in another range are scaled, with a note in the coverage.
            sample_rate: Hz of an array, which must have it; ignored for files, which know theirs.
            on_step: called with each Step and the recording's seconds, where known.
            memory: what an interrupted run found out about this recording.

        Raises:
            AudioError: nothing of the recording can be read. Of one that is damaged or cut short
                comes what can be, and `coverage.failures` says what is missing.
            UsageError: an array of a shape or type that is not audio, or without sample_rate.
            ModelError: the model gives NaN or infinity, and no FP32 takes over.
        """
        gathering = Gathering(self.model, self.choice)
        with opened(source, sample_rate, tolerant=True) as stream:
            for step in self.steps(stream, memory):
                gathering.take(step)
                if on_step:
                    on_step(step, stream.duration)
        return gathering.transcript(stream.name)

    def segments(
        self, source: str | Path | npt.NDArray[Any], *, sample_rate: int | None = None
    ) -> Iterator[Segment]:
        """Yield segments while the recording is still being read; arguments as for transcribe.

        Raises:
            AudioError: after the last one, where some of the recording could not be had.
        """
        with opened(source, sample_rate, tolerant=True) as stream:
            for step in self.steps(stream):
                yield from step.segments
                if step.coverage is not None and step.coverage.failures:
                    told = "; ".join(step.coverage.failures)
                    raise AudioError(f"{printable(stream.name)}: not all of it: {told}")

    def steps(self, stream: AudioStream, memory: Memory | None = None) -> Iterator[Step]:
        """Yield the Steps of an opened recording; the last one's `heard` is its duration.

        Its coverage tells of the damage that a tolerant stream met, and has its notes.
        """
        for step in self._steps(stream, memory):
            if step.coverage is None:
                yield step
                continue
            failures = (*step.coverage.failures, *stream.damage.told)
            notes = (*step.coverage.notes, *stream.damage.notes)
            yield replace(step, coverage=replace(step.coverage, failures=failures, notes=notes))

    def _steps(self, stream: AudioStream, memory: Memory | None) -> Iterator[Step]:
        recognizer = GuardedRecognizer(self.recognizer, self.choice.precision, self.reserve)
        blocks, rate = stream.blocks, stream.sample_rate
        if self.pool is not None:
            yield from recognized(blocks, rate, recognizer, self.cutting, self.pool, memory=memory)
            return
        with recognizing_pool(self.recognizer) as pool:
            yield from recognized(blocks, rate, recognizer, self.cutting, pool, memory=memory)


class Gathering:
    """The steps of one recording, on their way to a transcript; the clock runs from the start."""

    def __init__(self, model: str, choice: Choice) -> None:
        self._model, self._choice = model, choice
        self._segments: list[Segment] = []
        self._last = Step(0.0)
        self._began = time.perf_counter()

    def take(self, step: Step) -> None:
        """Add the next step."""
        self._segments += step.segments
        self._choice = step.fallback.choice if step.fallback else self._choice
        self._last = step

    def transcript(self, source: str) -> Transcript:
        """Return all of it, after the last step."""
        return Transcript(
            source,
            self._last.heard,
            tuple(self._segments),
            self._model,
            self._choice,
            time.perf_counter() - self._began,
            self._last.coverage,
        )


def recognizing_pool(recognizer: Recognizer) -> ThreadPoolExecutor:
    """Return as many threads as it is good for; to be closed."""
    return ThreadPoolExecutor(recognizer.streams, "recognizer")


@contextmanager
def opened(
    source: str | Path | npt.NDArray[Any],
    sample_rate: int | None = None,
    *,
    tolerant: bool = False,
) -> Iterator[AudioStream]:
    """Open a recording, or samples at `sample_rate` Hz; raises as Transcriber.transcribe does.

    `tolerant`: see open_audio.
    """
    if not isinstance(source, (str, Path, np.ndarray)):
        raise UsageError(
            f"a recording is a path, '-' or a NumPy array of samples, not {type(source).__name__}"
        )
    if not isinstance(source, np.ndarray):
        with open_audio(source, tolerant=tolerant) as stream:
            yield stream
        return
    if sample_rate is None:
        raise UsageError(
            "an array does not know its sample rate; give it in Hz, e.g. sample_rate=16000"
        )
    if sample_rate <= 0:
        raise UsageError(f"sample_rate is {sample_rate}; give the array's samples per second")
    samples = _channels(source)
    blocks = (samples[i : i + sample_rate] for i in range(0, len(samples), sample_rate))
    raw = RawAudio(sample_rate, len(samples) / sample_rate, samples.shape[1], blocks)
    yield mono_stream(raw, "array", Selection(), Damage(tolerant=tolerant))


def _channels(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return samples as float32 [n, channels] in ±1."""
    if samples.ndim not in (1, 2):
        raise UsageError(f"samples of shape {samples.shape}; give [n] or [n, channels]")
    if samples.ndim == 2 and samples.shape[1] > _MOST_CHANNELS:
        raise UsageError(f"samples of shape {samples.shape}: channels come last, as [n, channels]")
    if samples.dtype in (np.int16, np.int32):
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype.kind == "f":
        scaled = _within_float32(samples)
    else:
        raise UsageError(f"samples of type {samples.dtype}; give float, int16 or int32")
    return scaled if scaled.ndim == 2 else scaled[:, None]


def _within_float32(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Convert floats; larger ones than float32 holds are made smaller, all by one power of two."""
    if samples.dtype.itemsize > np.dtype(np.float32).itemsize:
        peak = np.max(np.abs(samples), initial=0.0, where=np.isfinite(samples))
        if peak > _LARGEST:
            samples = np.ldexp(samples, -int(np.frexp(peak / _LARGEST)[1]))
    return samples.astype(np.float32)


def load(
    model: str | Path | None = None,
    *,
    precision: str | None = None,
    provider: str | None = None,
    strict: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
    on_progress: ReportProgress | None = None,
    live: bool = False,
) -> Transcriber:
    """Load a model once, to transcribe many recordings.

    What is not given comes from STT_* variables, stt_config.json and the defaults, in this order.

    Args:
        model: auto, an installed model's name, or a model folder.
        precision: auto, fp16, mixed, fp32 or int8.
        provider: auto, cpu, cuda, tensorrt, directml or coreml.
        strict: make a named precision that cannot run an error.
        threads: ONNX Runtime threads; 0 lets it decide.
        config: another settings file than the one found.
        on_progress: (stage, done, total) while a model is prepared.
        live: each utterance is to be recognised as soon as can be, rather than many in little
            time: all cores work on one, not on several.

    Raises:
        SettingsError, ModelError, ProviderError: with the cure in the text.
    """
    flags = {
        "model": None if model is None else str(model),
        "precision": precision,
        "provider": provider,
        "strict": strict,
        "threads": threads,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    loaded = load_settings(None if config is None else Path(config), given)
    return load_with(loaded, on_progress, live=live)


def load_with(
    loaded: LoadedSettings, on_progress: ReportProgress | None = None, *, live: bool = False
) -> Transcriber:
    """Load the model that the settings name; see load."""
    require("onnxruntime", "running a model")
    settings = loaded.settings
    folder = locate(settings.model, loaded.places, on_progress or _ignore)
    jobs = None if live else settings.job_count
    recognizer, choice = load_recognizer(
        folder,
        precision=settings.precision,
        provider=settings.provider,
        threads=settings.threads,
        strict=settings.strict,
        auto_int8=settings.auto_int8,
        jobs=jobs,
    )
    longest = min(settings.max_segment_s, folder.max_audio_s - TRAILING_SILENCE / 16_000)
    threshold = settings.vad_threshold if settings.vad else 0.0
    cutting = Cutting(longest, threshold, settings.batch_size)
    reserve = _reserve(folder, choice, settings, jobs)
    return Transcriber(folder, choice, recognizer, cutting, reserve, jobs=jobs or 0)


def _reserve(
    folder: ModelFolder, choice: Choice, settings: Settings, jobs: int | None
) -> Reserve | None:
    """Return FP32 for where the choice collapses; None where it is the choice."""
    if choice.precision == "fp32":
        return None
    if settings.strict and settings.precision != "auto":
        return Reserve(None, "`strict` is set")
    if folder.problems["fp32"] is not None:
        return Reserve(None, "there is no fp32 to go on with")

    def load() -> Recognizer:
        return load_recognizer(
            folder,
            precision="fp32",
            provider=choice.provider,
            threads=settings.threads,
            strict=True,
            jobs=jobs,
        )[0]

    return Reserve(load)


def _ignore(stage: str, done: int, total: int) -> None:
    """Report nothing: libraries do not print."""
