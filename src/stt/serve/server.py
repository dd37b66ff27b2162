"""The process: sockets, signals, and the way to an end that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from stt.errors import UsageError
from stt.serve.announce import announced
from stt.serve.app import application
from stt.serve.options import ServeOptions
from stt.serve.service import Service
from stt.serve.wyoming_server import WyomingServer

Tell = Callable[[str], None]
"""Called with a line for whoever runs the server."""
_BACKLOG = 128
_IDLE_LOOK_S = 5.0
"""Seconds between two looks whether the model is idle."""


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Bind a port, so that it is known to be ours before a model is loaded; `flag` chooses it.

    Raises:
        UsageError: it is taken, not allowed, or the address is not this machine's.
    """
    try:
        (family, kind, number, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind, number)
    except OSError as error:
        raise UsageError(f"host: {host} is no address of this machine: {error.strerror}") from error
    try:
        if socket.SO_REUSEADDR and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # not on Windows
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"{host} port {port}: {error.strerror}; is another server running? choose another "
            f"with {flag}"
        ) from error
    return bound


def address(options: ServeOptions, bound: socket.socket) -> str:
    """Return what a browser is told."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "https" if options.tls_cert else "http"
    return f"{scheme}://{host}:{bound.getsockname()[1]}"


def serve(
    service: Service,
    bound: socket.socket,
    tell: Tell,
    stop: threading.Event | None = None,
    *,
    greeting: str | None = None,
    wyoming: socket.socket | None = None,
) -> None:
    """Answer until SIGTERM, Ctrl-C or `stop`, then finish what is under way.

    Signals are heard in the main thread alone. With a `greeting` the model is loaded at once, while
    `/health` answers already, and the greeting told; without, when it is first needed. `wyoming`
    is the port on which that is spoken too.

    Raises:
        NotLoaded: it cannot be loaded at once.
    """
    server = _Server(service, tell, wyoming)
    try:
        asyncio.run(server.answer(bound, stop, greeting))
    finally:
        service.close()


async def _unload_when_idle(service: Service, tell: Tell) -> None:
    if service.options.idle_unload_s is None:
        return
    while True:
        await asyncio.sleep(min(_IDLE_LOOK_S, max(0.1, service.options.idle_unload_s / 4)))
        if await asyncio.to_thread(service.engine.unload_if_idle):
            tell("idle: the model's memory is given back; the next request loads it again")


class _Server(uvicorn.Server):
    """Signals are ours, and sockets are not closed in the middle of a word."""

    def __init__(self, service: Service, tell: Tell, wyoming: socket.socket | None) -> None:
        super().__init__(_config(service))
        self._service, self._tell, self._wyoming = service, tell, wyoming

    async def answer(
        self, bound: socket.socket, stop: threading.Event | None, greeting: str | None
    ) -> None:
        """See `serve`."""
        beside = [asyncio.create_task(_unload_when_idle(self._service, self._tell))]
        if stop is not None:
            beside.append(asyncio.create_task(self._end_when(stop)))
        loading = asyncio.create_task(self._load_at_once(greeting))
        try:
            with self._ending():
                async with self._announced():
                    await self.serve(sockets=[bound])
                if cut := self.server_state.tasks:  # they end within an utterance, and say so
                    await asyncio.wait(cut)
                await loading
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer on all ports."""
        await super().startup(sockets)
        if self._wyoming is not None:
            self.servers.append(await WyomingServer(self._service).start(self._wyoming))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody new, finish what is said in sockets, then end all else, within the grace."""
        for server in self.servers:
            server.close()
        began, grace_s = time.monotonic(), self._service.options.grace_s
        await self._service.sockets.finish(grace_s)
        left = grace_s - (time.monotonic() - began)
        self.config.timeout_graceful_shutdown = max(1, round(left))
        await super().shutdown(sockets)

    @asynccontextmanager
    async def _announced(self) -> AsyncIterator[None]:
        if self._wyoming is None or not self._service.options.announce:
            yield
            return
        host, port = self._service.options.host, self._wyoming.getsockname()[1]
        async with announced(host, port):
            yield

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def _load_at_once(self, greeting: str | None) -> None:
        if greeting is None:
            return
        try:
            await asyncio.to_thread(self._service.engine.load)
        except BaseException:
            self.should_exit = True
            raise
        self._tell(greeting)

    async def _end_when(self, stop: threading.Event) -> None:
        await asyncio.to_thread(stop.wait)
        self.should_exit = True

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End in order at the first signal; at the second cut what is under way."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        before = {
            number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._end))
            for number in numbers
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        if not self.should_exit:
            self.should_exit = True
            grace_s = self._service.options.grace_s
            self._tell(f"ending: what is under way has {grace_s:g} s; again to cut it")
            return
        self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()


def _config(service: Service) -> uvicorn.Config:
    options = service.options
    return uvicorn.Config(
        application(service),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(options.grace_s)),
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        ws="websockets-sansio",
    )
