"""Threads that recognise for all requests, and what waits for them, the most urgent first.

The piece of work is one utterance (a batch on a card): a long recording has no more than a few of
them here at a time, so that none waits longer than for what is under way.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any, ParamSpec, TypeVar

LONGEST_COMMAND_S = 30.0
"""Seconds of a recording that counts as one utterance."""
P = ParamSpec("P")
R = TypeVar("R")


class Priority(IntEnum):
    """What comes first; within one, whoever asked first."""

    LIVE = 0
    """Speech that is being spoken."""
    COMMAND = 1
    """A recording of one utterance."""
    FILE = 2
    """A longer one."""


@dataclass(order=True, slots=True)
class _Task:
    priority: Priority
    number: int
    since: float = field(compare=False)
    future: Future[Any] = field(compare=False)
    work: Callable[[], Any] = field(compare=False)

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who asks the future
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Scheduler:
    """See the module; a context manager, whose end waits for what is under way."""

    def __init__(self, threads: int) -> None:
        """`threads`: utterances recognised at a time, see `Recognizer.streams`."""
        self._waiting: list[_Task] = []
        self._changed = threading.Condition()
        self._numbers = count()
        self._closed = False
        self._running = 0
        self._moved = time.monotonic()  # when something was last finished, or begun from nothing
        self._threads = [
            threading.Thread(target=self._work, name=f"stt-recognizer-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def turn(self, priority: Priority) -> Turn:
        """Return what takes one request's work, of this priority."""
        return Turn(self, priority)

    def submit(self, priority: Priority, work: Callable[[], R]) -> Future[R]:
        """Have something done; cancelling the future takes it back while it waits.

        Raises:
            RuntimeError: the scheduler is closed.
        """
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the scheduler is closed")
            task = _Task(priority, next(self._numbers), time.monotonic(), future, work)
            if not self._running and not self._waiting:
                self._moved = task.since
            heapq.heappush(self._waiting, task)
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """How much waits to be begun."""
        with self._changed:
            return sum(not task.future.cancelled() for task in self._waiting)

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest of it has waited; 0 where nothing does."""
        with self._changed:
            since = [task.since for task in self._waiting if not task.future.cancelled()]
        return time.monotonic() - min(since) if since else 0.0

    @property
    def still_s(self) -> float:
        """Seconds for which nothing was finished, though there was something to do; else 0."""
        with self._changed:
            busy = self._running or any(not task.future.cancelled() for task in self._waiting)
            return time.monotonic() - self._moved if busy else 0.0

    def close(self) -> None:
        """Cancel what waits, and wait for what is under way."""
        with self._changed:
            self._closed = True
            for task in self._waiting:
                task.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while task := self._next():
            task.run()
            del task  # nor keep its audio while there is nothing to do
            with self._changed:
                self._running -= 1
                self._moved = time.monotonic()

    def _next(self) -> _Task | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            self._running += 1
            return heapq.heappop(self._waiting)


class Turn(Executor):
    """The scheduler, for one request."""

    def __init__(self, scheduler: Scheduler, priority: Priority) -> None:
        self._scheduler, self._priority = scheduler, priority
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._withdrawn = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have it called in one of the scheduler's threads.

        Raises:
            CancelledError: the request was withdrawn.
            RuntimeError: the scheduler is closed.
        """
        with self._lock:
            if self._withdrawn:
                raise CancelledError
            future = self._scheduler.submit(self._priority, lambda: fn(*args, **kwargs))
            self._futures.add(future)
        future.add_done_callback(self._forget)
        return future

    def demote(self, priority: Priority) -> None:
        """Let what comes from now on have another priority."""
        self._priority = priority

    def withdraw(self) -> None:
        """Take back what has not begun, and take no more: whoever waits has CancelledError."""
        with self._lock:
            self._withdrawn = True
            waiting = list(self._futures)
        for future in waiting:
            future.cancel()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)
