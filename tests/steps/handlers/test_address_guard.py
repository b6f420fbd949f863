"""Addresses inside are not reached, however they are written, and a name is resolved once."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from socket import gaierror

import pytest

from execution.steps.handlers.address_guard import AddressGuard, SystemResolver
from execution.steps.handlers.refusals import AddressNotAllowedError, RequestFailedError


def resolving_to(*addresses: str) -> AddressGuard:
    """A guard whose name server knows one host."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return AddressGuard([], resolve)


INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "192.0.1.1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_inside(address: str) -> None:
    guard = resolving_to(address)
    with pytest.raises(AddressNotAllowedError, match="EXECUTION_STEPS_HTTP_PRIVATE_NETWORKS") as refused:
        await guard.addresses("api.example.com", 443)
    assert address not in str(refused.value), "nobody is told what is inside"


@pytest.mark.parametrize("address", OUTSIDE)
async def test_outside(address: str) -> None:
    assert await resolving_to(address).addresses("api.example.com", 443) == [ip_address(address)]


async def test_one_address_inside_makes_the_name_suspicious() -> None:
    with pytest.raises(AddressNotAllowedError):
        await resolving_to("8.8.8.8", "127.0.0.1").addresses("api.example.com", 443)


async def test_a_network_that_was_allowed_on_purpose() -> None:
    async def resolve(host: str, _port: int) -> Sequence[str]:
        return [host]

    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/8")], resolve)
    for allowed in ("10.1.2.3", "fd00::7", "::ffff:10.1.2.3"):
        assert await guard.addresses(allowed, 80)
    for refused in ("10.2.0.1", "127.0.0.1", "fe80::1"):
        with pytest.raises(AddressNotAllowedError):
            await guard.addresses(refused, 80)


async def test_a_name_without_an_address() -> None:
    with pytest.raises(RequestFailedError, match="its name has no address"):
        await resolving_to().addresses("nowhere.example.com", 443)


async def test_a_name_that_does_not_exist() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        raise gaierror(-2, "Name or service not known")

    with pytest.raises(RequestFailedError, match="cannot be resolved: Name or service not known") as failed:
        await AddressGuard([], resolve).addresses("does.not.exist.example.com", 80)
    assert failed.value.retriable


@pytest.mark.parametrize("spelling", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "localhost"])
async def test_the_system_knows_many_spellings_of_one_address(spelling: str) -> None:
    with pytest.raises(AddressNotAllowedError):
        await AddressGuard([], SystemResolver()).addresses(spelling, 80)
