"""A loaded model with its settings: what the command line and Python callers use."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stt import models
from stt.audio.selection import ALL_OF_IT, Selection
from stt.engine.dynamic_batcher import batches_in_stages
from stt.engine.fallback import GuardedRecognizer, Reserve
from stt.engine.folder import ModelFolder
from stt.engine.recognizer import TRAILING_SILENCE, Recognizer, recognizing_pool
from stt.errors import AudioError, ModelError
from stt.install.locate import locate
from stt.pipeline import Cutting, Step, UtteranceCache, recognized
from stt.settings.loading import LoadedSettings, load_settings
from stt.sources import Part, PartCache, Source, parts, tracks_note
from stt.system.files import printable
from stt.system.packages import require
from stt.text.hallucination import NOT_ENGLISH, Likelihood
from stt.text.transcript import Transcript, now
from stt.transcript import Choice, Coverage, Segment, together
from stt.types import SAMPLE_RATE, ReportProgress

OnStep = Callable[[Step, float | None], None]
"""(step, seconds of the whole recording where known): called as a recording proceeds."""


class Transcriber:
    """Transcribes recordings with one loaded model. Made by `stt.load`."""

    __slots__ = ("_loaded",)

    def __init__(self, loaded: ModelTranscriber) -> None:
        self._loaded = loaded

    @property
    def model(self) -> str:
        """The name of the model's folder."""
        return self._loaded.model

    @property
    def precision(self) -> str:
        """fp16, fp32 or int8: which runs."""
        return self._loaded.choice.precision

    @property
    def provider(self) -> str:
        """Short name of what computes: cpu, cuda, ..."""
        return self._loaded.choice.provider

    @property
    def reason(self) -> str:
        """Why this precision and provider, in one sentence."""
        return self._loaded.choice.reason

    def hearing(
        self,
        *,
        track: int | str | None = None,
        channel: int | str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
    ) -> Transcriber:
        """Return the same that hears a part of each recording; arguments as for stt.transcribe.

        Raises:
            UsageError: one of them cannot be.
        """
        selection = Selection.of(track, channel, start, end)
        return Transcriber(replace(self._loaded, selection=selection))

    def transcribe(self, source: Source, *, sample_rate: int | None = None) -> Transcript:
        """Transcribe one recording whole.

        Args:
            source: a path, '-' for standard input, or samples: float [n] or [n, channels] in ±1,
                or int16/int32. Floats in another range are scaled, with a note in the coverage.
            sample_rate: Hz of an array, which must have it; ignored for files, which know theirs.

        Raises:
            AudioError: nothing of the recording can be read. Of one that is damaged or cut short
                comes what can be, and `coverage.failures` says what is missing.
            UsageError: an array of a shape or type that is not audio, or without sample_rate.
            ModelError: the model gives NaN or infinity, and no FP32 takes over.
        """
        return self._loaded.transcribe(source, sample_rate)

    def segments(self, source: Source, *, sample_rate: int | None = None) -> Iterator[Segment]:
        """Yield segments while the recording is still being read; arguments as for transcribe.

        Raises:
            AudioError: after the last one, where some of the recording could not be had.
        """
        name = "array" if isinstance(source, np.ndarray) else printable(str(source))
        for step, _ in self._loaded.steps(source, sample_rate):
            yield from step.segments
            if step.coverage is not None and step.coverage.failures:
                raise AudioError(f"{name}: not all of it: {'; '.join(step.coverage.failures)}")


@dataclass(frozen=True, slots=True)
class ModelTranscriber:
    """A loaded model with all that transcribing takes: what commands, batches and sessions hold."""

    folder: ModelFolder
    choice: Choice
    """The precision and provider that run, and why."""
    recognizer: Recognizer
    cutting: Cutting
    reserve: Reserve | None = None
    """FP32 for recordings of which the chosen precision makes nothing usable; None: it is none."""
    spare: Reserve | None = None
    """The same precision on the CPU, for what another provider fails on; None: it is the CPU."""
    pool: Executor | None = None
    """Threads that recognise, where recordings share them; None: each has its own."""
    jobs: int = 0
    """Recordings worked on at a time; 0: as many as keep the recogniser busy."""
    selection: Selection = ALL_OF_IT
    """What of each recording is heard."""
    english_only: bool = False
    """Whether the model writes English whatever is spoken: a text that is improbable is told."""

    @property
    def model(self) -> str:
        """The model folder's name."""
        return self.folder.name

    @property
    def language(self) -> str | None:
        """The language of all it writes, 'en' of the starter; None where a model knows several."""
        return self.folder.family.language

    def transcribe(
        self,
        source: Source,
        sample_rate: int | None = None,
        *,
        on_step: OnStep | None = None,
        cache: UtteranceCache | None = None,
    ) -> Transcript:
        """Transcribe one recording whole; see `Transcriber.transcribe`.

        `on_step` is called with each Step and the recording's seconds, where known; `cache` has
        what an interrupted run found out about this recording.
        """
        builder = TranscriptBuilder(self.model, self.choice, self.selection, self.language)
        for step, duration in self.steps(source, sample_rate, cache=cache):
            builder.take(step)
            if on_step:
                on_step(step.overall(duration), duration)
        return builder.transcript("array" if isinstance(source, np.ndarray) else str(source))

    def steps(
        self, source: Source, sample_rate: int | None = None, *, cache: UtteranceCache | None = None
    ) -> Generator[tuple[Step, float | None]]:
        """Yield the Steps of a recording, part by part, and the seconds of the part where known.

        The coverage in a part's last step tells of the damage that was met, and has the notes.
        """
        with closing(parts(source, sample_rate, self.selection)) as found:
            for part in found:
                silent, likelihood = True, Likelihood()
                for step in self._steps_of(part, cache):
                    silent = silent and not step.segments
                    likelihood.take(step.segments)
                    doubted = self.english_only and likelihood.is_improbable
                    coverage = step.coverage and self._with_notes(
                        step.coverage, part, silent=silent, doubted=doubted
                    )
                    segments = tuple(replace(s, channel=part.channel) for s in step.segments)
                    placed = replace(step, segments=segments, part=part.number, parts=part.count)
                    yield replace(placed, coverage=coverage), part.stream.duration

    def guarded(self, recognizer: Recognizer) -> GuardedRecognizer:
        """Return the recogniser as one recording needs it, with what takes over from it."""
        return GuardedRecognizer(recognizer, self.choice.precision, self.reserve, self.spare)

    def _steps_of(self, part: Part, cache: UtteranceCache | None) -> Iterator[Step]:
        """Yield a part's steps; where nothing of one can be had, the others are wanted still."""
        recognizer, apart = self.recognizer, self.pool is None and self.choice.provider != "cpu"
        if apart:  # a batch in each stage, made of the same utterances in every run
            recognizer = batches_in_stages(recognizer, self.cutting.batch_size)
        guarded = self.guarded(recognizer)
        if cache is not None and part.number > 1:
            cache = PartCache(cache, part.number)
        stream = part.stream
        own = nullcontext(self.pool) if self.pool else recognizing_pool(recognizer)
        try:
            with own as pool:
                yield from recognized(
                    *(stream.blocks, stream.sample_rate, guarded, self.cutting, pool),
                    cache=cache,
                    start=stream.start,
                    whole_batches=apart,
                )
        except (AudioError, ModelError) as error:
            if part.count == 1:
                raise
            message = str(error).removeprefix(f"{printable(stream.name)}: ")
            yield Step(stream.start, coverage=Coverage(0.0, failures=(message,)))

    def _with_notes(
        self, coverage: Coverage, part: Part, *, silent: bool, doubted: bool
    ) -> Coverage:
        """Return a coverage with what is to be told of how a part was read."""
        damage, prefix = part.stream.damage, f"{part.channel}: " if part.channel else ""
        failures = (*coverage.failures, *damage.failures)
        notes = (*coverage.notes, *damage.notes, *([NOT_ENGLISH] if doubted else []))
        others = tracks_note(part, self.selection, is_silent=silent)
        return replace(
            coverage,
            failures=tuple(f"{prefix}{line}" for line in failures),
            notes=(*(f"{prefix}{line}" for line in notes), *([others] if others else [])),
        )


class TranscriptBuilder:
    """The steps of one recording, on their way to a transcript; the clock runs from the start."""

    def __init__(
        self,
        model: str,
        choice: Choice,
        selection: Selection = ALL_OF_IT,
        language: str | None = None,
    ) -> None:
        self._model, self._choice, self._start = model, choice, selection.start
        self._language = language
        self._segments: list[Segment] = []
        self._coverages: list[Coverage] = []
        self._heard = selection.start
        self._began = time.perf_counter()

    def take(self, step: Step) -> None:
        """Add the next step."""
        self._segments += step.segments
        self._choice = step.fallback.choice if step.fallback else self._choice
        if step.coverage is not None:
            self._coverages.append(step.coverage)
            self._heard = max(self._heard, step.heard)

    def transcript(self, source: str) -> Transcript:
        """Return all of it, after the last step; of several channels, by time."""
        segments = self._segments
        if len(self._coverages) > 1:
            segments = sorted(segments, key=lambda segment: segment.start)
        coverage = together(self._coverages)
        # perhaps nothing of it is in the language that the model knows
        doubted = coverage is not None and any(n.endswith(NOT_ENGLISH) for n in coverage.notes)
        return Transcript(
            source,
            self._heard - self._start,
            tuple(segments),
            self._model,
            self._choice,
            time.perf_counter() - self._began,
            coverage,
            None if doubted else self._language,
            now(),
        )


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
        precision: auto, fp16, fp32 or int8.
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
    given = {
        "model": None if model is None else str(model),
        "precision": precision,
        "provider": provider,
        "strict": strict,
        "threads": threads,
    }
    loaded = load_settings(None if config is None else Path(config), given)
    return Transcriber(load_with(loaded, on_progress, live=live))


def load_with(
    loaded: LoadedSettings, on_progress: ReportProgress | None = None, *, live: bool = False
) -> ModelTranscriber:
    """Load the model that the settings name; see load."""
    require("onnxruntime", "running a model")
    settings = loaded.settings
    folder = locate(settings.model, loaded.places, on_progress or (lambda *_: None))
    jobs = None if live else settings.job_count
    recognizer, choice = models.load(
        folder,
        precision=settings.precision,
        provider=settings.provider,
        threads=settings.threads,
        strict=settings.strict,
        auto_int8=settings.auto_int8,
        jobs=jobs,
    )
    longest = min(settings.max_segment_s, folder.max_audio_s - TRAILING_SILENCE / SAMPLE_RATE)
    threshold = settings.vad_threshold if settings.vad else 0.0
    cutting = Cutting(longest, threshold, settings.utterances(choice.provider))
    return ModelTranscriber(
        *(folder, choice, recognizer, cutting, models.reserve(folder, choice, settings, jobs)),
        spare=models.spare(folder, choice, settings),
        jobs=jobs or 0,
        english_only=folder.family.english_only(folder.config),
    )
