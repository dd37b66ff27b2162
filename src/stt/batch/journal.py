"""What is done of a folder of recordings: a journal beside the results.

Nothing is lost by an interruption, and nothing is done twice.

It is an SQLite database, `.stt/journal.sqlite` in the output folder. A recording has a row under
the name of its result; each of its utterances has one until the recording is done. Several
processes may work on one folder: a row belongs to the process that has it under way, which holds a
lock file as long as it lives, however it ends.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stt.audio.segmenter import Utterance
from stt.engine.fallback import Fallback
from stt.errors import OutputError
from stt.text.transcript import Transcript
from stt.transcript import Choice, Coverage, Segment, Word

FOLDER = ".stt"
"""In the output folder; begins with a dot, so that no search for recordings looks into it."""
_VERSION = 2
_BUSY_S = 60.0
"""Seconds to wait for another process that writes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS recordings (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, sha256 TEXT,
    recipe TEXT NOT NULL, state TEXT NOT NULL, owner TEXT, told TEXT, transcript TEXT, outputs TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sources ON recordings (source);
CREATE INDEX IF NOT EXISTS contents ON recordings (sha256);
CREATE TABLE IF NOT EXISTS utterances (
    name TEXT NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, segments TEXT NOT NULL,
    fallback TEXT, PRIMARY KEY (name, start)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What a recording is, whatever its name."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Output:
    """A result that was written."""

    sha256: str
    look: str
    """What it depends on beside the transcript, see `stt.text.transcript.look`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a recording."""

    source: str
    content: Content
    fingerprint: Mapping[str, Any]
    """All that its words depend on but its sound: model, precision, how it is cut."""
    state: str
    """'under way', 'done', 'partly' (done, but for what could not be read or recognised) or
    'failed'."""
    detail: str
    """Of a failed one, why."""
    outputs: Mapping[str, Output]
    """Format -> what was written."""


@dataclass(frozen=True, slots=True)
class Twin:
    """Another recording of the same content."""

    name: str
    transcript: Transcript


class Journal:
    """An output folder's journal; a context manager. Its methods may be called by any thread."""

    def __init__(self, output: Path) -> None:
        """Open, or begin, the journal of a folder.

        Raises:
            OutputError: it cannot be written, is damaged, or another version of `stt` wrote it.
        """
        from filelock import FileLock

        self._folder = output / FOLDER
        self._lock = threading.RLock()
        self._owner = uuid.uuid4().hex
        path = self._folder / "journal.sqlite"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._alive = FileLock(self._lock_of(self._owner))
            self._alive.acquire()
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a commit may be lost, none halved
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}")
            self._db.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
        except (OSError, NotImplementedError, sqlite3.Error) as error:
            # NotImplementedError: filelock says so of a disk without locks
            raise self._unusable(error) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is under way, and close."""
        with self._lock, suppress(OSError):  # a disk that has gone: nothing is left to give back
            self._db.close()
            self._alive.release()
            self._lock_of(self._owner).unlink(missing_ok=True)

    def find(self, name: str) -> Entry | None:
        """Return what is known of the recording whose result has this name."""
        row = self._one(
            "SELECT source, size, mtime_ns, sha256, recipe, state, told, outputs FROM recordings "
            "WHERE name = ?",
            _key(name),
        )
        if row is None:
            return None
        source, size, mtime_ns, sha256, fingerprint, state, detail, outputs = row
        content = Content(size, mtime_ns, sha256)
        with self._reading():
            written = {
                form: Output(**values) for form, values in json.loads(outputs or "{}").items()
            }
            known = dict(json.loads(fingerprint))
            return Entry(str(json.loads(source)), content, known, state, detail or "", written)

    def name_of(self, source: str) -> str | None:
        """Return the name of the result of a recording, if it has one."""
        row = self._one("SELECT name FROM recordings WHERE source = ? LIMIT 1", _key(source))
        with self._reading():
            return None if row is None else str(json.loads(row[0]))

    def names(self) -> list[str]:
        """Return the names of all results."""
        with self._reading():
            return [json.loads(name) for (name,) in self._all("SELECT name FROM recordings")]

    def begin(
        self, name: str, source: str, content: Content, fingerprint: Mapping[str, Any]
    ) -> bool:
        """Take a recording; utterances of the same content and fingerprint stay.

        Returns:
            False where another process that lives has it under way.
        """
        with self._writing() as db:
            row = db.execute(
                "SELECT state, owner, sha256, recipe, outputs FROM recordings WHERE name = ?",
                (_key(name),),
            ).fetchone()
            text, outputs = _as_key(fingerprint), None
            if row is not None:
                state, owner, sha256, known, outputs = row
                if state == "under way" and owner != self._owner and self._lives(owner):
                    return False
                if (sha256, known) != (content.sha256, text):
                    db.execute("DELETE FROM utterances WHERE name = ?", (_key(name),))
            db.execute(
                "INSERT OR REPLACE INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(_key(name), _key(source), content.size, content.mtime_ns),
                    *(content.sha256, text),
                    *("under way", self._owner, None, None, outputs),
                ),
            )
            return True

    def done(
        self,
        name: str,
        transcript: Transcript,
        outputs: Mapping[str, Output],
        *,
        partly: bool = False,
    ) -> None:
        """Note that a recording's results are written; `partly`: its utterances stay."""
        state = "partly" if partly else "done"
        written = json.dumps({form: asdict(output) for form, output in outputs.items()})
        with self._writing() as db:
            db.execute(
                "UPDATE recordings SET state = ?, owner = NULL, told = NULL, transcript = ?, "
                "outputs = ? WHERE name = ?",
                (state, _as_text(transcript), written, _key(name)),
            )
            if not partly:
                db.execute("DELETE FROM utterances WHERE name = ?", (_key(name),))

    def moved(self, name: str, source: str) -> None:
        """Note that a recording lies elsewhere now."""
        with self._writing() as db:
            db.execute(
                "UPDATE recordings SET source = ? WHERE name = ?", (_key(source), _key(name))
            )

    def failed(self, name: str, detail: str) -> None:
        """Note that a recording failed, and why; its utterances stay."""
        with self._writing() as db:
            db.execute(
                "UPDATE recordings SET state = 'failed', owner = NULL, told = ? WHERE name = ?",
                (detail, _key(name)),
            )

    def transcript(self, name: str) -> Transcript:
        """Return the transcript of a recording that is done."""
        row = self._one("SELECT transcript FROM recordings WHERE name = ?", _key(name))
        with self._reading():
            assert row is not None
            return _from_text(row[0])

    def twin(self, content: Content, fingerprint: Mapping[str, Any]) -> Twin | None:
        """Return what is done with the same content and fingerprint, under whatever name."""
        row = self._one(
            "SELECT name, transcript FROM recordings "
            "WHERE sha256 = ? AND recipe = ? AND state = 'done' LIMIT 1",
            *(content.sha256, _as_key(fingerprint)),
        )
        with self._reading():
            return None if row is None else Twin(json.loads(row[0]), _from_text(row[1]))

    def only_one(self) -> bool:
        """Whether no other process works on this folder."""
        return not any(
            self._lives(path.stem)
            for path in self._folder.glob("*.lock")
            if path.stem != self._owner
        )

    def cache(self, name: str) -> JournalCache:
        """Return the cache of one recording's utterances."""
        return JournalCache(self, name)

    def keep(
        self, name: str, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """Note what an utterance says; `fallback`: what the recording left its precision for."""
        values = (
            *(_key(name), utterance.start, len(utterance.samples)),
            json.dumps([asdict(segment) for segment in segments]),
            None if fallback is None else json.dumps(asdict(fallback)),
        )
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO utterances VALUES (?, ?, ?, ?, ?)", values)

    def recall(
        self, name: str, utterance: Utterance
    ) -> tuple[list[Segment], Fallback | None] | None:
        """Return what an utterance says and the fallback in force, if that was noted."""
        row = self._one(
            "SELECT segments, fallback FROM utterances WHERE name = ? AND start = ? AND length = ?",
            *(_key(name), utterance.start, len(utterance.samples)),
        )
        with self._reading():
            return None if row is None else _said(*row)

    def remembered(self, name: str) -> list[CachedUtterance]:
        """Return what is noted of all of a recording's utterances."""
        rows = self._all(
            "SELECT start, length, segments, fallback FROM utterances WHERE name = ?", _key(name)
        )
        with self._reading():
            return [CachedUtterance(start, length, *_said(*said)) for start, length, *said in rows]

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        return next(iter(self._all(query, *values)), None)

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Refuse what a row holds where no `stt` has written it so."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._unusable(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that waits for other processes' and is whole or not at all."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> OutputError:
        return OutputError(
            f"{self._folder}: the journal of this folder cannot be used ({error}); make room or "
            "rights for it, move it away to begin anew, or choose another folder with -o"
        )

    def _lock_of(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    def _lives(self, owner: str | None) -> bool:
        """Whether a process holds its lock file."""
        from filelock import FileLock

        path = self._lock_of(owner or "")
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except OSError:  # filelock's Timeout is one; or it is another user's
            return True
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return False


@dataclass(frozen=True, slots=True)
class CachedUtterance:
    """What one utterance of a recording says."""

    start: int
    length: int
    """Samples."""
    segments: list[Segment]
    fallback: Fallback | None
    """In force after it."""


class JournalCache:
    """What was noted of one recording's utterances: a `pipeline.UtteranceCache`."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal, self._name = journal, name

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """See pipeline.UtteranceCache."""
        self._journal.keep(self._name, utterance, segments, fallback)

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """See pipeline.UtteranceCache."""
        return self._journal.recall(self._name, utterance)

    def all(self) -> list[CachedUtterance]:
        """Return all that is remembered of the recording."""
        return self._journal.remembered(self._name)


def _key(name: str) -> str:
    """A name as SQLite takes it: of bytes that are no UTF-8 too."""
    return json.dumps(name)


def _as_key(fingerprint: Mapping[str, Any]) -> str:
    return json.dumps(fingerprint, sort_keys=True)


def _as_text(transcript: Transcript) -> str:
    return json.dumps(asdict(transcript))


def _from_text(text: str) -> Transcript:
    values = json.loads(text)
    values["choice"] = Choice(**values["choice"])
    values["segments"] = tuple(map(_segment, values["segments"]))
    if (coverage := values["coverage"]) is not None:
        lines = {key: tuple(coverage.get(key, ())) for key in ("failures", "notes")}
        values["coverage"] = Coverage(**coverage | lines)
    return Transcript(**values)


def _said(segments: str, fallback: str | None) -> tuple[list[Segment], Fallback | None]:
    left = None if fallback is None else Fallback(**json.loads(fallback))
    return [_segment(values) for values in json.loads(segments)], left


def _segment(values: dict[str, Any]) -> Segment:
    return Segment(**values | {"words": tuple(Word(**word) for word in values["words"])})
