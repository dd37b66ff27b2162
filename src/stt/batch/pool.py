"""Several recordings under way at once, with one model.

While one is recognised the next are read, and the last word of one is not waited for to begin
another.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stt.batch.journal import JournalCache
from stt.engine.dynamic_batcher import DynamicBatcher
from stt.engine.folder import TUNED, ModelFolder
from stt.engine.manifest import MANIFEST, Manifest
from stt.engine.recognizer import Recognizer
from stt.errors import SttError
from stt.pipeline import Step
from stt.text.transcript import Transcript
from stt.transcriber import ModelTranscriber

Source = str | Path
OnStep = Callable[[Source, Step, float | None], None]
"""(recording, step, its seconds where known): called from several threads."""


class StoppedError(Exception):
    """Nobody wants the rest."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What recordings are transcribed on, several at a time."""

    count: int
    """How many recordings are under way at most."""
    readers: ThreadPoolExecutor
    """Threads to call `transcribe` in."""
    fingerprint: Mapping[str, Any]
    """All that words depend on but the sound, see `stt.batch.pool`."""
    transcribe: Callable[[Source, JournalCache | None], Transcript]
    """(recording, what is known of it): transcribes in the calling thread, as
    Transcriber.transcribe does."""


_MOST_READERS = 16
"""Recordings read at a time for a card: each may have as many utterances under way as a batch."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a recogniser serves many recordings at once."""

    recognizer: Recognizer
    threads: int
    """That call it."""
    recordings: int
    """Under way at most."""

    @classmethod
    def of(cls, transcriber: ModelTranscriber) -> Sharing:
        """One recording more than `jobs`, or than the recogniser takes utterances.

        Where the model does not run on the CPU, utterances of all recordings share batches.
        """
        recognizer = transcriber.recognizer
        taken = threads = recognizer.streams
        if recognizer.provider != "cpu":
            taken = transcriber.cutting.batch_size
            recognizer = batcher = DynamicBatcher(recognizer, taken)
            threads = taken * batcher.stages
        return cls(recognizer, threads, (transcriber.jobs or min(taken, _MOST_READERS)) + 1)


@contextmanager
def local_pool(transcriber: ModelTranscriber, on_step: OnStep | None) -> Iterator[Pool]:
    """Open a pool for recordings in this process; left early, it has those under way stop."""
    stopped, sharing = threading.Event(), Sharing.of(transcriber)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(sharing.threads, "recognizer"))
        shared = replace(transcriber, recognizer=sharing.recognizer, pool=pool)
        readers = stack.enter_context(ThreadPoolExecutor(sharing.recordings, "recording"))
        if isinstance(sharing.recognizer, DynamicBatcher):
            stack.callback(sharing.recognizer.withdraw, StoppedError())
        stack.callback(stopped.set)  # before the threads are waited for

        def transcribe(source: Source, cache: JournalCache | None) -> Transcript:
            def step_taken(step: Step, duration: float | None) -> None:
                if stopped.is_set():
                    raise StoppedError
                if on_step:
                    on_step(source, step, duration)

            return shared.transcribe(source, on_step=step_taken, cache=cache)

        yield Pool(sharing.recordings, readers, fingerprint(transcriber), transcribe)


def transcribe_many(
    transcriber: ModelTranscriber, sources: Iterable[Source], on_step: OnStep | None = None
) -> Iterator[Transcript | SttError]:
    """Transcribe recordings, one more at a time than the recogniser takes utterances.

    Args:
        transcriber: the loaded model.
        sources: paths; taken one by one as they are begun.
        on_step: called as recordings proceed.

    Yields:
        For each source, in their order, its transcript or what is wrong with it.
    """
    with local_pool(transcriber, on_step) as pool:

        def one(source: Source) -> Transcript | SttError:
            try:
                return pool.transcribe(source, None)
            except SttError as error:
                return error

        under_way: list[Future[Transcript | SttError]] = []
        for source in sources:
            under_way.append(pool.readers.submit(one, source))
            if len(under_way) > pool.count:
                yield under_way.pop(0).result()
        while under_way:
            yield under_way.pop(0).result()


_METHOD = 3
"""Raised when the same model with the same settings would give other words."""


def fingerprint(transcriber: ModelTranscriber) -> dict[str, Any]:
    """All that the words of a recording depend on but its sound, to be compared by a later run."""
    choice, cutting, heard = transcriber.choice, transcriber.cutting, transcriber.selection
    return {
        "model": transcriber.model,
        "model files": _digest_of_files(transcriber.folder, choice.precision, choice.provider),
        "precision": choice.precision,
        "provider": choice.provider,
        "longest utterance": cutting.max_utterance_s,
        "VAD threshold": cutting.vad_threshold or "off",
        "batch size": cutting.batch_size,
        "track": heard.track or "default",
        "channel": heard.channel or "mixed",
        "start": heard.start,
        "end": "open" if heard.end is None else heard.end,
        "method of stt": _METHOD,
    }


def _digest_of_files(folder: ModelFolder, precision: str, provider: str) -> str:
    """A digest of the files that one precision runs: by the manifest's hashes where it has them."""
    family = folder.family
    names = [*family.graphs(precision), *family.parts(precision)]
    if folder.tuned and precision == "fp32":
        names += family.graphs(TUNED)
    if precision in folder.cuda and provider == "cuda":
        names += family.for_cuda(precision)
    known = Manifest.read(folder.path).files if (folder.path / MANIFEST).exists() else {}
    digests = []
    for name in (*names, *(f"{name}.data" for name in names), "vocab.txt", "config.json"):
        path = folder.path / name
        if path.exists():
            stat = path.stat()
            digests.append(
                [name, known.get(name, {}).get("sha256", [stat.st_size, stat.st_mtime_ns])]
            )
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


_WHOLE = {"track": "default", "channel": "mixed", "start": 0.0, "end": "open"}
"""What was heard of recordings before there was a choice."""
_WITHOUT_VALUES = ("model files", "method of stt")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which respects two fingerprints differ."""
    return ", ".join(
        f"{key} was {before.get(key)} and is {now[key]}"
        if key not in _WITHOUT_VALUES
        else f"{key} changed"
        for key in now
        if before.get(key, _WHOLE.get(key)) != now[key]
    )
