"""What is done of a folder of recordings: nothing is lost by an interruption or done twice.

An SQLite database, `.stt/journal.sqlite` in the output folder. A recording has a row under the name
of its result; each of its utterances has one until the recording is done. Several processes may
work on one folder: a row belongs to the process that has it under way, which holds a lock file as
long as it lives, however it ends.
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
from typing import Any, TypeVar

from pydantic import TypeAdapter

from stt.audio.utterances import Utterance
from stt.engine.fallback import Fallback
from stt.errors import OutputError
from stt.text.transcript import Transcript
from stt.transcript import Segment

FOLDER = ".stt"
"""In the output folder; begins with a dot, so that no search for recordings looks into it."""
_VERSION = 2
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


Value = TypeVar("Value")
_TEXT = TypeAdapter(str)
_FINGERPRINT: TypeAdapter[Mapping[str, Any]] = TypeAdapter(dict[str, Any])
_OUTPUTS: TypeAdapter[Mapping[str, Output]] = TypeAdapter(dict[str, Output])
_TRANSCRIPT = TypeAdapter(Transcript)
_SEGMENTS = TypeAdapter(list[Segment])
_FALLBACK: TypeAdapter[Fallback | None] = TypeAdapter(Fallback | None)


class Journal:
    """An output folder's journal; a context manager. Its methods may be called by any thread."""

    def __init__(self, output: Path) -> None:
        """Open or begin it; OutputError where it cannot be used, or is of another version."""
        self._db = _Database(output / FOLDER)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what is under way, and close."""
        self._db.close()

    def find(self, name: str) -> Entry | None:
        """Return what is known of the recording whose result has this name."""
        read = self._db.read
        for source, size, mtime_ns, sha256, fingerprint, state, detail, outputs in self._db.run(
            "SELECT source, size, mtime_ns, sha256, recipe, state, told, outputs FROM recordings "
            "WHERE name = ?",
            _key(name),
        ):
            return Entry(
                source=read(_TEXT, source),
                content=Content(size, mtime_ns, sha256),
                fingerprint=read(_FINGERPRINT, fingerprint),
                state=state,
                detail=detail or "",
                outputs=read(_OUTPUTS, outputs or "{}"),
            )
        return None

    def name_of(self, source: str) -> str | None:
        """Return the name of the result of a recording, if it has one."""
        rows = self._db.run("SELECT name FROM recordings WHERE source = ? LIMIT 1", _key(source))
        return next((self._db.read(_TEXT, name) for (name,) in rows), None)

    def names(self) -> list[str]:
        """Return the names of all results."""
        rows = self._db.run("SELECT name FROM recordings")
        return [self._db.read(_TEXT, name) for (name,) in rows]

    def begin(
        self, name: str, source: str, content: Content, fingerprint: Mapping[str, Any]
    ) -> bool:
        """Take a recording, keeping utterances of the same content and fingerprint.

        False: another process that lives has it under way.
        """
        with self._db.writing() as db:
            row = db.execute(
                "SELECT state, owner, sha256, recipe, outputs FROM recordings WHERE name = ?",
                (_key(name),),
            ).fetchone()
            text, outputs = _key(fingerprint), None
            if row is not None:
                state, owner, sha256, known, outputs = row
                if state == "under way" and self._db.is_anothers(owner):
                    return False
                if (sha256, known) != (content.sha256, text):
                    db.execute("DELETE FROM utterances WHERE name = ?", (_key(name),))
            db.execute(
                "INSERT OR REPLACE INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(_key(name), _key(source), content.size, content.mtime_ns),
                    *(content.sha256, text),
                    *("under way", self._db.owner, None, None, outputs),
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
        with self._db.writing() as db:
            db.execute(
                "UPDATE recordings SET state = ?, owner = NULL, told = NULL, transcript = ?, "
                "outputs = ? WHERE name = ?",
                (state, json.dumps(asdict(transcript)), written, _key(name)),
            )
            if not partly:
                db.execute("DELETE FROM utterances WHERE name = ?", (_key(name),))

    def moved(self, name: str, source: str) -> None:
        """Note that a recording lies elsewhere now."""
        self._db.run("UPDATE recordings SET source = ? WHERE name = ?", _key(source), _key(name))

    def failed(self, name: str, detail: str) -> None:
        """Note that a recording failed, and why; its utterances stay."""
        query = "UPDATE recordings SET state = 'failed', owner = NULL, told = ? WHERE name = ?"
        self._db.run(query, detail, _key(name))

    def transcript(self, name: str) -> Transcript:
        """Return the transcript of a recording that is done."""
        ((text,),) = self._db.run("SELECT transcript FROM recordings WHERE name = ?", _key(name))
        return self._db.read(_TRANSCRIPT, text)

    def twin(
        self, content: Content, fingerprint: Mapping[str, Any]
    ) -> tuple[str, Transcript] | None:
        """Return name and transcript of what is done with the same content and fingerprint."""
        rows = self._db.run(
            "SELECT name, transcript FROM recordings "
            "WHERE sha256 = ? AND recipe = ? AND state = 'done' LIMIT 1",
            *(content.sha256, _key(fingerprint)),
        )
        read = self._db.read
        return next(((read(_TEXT, name), read(_TRANSCRIPT, text)) for name, text in rows), None)

    def only_one(self) -> bool:
        """Whether no other process works on this folder."""
        return not any(map(self._db.is_anothers, self._db.owners()))

    def cache(self, name: str) -> JournalCache:
        """Return the cache of one recording's utterances."""
        return JournalCache(self._db, name)


@dataclass(frozen=True, slots=True)
class CachedUtterance:
    """What one utterance of a recording says."""

    start: int
    length: int
    """Samples."""
    segments: list[Segment]
    fallback: Fallback | None
    """In force after it: what the recording left its precision for."""


class JournalCache:
    """What was noted of one recording's utterances: a `pipeline.UtteranceCache`."""

    def __init__(self, db: _Database, name: str) -> None:
        self._db, self._name = db, _key(name)

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """See pipeline.UtteranceCache."""
        self._db.run(
            "INSERT OR REPLACE INTO utterances VALUES (?, ?, ?, ?, ?)",
            *(self._name, utterance.start, len(utterance.samples)),
            json.dumps([asdict(segment) for segment in segments]),
            None if fallback is None else json.dumps(asdict(fallback)),
        )

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """See pipeline.UtteranceCache."""
        found = self._read("AND start = ? AND length = ?", utterance.start, len(utterance.samples))
        return (found[0].segments, found[0].fallback) if found else None

    def all(self) -> list[CachedUtterance]:
        """Return all that is remembered of the recording."""
        return self._read("")

    def _read(self, which: str, *values: int) -> list[CachedUtterance]:
        read = self._db.read
        query = f"SELECT start, length, segments, fallback FROM utterances WHERE name = ? {which}"
        return [
            CachedUtterance(start, length, read(_SEGMENTS, segments), read(_FALLBACK, fallback))
            for start, length, segments, fallback in self._db.run(query, self._name, *values)
        ]


class _Database:
    """The journal's file, for any thread; OutputError tells what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self.owner, self._folder, self._lock = uuid.uuid4().hex, folder, threading.RLock()
        self._alive = FileLock(folder / f"{self.owner}.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._alive.acquire()
            path = folder / "journal.sqlite"
            self._db = sqlite3.connect(  # which waits a minute for another process that writes
                path, timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a commit may be lost, none halved
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}")
            self._db.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
        except (OSError, NotImplementedError, sqlite3.Error) as error:  # the second: no locks
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close it, and let the lock go."""
        with self._lock, suppress(OSError):  # a disk that has gone: nothing is left to give back
            self._db.close()
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    def owners(self) -> list[str]:
        """Return those that have a lock file, be they alive or not."""
        return [path.stem for path in self._folder.glob("*.lock")]

    def is_anothers(self, owner: str) -> bool:
        """Whether it is another process that lives: it holds its lock file."""
        from filelock import FileLock

        path = self._folder / f"{owner}.lock"
        if owner == self.owner or not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except OSError:  # filelock's Timeout is one; or it is another user's
            return True
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return False

    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement, whole or not at all; returns the rows it finds."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def read(self, kind: TypeAdapter[Value], text: str | None) -> Value:
        """Return what a column holds as JSON; refused where no `stt` has written it so."""
        try:  # pydantic's own reader of JSON takes no names of bytes that are no UTF-8
            return kind.validate_python(None if text is None else json.loads(text))
        except (ValueError, TypeError) as error:
            raise self._unusable(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that waits for other processes' and is whole or not at all."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> OutputError:
        reason = " ".join(str(error).split())  # pydantic's has several lines
        return OutputError(
            f"{self._folder}: the journal of this folder cannot be used ({reason}); make room or "
            "rights for it, move it away to begin anew, or choose another folder with -o"
        )


def _key(value: object) -> str:
    """A name or a fingerprint as SQLite takes it: of bytes that are no UTF-8 too."""
    return json.dumps(value, sort_keys=True)
