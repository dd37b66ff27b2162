"""Recordings on a Ray cluster: an engine on every node, the journal and the results here.

Each recording is a task of an actor that holds a loaded model; there is one actor per GPU, or one
per node without. What an actor makes of each utterance comes back at once and goes into the
journal, so that nothing recognised is lost with a node: the recording goes on elsewhere. A
recording that a node cannot read under its path is sent to it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stt import errors
from stt.audio.selection import ALL_OF_IT, Selection
from stt.audio.utterances import Utterance
from stt.batch.journal import CachedUtterance, JournalCache
from stt.batch.pool import OnStep, Pool, Source, StoppedError
from stt.batch.ray_engine import About, Absent, Engine, Failed, Item, Proceeds, connected, last_line
from stt.errors import AudioError, ModelError
from stt.settings.loading import LoadedSettings
from stt.text.transcript import Transcript
from stt.transcriber import TranscriptBuilder

Read = TypeVar("Read")
ATTEMPTS = 4
"""Engines that may be lost over one recording: then it is the recording that kills them."""
RESTARTS = 3
"""Times an engine is started again on a node that lives."""
_LOOK_S = 5.0
"""Seconds between two looks for nodes that joined."""


@dataclass(slots=True)
class _Worker:
    """An engine of the cluster, as it is known here."""

    place: str
    """Node, and which of its GPUs."""
    actor: Any
    answer: Any
    """Reference to what it is about; None once that is known."""
    lives: bool = True
    starts: int = 1


@dataclass(slots=True)
class _Cluster:
    """The engines there are, and who is free."""

    ray: Any
    settings: Mapping[str, Any]
    selection: Selection
    note: Callable[[str], None]
    on_step: OnStep | None
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the rest."""
    about: About | None = None
    """What the first engine runs; all others must run the same."""
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _free: queue.Queue[_Worker] = field(default_factory=queue.Queue)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looked: float = float("-inf")

    def first(self) -> About:
        """Wait until an engine is ready.

        Raises:
            ModelError: none comes up.
        """
        self._free.put(self.take())
        assert self.about is not None
        return self.about

    @property
    def at_once(self) -> int:
        """Recordings that all nodes there are now take."""
        assert self.about is not None
        return self.about.at_once * max(1, len(self._workers))

    def take(self) -> _Worker:
        """Wait for a free engine.

        Raises:
            ModelError: there is none, and none to come.
            StoppedError: nobody wants the rest.
        """
        while not self.stopped.is_set():
            try:
                worker = self._free.get(timeout=0.0 if self.about is None else 0.2)
            except queue.Empty:
                self._look()
                continue
            if worker.lives:
                return worker
        raise StoppedError

    def lost(self, worker: _Worker) -> None:
        """Note that an engine is gone; another is started where the node lives."""
        with self._lock:
            if worker.lives:
                worker.lives = False
                self.note(f"lost the engine on {worker.place}; its recordings go on elsewhere")
                self._looked = float("-inf")

    def stop(self) -> None:
        """End all engines, and what they do."""
        self.stopped.set()
        with self._lock:
            for worker in self._workers.values():
                self.ray.kill(worker.actor)

    def transcribe(self, source: Source, cache: JournalCache | None) -> Transcript:
        """Have a recording transcribed, by another engine where one is lost; see pool.Pool.

        Raises:
            ModelError: no node is left, or several were lost over this recording.
        """
        exceptions = self.ray.exceptions
        for _ in range(ATTEMPTS):
            worker = self.take()
            try:
                return self._on(worker, str(source), cache)
            except exceptions.RayTaskError as error:  # the engine lives: it is this recording
                raise ModelError(
                    f"{source}: an engine failed on {worker.place} ({last_line(error)}); look at "
                    "that node's disk and memory"
                ) from error
            except exceptions.RayError:
                if self.stopped.is_set():
                    raise StoppedError from None
                self.lost(worker)
            finally:
                self._free.put(worker)  # one that is lost is passed over
        raise ModelError(
            f"{source}: {ATTEMPTS} engines were lost over it; try it alone, without Ray"
        )

    def _on(self, worker: _Worker, source: str, cache: JournalCache | None) -> Transcript:
        """Have a recording transcribed by one engine, noting what comes of it at once."""
        assert self.about is not None
        about, selection = self.about, self.selection
        builder = TranscriptBuilder(about.model, about.choice, selection, about.language)
        known = cache.all() if cache else []
        for item in self._items(worker, source, known):
            if self.stopped.is_set():
                raise StoppedError
            if isinstance(item, Failed):
                raise getattr(errors, item.kind)(item.detail)
            assert isinstance(item, Proceeds)
            if cache is not None:
                _keep(item.kept, cache)
            builder.take(item.step)
            if self.on_step:
                self.on_step(source, item.step.overall(item.duration), item.duration)
        return builder.transcript(source)

    def _items(self, worker: _Worker, source: str, known: list[CachedUtterance]) -> Iterator[Item]:
        ray, path = self.ray, Path(source)
        transcribe, absolute = worker.actor.transcribe, str(path.absolute())
        size = _read(path, lambda: path.stat().st_size)
        for reference in transcribe.remote(absolute, size, None, known):
            item: Item = ray.get(reference)
            if not isinstance(item, Absent):
                yield item
                continue
            sent = ray.put(_read(path, path.read_bytes))
            for other in transcribe.remote(absolute, size, sent, known):
                yield ray.get(other)

    def _look(self) -> None:
        """Take in nodes that joined, and engines that are ready."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_S:
                self._looked = time.monotonic()
                self._start_engines()
            waiting = {w.answer: w for w in self._workers.values() if w.lives and w.answer}
            if not waiting and not any(worker.lives for worker in self._workers.values()):
                raise ModelError("no node of the cluster runs the model; see what was told above")
            ready, _ = self.ray.wait(list(waiting), timeout=0.3) if waiting else ([], [])
            for answer in ready:
                self._ready(waiting[answer])

    def _start_engines(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for place, node, needs in _places(self.ray):
            worker = self._workers.get(place)
            starts = worker.starts + 1 if worker is not None else 1
            if worker is not None and (worker.lives or starts > RESTARTS):
                continue
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            settings = dict(self.settings)
            settings["threads"] = settings["threads"] or int(needs["num_cpus"])
            remote = self.ray.remote(Engine)
            actor = remote.options(scheduling_strategy=there, max_concurrency=16, **needs).remote(
                settings, self.selection
            )
            answer = actor.about.remote()
            self._workers[place] = _Worker(place, actor, answer, starts=starts)

    def _ready(self, worker: _Worker) -> None:
        """Take an engine into service, if it runs what the others do."""
        try:
            about: About = self.ray.get(worker.answer)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            self.note(f"{worker.place} runs no engine: {last_line(cause)}")
            worker.lives, worker.starts = False, RESTARTS
            return
        worker.answer = None
        if self.about is None:
            self.about = about
        if about.fingerprint != self.about.fingerprint:
            self.note(f"{worker.place} is passed over: its model or provider is another")
            self.ray.kill(worker.actor)
            worker.lives, worker.starts = False, RESTARTS
            return
        for _ in range(about.at_once):
            self._free.put(worker)


def _places(ray: Any) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield where engines may run: (name, node, what each takes): a GPU each, or a whole node."""
    for node in ray.nodes():
        has = node["Resources"]
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        if not node["Alive"] or not cpus:
            continue
        name = f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})"
        for number in range(gpus):
            yield f"{name} GPU {number}", node["NodeID"], {"num_cpus": cpus // gpus, "num_gpus": 1}
        if not gpus:
            yield name, node["NodeID"], {"num_cpus": cpus}


def _read(path: Path, what: Callable[[], Read]) -> Read:
    """Ask something of a recording.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        return what()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _keep(kept: tuple[CachedUtterance, ...], cache: JournalCache) -> None:
    """Put into the journal what was recognised far away."""
    for one in kept:
        silent = np.broadcast_to(np.float32(0), one.length)  # of its sound only the length counts
        cache.keep(Utterance(one.start, silent), one.segments, one.fallback)


@contextmanager
def ray_pool(
    address: str,
    loaded: LoadedSettings,
    on_step: OnStep | None,
    note: Callable[[str], None],
    selection: Selection = ALL_OF_IT,
) -> Iterator[Pool]:
    """Open a pool on a Ray cluster, and start an engine on each of its nodes.

    Args:
        address: of the cluster; '' for the one that runs here, or a new one of this machine alone.
        loaded: the settings; the model is looked for on each node.
        on_step: called as recordings proceed.
        note: takes lines of news.
        selection: what of each recording is heard.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
        ModelError: no node runs the model.
    """
    ray = connected(address)
    try:
        values = loaded.settings.model_dump()
        first = next(iter(loaded.places), None)  # before those of each node
        values["models_dir"] = None if first is None else str(first.folder)
        cluster = _Cluster(ray, values, selection, note, on_step)
        about = cluster.first()
        nodes = len({node["NodeID"] for node in ray.nodes() if node["Alive"]})
        note(
            f"Ray with {nodes} node{'s' * (nodes > 1)}: model {about.model}, precision "
            f"{about.choice.precision}, provider {about.choice.provider} ({about.choice.reason})"
        )
        count = 2 * cluster.at_once + 16  # some always wait, and look for nodes that join
        with ThreadPoolExecutor(count, "recording") as readers:
            try:
                yield Pool(count, readers, about.fingerprint, cluster.transcribe)
            finally:
                cluster.stop()
    finally:
        ray.shutdown()
