from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from stt.errors import UsageError
from stt.serve.announce import KIND, address_of, announced


def test_on_loopback_nobody_would_find_it() -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0"):
        address_of("127.0.0.1")


def test_everywhere_is_the_address_that_reaches_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Probe(socket.socket):
        def connect(self, _: object) -> None:
            pass

        def getsockname(self) -> tuple[str, int]:
            return "192.0.2.7", 5

    monkeypatch.setattr(socket, "socket", Probe)
    assert str(address_of("0.0.0.0")) == "192.0.2.7"


def test_it_is_found_while_it_runs_and_not_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over loopback, where Zeroconf may speak if it is told so."""
    import ipaddress

    from zeroconf import ServiceBrowser, Zeroconf

    loopback = ipaddress.ip_address("127.0.0.1")
    monkeypatch.setattr("stt.serve.announce.address_of", lambda _: loopback)
    found, gone = threading.Event(), threading.Event()
    seen: list[int | None] = []

    class Listener:
        def add_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
            if name.startswith("stt on "):
                info = zeroconf.get_service_info(kind, name)
                seen.append(info.port if info else None)
                found.set()

        def update_service(self, *_: object) -> None:
            pass

        def remove_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
            gone.set()

    async def run() -> None:
        async with announced("127.0.0.1", 10_300):
            if not await asyncio.to_thread(found.wait, 10):
                pytest.skip("multicast does not work on loopback here")
        assert await asyncio.to_thread(gone.wait, 10)

    with Zeroconf(interfaces=["127.0.0.1"]) as zeroconf:
        browser = ServiceBrowser(zeroconf, KIND, Listener())
        asyncio.run(run())
        browser.cancel()
    assert seen == [10_300]
