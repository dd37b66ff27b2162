"""A server in this process: on a port of loopback, in a thread, over the tests' model or a fake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from stt.serve.engine import Engine
from stt.serve.options import ServeOptions
from stt.serve.server import listen, serve
from stt.serve.service import Service
from stt.serve.trial import tried
from stt.transcriber import ModelTranscriber


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    service: Service

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def client(self, **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **more)


@contextmanager
def running(load: Callable[[], ModelTranscriber], **options) -> Iterator[Running]:
    """Serve on a free port until the block is left; `options` are those of ServeOptions."""
    told = ServeOptions(port=0, grace_s=1, **options)
    with listen(told.host, 0) as bound:
        service = Service(Engine(load, told.idle_unload_s, trial=tried), told)
        stop = threading.Event()
        thread = threading.Thread(
            target=serve, args=(service, bound, lambda line: None), kwargs={"stop": stop}
        )
        thread.start()
        try:
            yield Running(f"http://127.0.0.1:{bound.getsockname()[1]}", service)
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
