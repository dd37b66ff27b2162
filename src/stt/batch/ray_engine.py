"""A Ray cluster: the way to it, and what runs on its nodes: an actor that holds a loaded model."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stt import errors
from stt.audio.selection import Selection
from stt.audio.utterances import Utterance
from stt.batch.journal import CachedUtterance
from stt.batch.pool import Sharing, fingerprint
from stt.engine.fallback import Fallback
from stt.errors import SttError, UsageError
from stt.pipeline import Step
from stt.settings.loading import LoadedSettings, Settings
from stt.system.temporary import temporary_folder
from stt.transcriber import load_with
from stt.transcript import Choice, Segment


@dataclass(frozen=True, slots=True)
class About:
    """What an engine runs."""

    model: str
    choice: Choice
    fingerprint: Mapping[str, Any]
    language: str | None
    """See ModelTranscriber.language."""
    at_once: int
    """Recordings it takes at a time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What is wrong with a recording."""

    kind: str
    """Name of a class in stt.errors."""
    detail: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The node sees no such file: it is to be sent."""


@dataclass(frozen=True, slots=True)
class Proceeds:
    """A step, and the utterances that were recognised for it."""

    step: Step
    duration: float | None
    kept: tuple[CachedUtterance, ...]


Item = Failed | Absent | Proceeds


class Engine:
    """A loaded model on a node; an actor."""

    def __init__(self, settings: Mapping[str, Any], selection: Selection) -> None:
        """Load what the settings name, as it is there; `selection`: what is heard."""
        loaded = load_with(LoadedSettings(Settings(**settings), None, {}))
        sharing = Sharing.of(loaded)
        pool = ThreadPoolExecutor(sharing.threads, "recognizer")
        self._at_once = sharing.recordings
        self._transcriber = replace(
            loaded, recognizer=sharing.recognizer, pool=pool, selection=selection
        )

    def about(self) -> About:
        """Tell what runs."""
        here = self._transcriber
        language = here.language
        return About(here.model, here.choice, fingerprint(here), language, self._at_once)

    def transcribe(
        self, source: str, size: int, sent: bytes | None, known: list[CachedUtterance]
    ) -> Iterator[Item]:
        """Yield what comes of a recording of `size` bytes, or of what was `sent` in its place."""
        cache = _NodeCache(known)
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
                for step, duration in self._transcriber.steps(path, cache=cache):
                    yield Proceeds(step, duration, cache.news())
            except SttError as error:
                kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in errors.__all__)
                yield Failed(kind, str(error).replace(str(path), source))


class _NodeCache:
    """A `pipeline.UtteranceCache` that begins with what is known, and notes what is new."""

    def __init__(self, known: list[CachedUtterance]) -> None:
        self._known = {(one.start, one.length): one for one in known}
        self._news: list[CachedUtterance] = []

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """See pipeline.UtteranceCache."""
        length = len(utterance.samples)
        self._news.append(CachedUtterance(utterance.start, length, segments, fallback))

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """See pipeline.UtteranceCache."""
        one = self._known.get((utterance.start, len(utterance.samples)))
        return None if one is None else (one.segments, one.fallback)

    def news(self) -> tuple[CachedUtterance, ...]:
        """Return what was noted since."""
        news, self._news = tuple(self._news), []
        return news


_HOST_PORT = re.compile(r"([^/]+):(\d+)")
_ANSWER_S = 10.0


def connected(address: str) -> Any:
    """Connect, and return Ray.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here reports to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        _check_port(address)
        if _asks_for_token(address):
            os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported: it reads it then
        import ray

        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError as error:
        raise UsageError(
            "--ray: Ray is not installed; `pip install 'stt-parakeet[ray]'` in this environment"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"--ray: no cluster answers at {address or 'this machine'} ({last_line(error)}); "
            "start one with `ray start --head`"
        ) from error
    return ray


def _check_port(address: str) -> None:
    """Ask whether anybody listens at host:port; Ray itself would wait for minutes."""
    if found := _HOST_PORT.fullmatch(address.removeprefix("ray://")):
        with socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_S):
            pass


def _asks_for_token(address: str) -> bool:
    """Tell whether a cluster wants the user's token: `ray start` asks for it where there is one."""
    has_token = (Path.home() / ".ray" / "auth_token").exists()
    if not has_token or "RAY_AUTH_MODE" in os.environ or not _HOST_PORT.fullmatch(address):
        return False
    asked = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        check=False,
    )
    return b"InvalidAuthToken" in asked.stdout + asked.stderr


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: Ray's begin with where it was raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
