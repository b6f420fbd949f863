"""How many requests a caller may send: a token bucket for each, in this process, looked at before a body is read.

| who | how much | set by |
|---|---|---|
| an API key (without keys: everybody together) | requests | `EXECUTION_RATE_LIMIT_PER_SECOND`, `EXECUTION_RATE_LIMIT_BURST` |
| a client address | keys that had to be looked up and are not accepted | 20 at once, 1 per second |

The second one keeps those who make up keys from making the database look for them. A key that was accepted before is let
in whatever else comes from its address, and what is known to be wrong costs nothing and is not counted.
"""  # noqa: E501 - the rows of the table

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network

from execution.access_errors import RateLimitedError, UnauthenticatedError
from execution.principal import Principal
from execution.settings import Settings

WRONG_KEYS_PER_SECOND = 1.0
WRONG_KEYS_AT_ONCE = 20
MAX_BUCKETS = 10_000
_NETWORK_BITS = 64
"""Of an IPv6 address: who has one has its whole network."""


class TokenBuckets:
    """A token bucket for each of at most `limit` callers; of more, the one that was refilled longest ago is forgotten.

    Of a bucket only the time is kept at which it will be full again.
    """

    def __init__(
        self,
        *,
        per_second: float,
        burst: float,
        limit: int = MAX_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / per_second
        self._patience = (burst - 1) * self._interval
        self._limit = limit
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}

    def take(self, caller: Hashable) -> float:
        """Take a token; 0.0 if there was one, otherwise the seconds until there will be."""
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now)
        wait = full_at - now - self._patience
        if wait > 0:
            return wait
        self._full_at.pop(caller, None)  # so that it becomes the youngest
        self._full_at[caller] = full_at + self._interval
        while len(self._full_at) > self._limit:
            del self._full_at[next(iter(self._full_at))]
        return 0.0

    def give_back(self, caller: Hashable) -> None:
        """Put a token back that was not needed."""
        if caller in self._full_at:
            self._full_at[caller] -= self._interval

    def __len__(self) -> int:
        return len(self._full_at)


class RateLimits:
    """Both limits of one process, and how often they refused."""

    def __init__(self, settings: Settings) -> None:
        rate, burst = settings.rate_limit_per_second, settings.rate_limit_burst
        self._requests = TokenBuckets(per_second=rate, burst=burst or max(rate, 1.0)) if rate else None
        self._wrong_keys = TokenBuckets(per_second=WRONG_KEYS_PER_SECOND, burst=WRONG_KEYS_AT_ONCE)
        self.refused = 0

    def check(self, principal: Principal) -> None:
        """Count a request of this caller.

        Raises:
            RateLimitedError: it has sent too many.
        """
        if self._requests is not None:
            caller = principal.tenant_id, principal.key_id or principal.name
            self._refuse_if(self._requests.take(caller), "requests with this API key")

    @contextmanager
    def trying_a_key(self, address: str | None) -> Iterator[None]:
        """A look for a key of a client, which is counted if there is none.

        Raises:
            RateLimitedError: it has sent too many wrong ones.
        """
        client = network_of(address)
        self._refuse_if(self._wrong_keys.take(client), "wrong API keys from this address")
        try:
            yield
        except UnauthenticatedError:
            raise
        except BaseException:
            self._wrong_keys.give_back(client)
            raise
        self._wrong_keys.give_back(client)

    def _refuse_if(self, wait: float, what: str) -> None:
        if wait > 0:
            self.refused += 1
            raise RateLimitedError(what, wait)


def network_of(address: str | None) -> str:
    """What stands for a client: its IPv4 address, its IPv6 network, or whatever else is known of it."""
    try:
        ip = ip_address(address or "")
    except ValueError:
        return address or ""
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((ip, _NETWORK_BITS), strict=False))
