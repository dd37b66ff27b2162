"""The part of `stt.batch.ray_pool` that runs on the nodes: an actor that holds a loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stt import errors
from stt.audio.segmenter import Utterance
from stt.audio.selection import Selection
from stt.batch.fingerprint import recipe
from stt.batch.journal import Remembered
from stt.engine.fallback import Fallback
from stt.errors import SttError
from stt.pipeline import Step
from stt.settings.loading import LoadedSettings, Settings
from stt.system.temporary import temporary_folder
from stt.transcriber import load_with, recognizing_pool
from stt.transcript import Choice, Segment


@dataclass(frozen=True, slots=True)
class About:
    """What an engine runs."""

    model: str
    choice: Choice
    recipe: Mapping[str, Any]
    language: str | None
    """See ModelTranscriber.language."""
    at_once: int
    """Recordings it takes at a time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What is wrong with a recording."""

    kind: str
    """Name of a class in stt.errors."""
    told: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The node sees no such file: it is to be sent."""


@dataclass(frozen=True, slots=True)
class Proceeds:
    """A step, and the utterances that were recognised for it."""

    step: Step
    duration: float | None
    kept: tuple[Remembered, ...]


Item = Failed | Absent | Proceeds


class Engine:
    """A loaded model on a node; an actor."""

    def __init__(self, settings: Mapping[str, Any], selection: Selection) -> None:
        """Load what the settings name, as it is there; `selection`: what is heard."""
        self._transcriber = load_with(LoadedSettings(Settings(**settings), None, {}))
        pool = recognizing_pool(self._transcriber.recognizer)
        self._transcriber = replace(self._transcriber, pool=pool, selection=selection)

    def about(self) -> About:
        """Tell what runs."""
        here = self._transcriber
        language = here.language
        at_once = here.recognizer.streams + 1
        return About(here.model, here.choice, recipe(here), language, at_once)

    def transcribe(
        self, source: str, size: int, sent: bytes | None, known: list[Remembered]
    ) -> Iterator[Item]:
        """Yield what comes of a recording of `size` bytes, or of what was `sent` in its place."""
        memory = _Notes(known)
        with ExitStack() as stack:
            path = Path(source)
            if sent is not None:
                folder = stack.enter_context(temporary_folder("sent"))
                path = folder / f"recording{path.suffix}"
                path.write_bytes(sent)
            elif not path.is_file() or path.stat().st_size != size:
                yield Absent()
                return
            try:
                for step, duration in self._transcriber.steps(path, memory=memory):
                    yield Proceeds(step, duration, memory.news())
            except SttError as error:
                kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in errors.__all__)
                yield Failed(kind, str(error).replace(str(path), source))


class _Notes:
    """A `pipeline.Memory` that begins with what is known, and notes what is new."""

    def __init__(self, known: list[Remembered]) -> None:
        self._known = {(one.start, one.length): one for one in known}
        self._news: list[Remembered] = []

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """See pipeline.Memory."""
        length = len(utterance.samples)
        self._news.append(Remembered(utterance.start, length, segments, fallback))

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """See pipeline.Memory."""
        one = self._known.get((utterance.start, len(utterance.samples)))
        return None if one is None else (one.segments, one.fallback)

    def news(self) -> tuple[Remembered, ...]:
        """Return what was noted since."""
        news, self._news = tuple(self._news), []
        return news
