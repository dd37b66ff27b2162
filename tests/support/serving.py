"""A server in this process: on a port of loopback, in a thread, over the tests' model or a fake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx

from stt.engine.recognizer import Recognizer, Speech
from stt.serve.engine import Engine
from stt.serve.options import ServeOptions
from stt.serve.server import listen, serve
from stt.serve.service import Service
from stt.serve.trial import tried
from stt.transcriber import ModelTranscriber
from stt.types import Samples


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    service: Service
    stop: threading.Event
    """Set, it ends as at SIGTERM."""
    wyoming: int
    """Port of Wyoming."""

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def client(self, **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **more)


@contextmanager
def running(load: Callable[[], ModelTranscriber], **options) -> Iterator[Running]:
    """Serve on a free port until the block is left; `options` are those of ServeOptions."""
    told = ServeOptions(port=0, grace_s=1, **options)
    with listen(told.host, 0) as bound, listen(told.host, 0) as wyoming:
        service = Service(Engine(load, told.idle_unload_s, trial=tried), told)
        stop = threading.Event()
        asked = {"stop": stop, "wyoming": wyoming}
        thread = threading.Thread(
            target=serve, args=(service, bound, lambda line: None), kwargs=asked
        )
        thread.start()
        port = wyoming.getsockname()[1]
        try:
            yield Running(f"http://127.0.0.1:{bound.getsockname()[1]}", service, stop, port)
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


class Gated:
    """A recogniser of one utterance at a time, which waits to be let go before each, and counts."""

    streams = 1

    def __init__(self, inner: Recognizer) -> None:
        self._inner = inner
        self.gate, self.begun = threading.Event(), threading.Event()
        self.lengths: list[int] = []  # samples of each utterance, in the order they came

    @property
    def taken(self) -> int:
        return len(self.lengths)

    def recognize(self, batch: Sequence[Samples], speech: Sequence[Speech] = ()):
        self.lengths += map(len, batch)
        self.begun.set()
        assert self.gate.wait(30)
        return self._inner.recognize(batch, speech)

    def hasty(self, interrupted: Callable[[], bool]) -> Gated:
        return self

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


@contextmanager
def gated(transcriber: ModelTranscriber, **options) -> Iterator[tuple[Running, Gated]]:
    """Serve with a recogniser that stands still until its gate is opened; utterances of 5 s."""
    recognizer = Gated(transcriber.recognizer)
    recognizer.gate.set()
    cutting = replace(transcriber.cutting, max_utterance_s=5.0, batch_size=1)
    with running(
        lambda: replace(transcriber, recognizer=recognizer, cutting=cutting), **options
    ) as at:
        at.service.engine.load()
        recognizer.lengths.clear()
        recognizer.gate.clear()
        recognizer.begun.clear()
        try:
            yield at, recognizer
        finally:
            recognizer.gate.set()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that other threads bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
