"""Telling the network, by Zeroconf, that Wyoming is spoken here: Home Assistant looks for it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stt.errors import UsageError

KIND = "_wyoming._tcp.local."
_SOMEWHERE = ("224.0.0.251", 5353)
"""Where Zeroconf speaks (RFC 6762): nothing is sent to learn which address reaches it."""


@asynccontextmanager
async def announced(host: str, port: int) -> AsyncIterator[None]:
    """Tell it while the block runs, and take it back at the end.

    Raises:
        UsageError: the server listens on this machine alone, or Zeroconf cannot be used.
    """
    from zeroconf import Error, ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    address = address_of(host)
    name = f"stt on {socket.gethostname().split('.')[0]}.{KIND}"
    service = ServiceInfo(KIND, name, port, addresses=[address.packed])
    try:
        zeroconf = AsyncZeroconf(interfaces=[str(address)])
        await zeroconf.async_register_service(service, allow_name_change=True)
    except (OSError, Error) as error:
        raise UsageError(
            f"--announce: Zeroconf cannot be used here ({error}); leave it out, and give Home "
            "Assistant the address"
        ) from error
    try:
        yield
    finally:
        await (await zeroconf.async_unregister_service(service))  # until it has said goodbye
        await zeroconf.async_close()


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that others in the network find this machine by.

    Raises:
        UsageError: they do not: it listens on loopback, or there is no network.
    """
    try:
        address = ipaddress.ip_address(socket.gethostbyname(host))
        if address.is_unspecified:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(_SOMEWHERE)
                address = ipaddress.ip_address(probe.getsockname()[0])
    except OSError as error:
        raise UsageError(f"--announce: there is no network here ({error})") from error
    if address.is_loopback:
        raise UsageError(
            "--announce: it listens on this machine alone, where nobody else finds it; give --host "
            "0.0.0.0 too"
        )
    return address
