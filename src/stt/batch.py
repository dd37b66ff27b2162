"""Many recordings: several under way at once, and each done once, whatever interrupts.

While one is recognised the next are read, and the last word of one is not waited for to begin
another.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from stt.audio.files import STDIN
from stt.engine.gathering import GatheringRecognizer
from stt.errors import AudioError, OutputError, SttError
from stt.journal import Content, Entry, Journal
from stt.models.folder import MANIFEST, TUNED, ModelFolder, graph_names, split_names
from stt.models.manifest import Manifest, sha256_of
from stt.pipeline import Step
from stt.transcriber import Transcriber, recognizing_pool
from stt.transcript import Transcript
from stt.writers import FORMATS, TEMPORARY, os_error_text, write_text

Source = str | Path
OnStep = Callable[[Source, Step, float | None], None]
"""(recording, step, its seconds where known): called from several threads."""
_METHOD = 1
"""Raised when the same model with the same settings would give other words."""


class _StoppedError(Exception):
    """Nobody wants the rest."""


@dataclass(frozen=True, slots=True)
class Job:
    """A recording, and where its results go."""

    source: str
    """A path or '-'."""
    name: str
    """Of the result below the output folder, with forward slashes and without suffix."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where results go, and what they are."""

    output: Path
    formats: tuple[str, ...]
    force: bool = False
    """Recognise again what is done."""

    def path(self, name: str, form: str) -> Path:
        """Return where one format of a result goes."""
        return self.output / f"{name}.{form}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    job: Job
    state: str
    """'done'; 'kept': it was done before; 'written': results that were missing were written from
    the journal; 'elsewhere': another process has it under way; 'failed'."""
    told: str = ""
    """Why it was done again, or what went wrong."""
    transcript: Transcript | None = None
    """None where it was not read again."""
    written: tuple[Path, ...] = ()
    error: SttError | None = None


def identity(source: str) -> str:
    """Return what the journal knows a recording by, wherever the command is run."""
    return source if source == STDIN else str(Path(source).absolute())


def named(jobs: Sequence[Job], journal: Journal) -> list[Job]:
    """Give recordings the names that their results have already.

    What `talk.mp3` is called must not change because `talk.wav` came to lie beside it.
    """
    known = [journal.name_of(identity(job.source)) for job in jobs]
    taken = {name for name in known if name is not None}
    return [
        replace(job, name=name or _free_name(job, journal, taken))
        for job, name in zip(jobs, known, strict=True)
    ]


def _free_name(job: Job, journal: Journal, taken: set[str]) -> str:
    """Return the name a job asks for, numbered where another recording has it."""
    numbered = (f"{job.name}-{number}" for number in count(2))
    name = next(
        name
        for name in chain([job.name], numbered)
        if name not in taken and not _is_anothers(journal.find(name), job)
    )
    taken.add(name)
    return name


def _is_anothers(entry: Entry | None, job: Job) -> bool:
    """Whether a result is that of another recording, and not of this one before it was moved."""
    if entry is None or entry.source == identity(job.source):
        return False
    return Path(entry.source).exists()


def recipe(transcriber: Transcriber) -> dict[str, Any]:
    """All that the words of a recording depend on but its sound, to be compared by a later run."""
    choice, cutting = transcriber.choice, transcriber.cutting
    return {
        "model": transcriber.model,
        "model files": _fingerprint(transcriber.folder, choice.precision),
        "precision": choice.precision,
        "provider": choice.provider,
        "longest utterance": cutting.max_utterance_s,
        "VAD threshold": cutting.vad_threshold,
        "batch size": cutting.batch_size,
        "method": _METHOD,
    }


def _fingerprint(folder: ModelFolder, precision: str) -> str:
    """A digest of the files that one precision runs: by the manifest's hashes where it has them."""
    names = [*graph_names(folder.kind, precision), *split_names(precision)]
    if folder.tuned and precision == "fp32":
        names += graph_names(folder.kind, TUNED)
    known = Manifest.read(folder.path).files if (folder.path / MANIFEST).exists() else {}
    told = []
    for name in (*names, *(f"{name}.data" for name in names), "vocab.txt", "config.json"):
        path = folder.path / name
        if path.exists():
            stat = path.stat()
            told.append([name, known.get(name, {}).get("sha256", [stat.st_size, stat.st_mtime_ns])])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def transcribe_all(
    transcriber: Transcriber,
    jobs: Iterable[Job | None],
    delivery: Delivery,
    journal: Journal,
    on_step: OnStep | None = None,
) -> Iterator[Outcome]:
    """Transcribe recordings into a folder, those of them that are not done yet.

    Args:
        transcriber: the loaded model.
        jobs: taken one by one as they are begun; None where there is none at the moment.
        delivery: where results go.
        journal: of that folder.
        on_step: called as recordings proceed.

    Yields:
        What became of each, as it ends.

    Raises:
        OutputError: the journal cannot be used.
    """
    wanted = recipe(transcriber)
    if journal.only_one():
        for left in delivery.output.rglob(f"{TEMPORARY}*"):  # by a process that was killed
            left.unlink(missing_ok=True)
    with _lanes(transcriber, on_step) as (transcribe, readers, lanes):
        desk = _Desk(delivery, journal, wanted, transcribe)
        under_way: set[Future[Outcome]] = set()
        for job in jobs:
            if job is not None:
                under_way.add(readers.submit(desk.do, job))
            patience = None if len(under_way) > lanes else 0.0
            ended, under_way = wait(under_way, patience, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in ended)
        while under_way:
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in ended)


class _Desk:
    """Decides, for one job after the other, what is left to do, and does it."""

    def __init__(
        self,
        delivery: Delivery,
        journal: Journal,
        wanted: Mapping[str, Any],
        transcribe: Callable[..., Transcript],
    ) -> None:
        self._delivery, self._journal = delivery, journal
        self._wanted, self._transcribe = wanted, transcribe

    def do(self, job: Job) -> Outcome:
        """Do a job; never raises for what is wrong with this recording alone."""
        try:
            content = self._content(job)
        except SttError as error:
            return Outcome(job, "failed", str(error), error=error)
        entry = self._journal.find(job.name)
        told = ""
        before = entry.outputs if entry is not None else {}
        if entry is not None and entry.state == "done" and not self._delivery.force:
            if entry.content.sha256 != content.sha256:
                told = "" if job.source == STDIN else "the recording has changed"
            elif changed := _changes(entry.recipe, self._wanted):
                told = changed
            elif missing := self._missing(job):
                transcript = self._journal.transcript(job.name)
                return self._deliver(job, transcript, missing, before, state="written")
            else:
                return Outcome(job, "kept")
        if not self._journal.begin(job.name, identity(job.source), content, self._wanted):
            return Outcome(job, "elsewhere", "another process has it under way")
        try:
            transcript = self._transcribe(job.source, memory=self._journal.memory(job.name))
            # formats of another day that are there must not tell of another transcript
            old = [form for form in before if self._delivery.path(job.name, form).exists()]
            formats = tuple(dict.fromkeys((*self._delivery.formats, *old)))
            return self._deliver(job, transcript, formats, before, told=told)
        except SttError as error:
            self._journal.failed(job.name, str(error))
            return Outcome(job, "failed", str(error), error=error)

    def _content(self, job: Job) -> Content:
        """What a recording is; not read again where size and time are those of the journal."""
        if job.source == STDIN:
            return Content(0, 0, uuid.uuid4().hex)  # something else each time
        path = Path(job.source)
        try:
            stat = path.stat()
            entry = self._journal.find(job.name)
            if entry is not None and (stat.st_size, stat.st_mtime_ns) == (
                entry.content.size,
                entry.content.mtime_ns,
            ):
                return entry.content
            return Content(stat.st_size, stat.st_mtime_ns, sha256_of(path))
        except OSError as error:
            raise AudioError(
                f"{path}: cannot be read ({error.strerror}); check the path"
            ) from error

    def _missing(self, job: Job) -> tuple[str, ...]:
        """Formats whose file is not there. One that is stays: somebody may have corrected it."""
        delivery = self._delivery
        return tuple(f for f in delivery.formats if not delivery.path(job.name, f).exists())

    def _deliver(
        self,
        job: Job,
        transcript: Transcript,
        formats: Sequence[str],
        before: Mapping[str, str],
        *,
        state: str = "done",
        told: str = "",
    ) -> Outcome:
        """Write these formats of a result, and note it.

        What lies there and is not what was written `before` is put aside: it is somebody's own.
        """
        paths = {form: self._delivery.path(job.name, form) for form in formats}
        outputs, aside = dict(before), []
        for form, path in paths.items():
            text = FORMATS[form](transcript)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and sha256_of(path) not in (before.get(form), _sha256(text)):
                    aside.append(_put_aside(path))
            except OSError as error:
                raise OutputError(os_error_text(error, path)) from error
            write_text(path, text)
            outputs[form] = _sha256(text)
        self._journal.done(job.name, transcript, outputs)
        kept = ", ".join(f"{path} kept as {old.name}" for path, old in aside)
        told = "; ".join(filter(None, (told, kept)))
        return Outcome(job, state, told, transcript, tuple(paths.values()))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _put_aside(path: Path) -> tuple[Path, Path]:
    """Give a file another name; returns both."""
    numbered = (path.with_name(f"{path.name}.old{number}") for number in count(2))
    free = next(p for p in chain([path.with_name(f"{path.name}.old")], numbered) if not p.exists())
    path.rename(free)
    return path, free


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which respects two recipes differ."""
    return ", ".join(
        f"{key} was {before.get(key)} and is {now[key]}"
        if isinstance(now[key], (str, int, float)) and key != "model files"
        else f"{key} changed"
        for key in now
        if before.get(key) != now[key]
    )


def transcribe_many(
    transcriber: Transcriber, sources: Iterable[Source], on_step: OnStep | None = None
) -> Iterator[Transcript | SttError]:
    """Transcribe recordings, one more at a time than the recogniser takes utterances.

    Args:
        transcriber: the loaded model.
        sources: paths; taken one by one as they are begun.
        on_step: called as recordings proceed.

    Yields:
        For each source, in their order, its transcript or what is wrong with it.
    """
    with _lanes(transcriber, on_step) as (transcribe, readers, lanes):

        def one(source: Source) -> Transcript | SttError:
            try:
                return transcribe(source)
            except SttError as error:
                return error

        under_way: list[Future[Transcript | SttError]] = []
        for source in sources:
            under_way.append(readers.submit(one, source))
            if len(under_way) > lanes:
                yield under_way.pop(0).result()
        while under_way:
            yield under_way.pop(0).result()


@contextmanager
def _lanes(
    transcriber: Transcriber, on_step: OnStep | None
) -> Iterator[tuple[Callable[..., Transcript], ThreadPoolExecutor, int]]:
    """What transcribes a source, threads to call it in, and how many of them.

    Where the model does not run on the CPU, utterances of all recordings share batches. Left early,
    it has those under way stop.
    """
    stopped = threading.Event()
    recognizer = transcriber.recognizer
    if recognizer.provider != "cpu":
        recognizer = GatheringRecognizer(recognizer, transcriber.cutting.batch_size)
    lanes = recognizer.streams + 1
    with ExitStack() as stack:
        pool = stack.enter_context(recognizing_pool(recognizer))
        shared = replace(transcriber, recognizer=recognizer, pool=pool)
        readers = stack.enter_context(ThreadPoolExecutor(lanes, "recording"))
        stack.callback(stopped.set)  # before the threads are waited for

        def transcribe(source: Source, **more: Any) -> Transcript:
            def step_taken(step: Step, duration: float | None) -> None:
                if stopped.is_set():
                    raise _StoppedError
                if on_step:
                    on_step(source, step, duration)

            return shared.transcribe(source, on_step=step_taken, **more)

        yield transcribe, readers, lanes
