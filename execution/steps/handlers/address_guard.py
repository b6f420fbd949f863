"""Which addresses requests of steps may go to: public ones, and those of networks that were allowed on purpose.

A name is resolved once, its addresses are checked, and the connection goes to one of those very addresses: a name
server that answers differently the second time (DNS rebinding) is not asked a second time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from execution.steps.handlers.refusals import AddressNotAllowedError, RequestFailedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, for a port; raises `OSError` if it has none."""

_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ip_network("2000::/3")
_NOT_ANYBODY = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # looks public, and is Azure's own metadata and agent service
        "192.0.0.0/24",  # from here on: IANA's special purpose registries, where releases of Python differ
        "2001::/23",
        "2002::/16",
        "3fff::/20",
    )
)
_RESOLVING_AT_ONCE = 4


class SystemResolver:
    """Asks the system, which blocks, in threads of its own: a loop that ends must not wait for a silent name server."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVING_AT_ONCE, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """As `Resolver`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(found))


class AddressGuard:
    """Resolves hosts and lets through what may be connected to."""

    def __init__(self, private_networks: Iterable[Network], resolve: Resolver) -> None:
        self._private_networks = tuple(private_networks)
        self._resolve = resolve

    async def addresses(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, at least one, all of them allowed: one that is not makes the name suspicious.

        Raises:
            AddressNotAllowedError: one of them is not.
            RequestFailedError: it has none.
        """
        try:
            found = [ip_address(text) for text in await self._resolve(host, port)]
        except OSError as error:
            raise RequestFailedError(host, f"its name cannot be resolved: {error.strerror or error}") from error
        if not found:
            raise RequestFailedError(host, "its name has no address")
        for address in found:
            if not self.allows(address):
                raise AddressNotAllowedError(host)
        return found

    def allows(self, address: Address) -> bool:
        """May be connected to?"""
        meant = _meant(address)
        return is_public(meant) or any(meant in network for network in self._private_networks)


def is_public(address: Address) -> bool:
    """Is it one that anybody in the internet could connect to?"""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    is_somebody = address.is_global and not address.is_multicast and not address.is_reserved
    return is_somebody and not any(address in network for network in _NOT_ANYBODY)


def _meant(address: Address) -> Address:
    """The IPv4 address where an IPv6 address is but another way to write it, or to get there."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _look_up(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]
