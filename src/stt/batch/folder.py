"""Many recordings into a folder: each done once, whatever interrupts."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

from stt.audio.files import STDIN
from stt.batch.journal import Content, Entry, Journal, Output
from stt.batch.pool import Pool, changes
from stt.engine.manifest import sha256_of
from stt.errors import AudioError, OutputError, SttError
from stt.system.files import TEMPORARY, folded, os_error_text, printable, write_text
from stt.text.transcript import Transcript, essence, look
from stt.transcript import DEFAULT_STYLE, SubtitleStyle

_LOOK_S = 1.0
"""Seconds between two looks at what another process has under way."""
POLL_S = 1.0
"""Seconds from one look at the folder to the next."""
SETTLE_S = 3.0
"""Seconds for which a file must not have changed. A copy that stalls for longer is read too early,
fails as cut short, and is taken again when it goes on."""
Item = TypeVar("Item")
_Signature = tuple[int, int, int]
"""Size, time of change, and which file it is."""


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
    style: SubtitleStyle = DEFAULT_STYLE

    def path(self, name: str, form: str) -> Path:
        """Return where one format of a result goes."""
        return self.output / f"{name}.{form}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    job: Job
    state: str
    """'done'; 'partly': but for what could not be read or recognised; 'kept': done before;
    'written': results that were missing, or look otherwise, come from the journal; 'copied': the
    same recording was done under another name; 'elsewhere': another process has it under way,
    another outcome follows; 'failed'."""
    detail: str = ""
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

    What `talk.mp3` is called must not change because `talk.wav` came to lie beside it. Names are
    apart on every disk: letter case and Unicode form alone do not tell them apart.
    """
    known = [journal.name_of(identity(job.source)) for job in jobs]
    taken = {folded(name) for name in known if name is not None}
    there = {folded(name): name for name in journal.names()} if None in known else {}

    def free(name: str, job: Job) -> bool:
        entry = journal.find(there.get(folded(name), name))
        return folded(name) not in taken and not _is_anothers(entry, job)

    def free_name(job: Job) -> str:
        """Return the name a job asks for, numbered where another recording has it."""
        numbered = (f"{job.name}-{number}" for number in count(2))
        name = next(name for name in chain([job.name], numbered) if free(name, job))
        taken.add(folded(name))
        return name

    return [
        replace(job, name=name or free_name(job)) for job, name in zip(jobs, known, strict=True)
    ]


def _is_anothers(entry: Entry | None, job: Job) -> bool:
    """Whether a result is that of another recording, and not of this one before it was moved."""
    if entry is None or entry.source == identity(job.source):
        return False
    return Path(entry.source).exists()


def transcribe_all(
    pool: Pool, jobs: Iterable[Job | None], delivery: Delivery, journal: Journal
) -> Iterator[Outcome]:
    """Transcribe recordings into a folder, those of them that are not done yet.

    Args:
        pool: what transcribes, e.g. the `local_pool` of a loaded model.
        jobs: taken one by one as they are begun; None where there is none at the moment.
        delivery: where results go.
        journal: of that folder.

    Yields:
        What became of each, as it ends.

    Raises:
        OutputError: the journal cannot be used.
    """
    if journal.only_one():
        for left in delivery.output.rglob(TEMPORARY):  # by a process that was killed
            left.unlink(missing_ok=True)
    desk = _Desk(delivery, journal, pool)
    under_way: set[Future[Outcome]] = set()
    elsewhere: list[Job] = []

    def ended(patience: float | None) -> Iterator[Outcome]:
        nonlocal under_way
        settled, under_way = wait(under_way, patience, return_when=FIRST_COMPLETED)
        for outcome in (one.result() for one in settled):
            if outcome.state == "elsewhere":
                elsewhere.append(outcome.job)
            yield outcome

    for job in jobs:
        if job is not None:
            under_way.add(pool.readers.submit(desk.do, job))
        yield from ended(None if len(under_way) > pool.count else 0.0)
    while under_way:
        yield from ended(None)
    yield from map(desk.do_at_last, elsewhere)


@dataclass(frozen=True, slots=True)
class _Desk:
    """Decides, for one job after the other, what is left to do, and does it."""

    _delivery: Delivery
    _journal: Journal
    _pool: Pool

    def do(self, job: Job) -> Outcome:
        """Do a job; never raises for what is wrong with this recording alone."""
        entry = self._journal.find(job.name)
        again: str | None = ""
        try:
            content = _content(job, entry)
            if entry is not None and entry.state == "done" and not self._delivery.force:
                again = self._why_again(job, entry, content)
                if again is None:
                    return self._as_before(job, entry)
        except SttError as error:
            return Outcome(job, "failed", str(error), error=error)
        if not self._journal.begin(job.name, identity(job.source), content, self._pool.fingerprint):
            return Outcome(job, "elsewhere", "another process has it under way")
        try:
            return self._anew(job, content, entry.outputs if entry is not None else {}, again or "")
        except SttError as error:
            self._journal.failed(job.name, str(error))
            return Outcome(job, "failed", str(error), error=error)

    def do_at_last(self, job: Job) -> Outcome:
        """Wait for what another process does; what it leaves undone is done here."""
        while (outcome := self.do(job)).state == "elsewhere":
            time.sleep(_LOOK_S)
        return outcome

    def _as_before(self, job: Job, entry: Entry) -> Outcome:
        """Write what is missing of a recording that is done."""
        missing = self._missing(job, entry.outputs)
        if not missing:
            return Outcome(job, "kept")
        transcript = self._journal.transcript(job.name)
        return self._deliver(job, transcript, missing, entry.outputs, state="written")

    def _anew(
        self, job: Job, content: Content, before: Mapping[str, Output], again: str
    ) -> Outcome:
        """Recognise a recording, unless a copy of it was."""
        # formats of another day that are there must not tell of another transcript
        old = [form for form in before if self._delivery.path(job.name, form).exists()]
        formats = tuple(dict.fromkeys((*self._delivery.formats, *old)))
        twin = None if self._delivery.force else self._journal.twin(content, self._pool.fingerprint)
        if twin is not None:
            name, transcript = twin
            transcript = replace(transcript, source=job.source)
            detail = f"the same recording as {printable(name)}"
            return self._deliver(job, transcript, formats, before, state="copied", detail=detail)
        transcript = self._pool.transcribe(job.source, self._journal.cache(job.name))
        failures = transcript.coverage.failures if transcript.coverage else ()
        state = "partly" if failures else "done"
        return self._deliver(job, transcript, formats, before, state=state, detail=again)

    def _why_again(self, job: Job, entry: Entry, content: Content) -> str | None:
        """Say why what is done is to be done again; None where it is not."""
        if entry.content.sha256 == content.sha256:
            return changes(entry.fingerprint, self._pool.fingerprint) or None
        return "" if job.source == STDIN else "the recording has changed"

    def _missing(self, job: Job, before: Mapping[str, Output]) -> tuple[str, ...]:
        """Formats that are not there, or are to look otherwise.

        What is there otherwise stays: somebody may have corrected it.
        """
        delivery = self._delivery
        return tuple(
            form
            for form in delivery.formats
            if not delivery.path(job.name, form).exists()
            or (form in before and before[form].look != look(form, delivery.style))
        )

    def _deliver(
        self,
        job: Job,
        transcript: Transcript,
        formats: Sequence[str],
        before: Mapping[str, Output],
        *,
        state: str,
        detail: str = "",
    ) -> Outcome:
        """Write these formats of a result, and note it.

        What lies there and is not what was written `before` is somebody's own: it is put aside, or
        stays where the same would be written as before.
        """
        outputs, new, aside = dict(before), [], []
        style = self._delivery.style
        for form in formats:
            path = self._delivery.path(job.name, form)
            text = transcript.to(form, style)
            outputs[form] = Output(_sha256(form, text.encode()), look(form, style))
            now, old = (o.sha256 if o else None for o in (outputs[form], before.get(form)))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and _sha256(form, path.read_bytes()) not in (old, now):
                    if old == now and not self._delivery.force:
                        continue
                    aside.append(put_aside(path))
            except OSError as error:
                raise OutputError(os_error_text(error, path)) from error
            write_text(path, text)
            new.append(path)
        self._journal.done(job.name, transcript, outputs, partly=state == "partly")
        kept = ", ".join(f"{path} kept as {other.name}" for path, other in aside)
        detail = "; ".join(filter(None, (detail, kept)))
        return Outcome(job, state, detail, transcript, tuple(new))


def _content(job: Job, entry: Entry | None) -> Content:
    """What a recording is; not read again where size and time are those of the journal."""
    if job.source == STDIN:
        return Content(0, 0, uuid.uuid4().hex)  # something else each time
    path = Path(job.source)
    try:
        stat = path.stat()
        if entry is not None and (stat.st_size, stat.st_mtime_ns) == (
            entry.content.size,
            entry.content.mtime_ns,
        ):
            return entry.content
        return Content(stat.st_size, stat.st_mtime_ns, sha256_of(path))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _sha256(form: str, data: bytes) -> str:
    """A digest of what a result says, the same in whatever run it was made."""
    return hashlib.sha256(essence(form, data)).hexdigest()


def put_aside(path: Path) -> tuple[Path, Path]:
    """Give a file another name; returns both."""
    numbered = (path.with_name(f"{path.name}.old{number}") for number in count(2))
    free = next(p for p in chain([path.with_name(f"{path.name}.old")], numbered) if not p.exists())
    path.rename(free)
    return path, free


class Arrivals:
    """Hands recordings on as they arrive in a folder, each when it has stopped growing.

    Only what a folder holds is asked, so that network shares work too, and of files' own times only
    whether they change: it does not matter whose clock set them, nor in which order a file was
    made, written and renamed.
    """

    def __init__(
        self, settle_s: float = SETTLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settle_s, self._clock = settle_s, clock
        self._seen: dict[str, tuple[_Signature, float]] = {}  # path -> what it was, since when
        self._handed: dict[str, _Signature] = {}

    def ready(self, items: Iterable[Item], path_of: Callable[[Item], str]) -> list[Item]:
        """Return those of what is there now that have settled and were not handed on like this."""
        now = self._clock()
        seen: dict[str, tuple[_Signature, float]] = {}
        settled = []
        for item in items:
            path = path_of(item)
            signature = _signature(path)
            if signature is None:
                continue
            before, since = self._seen.get(path, (signature, now))
            since = since if before == signature else now
            seen[path] = signature, since
            whole = signature[0] > 0 and now - since >= self._settle_s
            if whole and self._handed.get(path) != signature:
                self._handed[path] = signature
                settled.append(item)
        self._seen = seen  # what is gone is forgotten
        self._handed = {path: known for path, known in self._handed.items() if path in seen}
        return settled


def _signature(path: str) -> _Signature | None:
    """What tells one state of a file from another; None where it is gone, or is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - names that are no text
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
