"""The model of a server: loaded once, lent to each request, given back to the system when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from stt.audio.utterances import Utterance
from stt.engine.dynamic_batcher import DynamicBatcher
from stt.engine.fallback import Fallback, GuardedRecognizer
from stt.errors import ModelError, SttError
from stt.serve.scheduler import Priority, Scheduler, Turn
from stt.streaming.jobs import Pace
from stt.streaming.session import LiveSession
from stt.streaming.stream import guarded_for, pace_for
from stt.transcriber import ModelTranscriber
from stt.transcript import Choice, Segment

State = Literal["idle", "loading", "loaded", "failed"]


class NotLoaded(ModelError):  # noqa: N818 - it may be loaded later
    """The model cannot be loaded now; the next request tries again."""

    def __init__(self, cause: SttError) -> None:
        super().__init__(str(cause))
        self.exit_code = cause.exit_code


@dataclass(frozen=True, slots=True)
class Served:
    """What is served, as it was when it was last loaded."""

    model: str
    choice: Choice
    language: str | None
    """ISO 639-1 code where the model knows but one."""
    tells_words: bool
    """Whether it tells when each word was said."""
    streams: int
    """Utterances recognised at a time."""
    pace: Pace
    """Of live sessions."""
    english_only: bool
    """Whether it writes English whatever is spoken."""
    speed: float | None
    """Seconds of audio that were recognised in a second when it was tried; None: it was not."""


@dataclass(slots=True)
class _Loaded:
    transcriber: ModelTranscriber
    scheduler: Scheduler


class Engine:
    """A model and the threads that run it; for any thread."""

    def __init__(
        self,
        load: Callable[[], ModelTranscriber],
        idle_unload_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        trial: Callable[[ModelTranscriber], float] | None = None,
    ) -> None:
        """`load` is called when the model is first needed, and again after it was unloaded.

        `idle_unload_s`: seconds without a request after which `unload_if_idle` gives its memory
        back; None: it never does. `trial` is given the model whenever it was loaded; it returns
        its speed, or raises ModelError where it is of no use.
        """
        self._load, self._idle_s, self._clock = load, idle_unload_s, clock
        self._trial = trial
        self._loading = threading.Lock()  # held while it is loaded, which takes seconds
        self._lock = threading.Lock()  # guards what follows, for moments
        self._loaded: _Loaded | None = None
        self._borrowers = 0
        self._used = clock()
        self.served: Served | None = None
        """None until it was loaded once."""
        self.state: State = "idle"
        self.failure = ""
        """Why it could not be loaded, of the last attempt."""

    @contextmanager
    def lent(self, priority: Priority) -> Iterator[tuple[ModelTranscriber, Turn]]:
        """Lend the model for one request, loading it where it is not; its pool is the turn.

        Raises:
            NotLoaded: it cannot be loaded.
        """
        with self._borrowed() as loaded:
            turn = loaded.scheduler.turn(priority)
            yield replace(loaded.transcriber, pool=turn), turn

    @contextmanager
    def lent_live(self, session: LiveSession) -> Iterator[LiveRecognizer]:
        """Lend it to a live session, before all else.

        Raises:
            NotLoaded: it cannot be loaded.
        """
        with self._borrowed() as loaded:
            turn = loaded.scheduler.turn(Priority.LIVE)
            try:
                yield LiveRecognizer(guarded_for(loaded.transcriber, session), turn)
            finally:
                turn.withdraw()

    def load(self) -> Served:
        """Load the model before anybody asks; returns what it is.

        Raises:
            NotLoaded: it cannot be loaded.
        """
        with self._borrowed():
            assert self.served is not None
            return self.served

    def unload_if_idle(self) -> bool:
        """Give the model's memory back where nobody has used it for long; returns whether so."""
        if self._idle_s is None:
            return False
        with self._lock:
            idle = self._clock() - self._used >= self._idle_s
            if self._loaded is None or self._borrowers or not idle:
                return False
            loaded, self._loaded, self.state = self._loaded, None, "idle"
        loaded.scheduler.close()
        return True

    def close(self) -> None:
        """End its threads, when what is under way is done."""
        with self._lock:
            loaded, self._loaded, self.state = self._loaded, None, "idle"
        if loaded:
            loaded.scheduler.close()

    @property
    def waiting(self) -> int:
        """Utterances that wait to be recognised."""
        loaded = self._loaded
        return loaded.scheduler.waiting if loaded else 0

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest of them has waited."""
        loaded = self._loaded
        return loaded.scheduler.oldest_s if loaded else 0.0

    @property
    def still_s(self) -> float:
        """Seconds for which nothing was finished, though there was something to do; else 0."""
        loaded = self._loaded
        return loaded.scheduler.still_s if loaded else 0.0

    @contextmanager
    def _borrowed(self) -> Iterator[_Loaded]:
        with self._lock:
            self._borrowers += 1  # from here on it is not unloaded
        try:
            yield self._have()
        finally:
            with self._lock:
                self._borrowers -= 1
                self._used = self._clock()

    def _have(self) -> _Loaded:
        with self._loading:
            if self._loaded is not None:
                return self._loaded
            self.state = "loading"
            try:
                transcriber = _shared(_without_paths(self._load()))
                speed = self._trial(transcriber) if self._trial else None
            except Exception as error:
                self.state, self.failure = "failed", str(error)
                if isinstance(error, SttError):
                    raise NotLoaded(error) from error
                raise
            loaded = _Loaded(transcriber, Scheduler(transcriber.recognizer.streams))
            self.served = Served(
                model=transcriber.model,
                choice=transcriber.choice,
                language=transcriber.language,
                tells_words=transcriber.recognizer.tells_words,
                streams=transcriber.recognizer.streams,
                pace=pace_for(transcriber),
                english_only=transcriber.english_only,
                speed=speed,
            )
            with self._lock:
                self._loaded, self.state, self.failure = loaded, "loaded", ""
            return loaded


def _without_paths(transcriber: ModelTranscriber) -> ModelTranscriber:
    """Let the reason of the choice, which clients are told, name no folder of this machine."""
    choice, folder = transcriber.choice, transcriber.folder
    reason = choice.reason.replace(str(folder.path), folder.name)
    return replace(transcriber, choice=replace(choice, reason=reason))


def _shared(transcriber: ModelTranscriber) -> ModelTranscriber:
    """On a card, let utterances of different requests share a batch."""
    recognizer = transcriber.recognizer
    if recognizer.provider == "cpu":
        return transcriber
    batcher = DynamicBatcher(recognizer, transcriber.cutting.batch_size)
    return replace(transcriber, recognizer=batcher)


class LiveRecognizer:
    """A live session's recogniser, which takes its turn with the requests'."""

    def __init__(self, guarded: GuardedRecognizer, executor: Executor) -> None:
        self._guarded, self._executor = guarded, executor

    @property
    def fallback(self) -> Fallback | None:
        """See GuardedRecognizer."""
        return self._guarded.fallback

    def begin(self, batch: Sequence[Utterance]) -> Future[list[list[Segment]]]:
        """Recognise without waiting for it; see GuardedRecognizer."""
        return self._executor.submit(self._guarded.recognize, batch)
