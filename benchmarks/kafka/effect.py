"""What a relay costs the executions: as many as this machine runs, with a relay beside them and without one.

Rounds are short and many, and each round without a relay is compared with those right before and after it: what else
this machine is asked for changes more from minute to minute than a relay costs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import asyncpg

from benchmarks.kafka.bare import counting
from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.extent import Extent
from benchmarks.metering import Meter
from benchmarks.usage import Usage
from execution.bench.command_process import command_process
from execution.bench.databases import fresh_database
from execution.bench.service_runs import per_second, service_with_worker
from execution.embedded import EmbeddedPostgres

EVENTS_EACH = 5
LIMIT = 10_000
"""Events per second that the relay may publish in the rounds with a limit."""
OUTSIDE = 0.2
"""Part of all processors' time that other programs (the kernel's own work and what the host takes away among them) may
take in a round; a pair with more in one of its rounds does not count."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Rounds without a relay, and those next to them beside one, in pairs."""

    without: list[Usage] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    """What share of its events the relay has published at the end of each round."""

    @property
    def calm(self) -> list[tuple[Usage, Usage]]:
        """The pairs that count; all of them where most would not."""
        pairs = list(zip(self.without, self.usages, strict=True))
        calm = [pair for pair in pairs if max(_outside(one) for one in pair) <= OUTSIDE]
        return calm if len(calm) > len(pairs) // 2 else pairs

    @property
    def lost(self) -> list[float]:
        """The share of executions that is lost beside a relay, in each pair that counts."""
        return [1 - beside.per_second / without.per_second for without, beside in self.calm]

    def to_json(self) -> dict[str, Any]:
        """The median of the pairs and the quartiles beside it; see `rounds_json`."""
        lost = self.lost
        return rounds_json(self.usages) | {
            "lost": round(median(lost), 3),
            "lost_quartiles": [round(one, 3) for one in _quartiles(lost)],
            "lost_in_pairs": [round(one, 3) for one in lost],
            "pairs_too_noisy_to_count": len(self.usages) - len(lost),
            "published_meanwhile": round(median(self.published), 3),
        }


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Beside a relay that publishes as fast as it can, and beside one with a limit."""

    unlimited: Beside = field(default_factory=Beside)
    limited: Beside = field(default_factory=Beside)

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        figures = {f"without_{name}": value for name, value in rounds_json(self.unlimited.without).items()}
        for kind, beside in (("unlimited", self.unlimited), (f"limit_{LIMIT}", self.limited)):
            figures |= {f"{kind}_{name}": value for name, value in beside.to_json().items()}
        return figures


def rounds_json(usages: Sequence[Usage]) -> dict[str, Any]:
    """Medians of some rounds; processor time in microseconds for each execution, by who spent it."""

    def spent(of: Callable[[Usage], float]) -> float:
        return round(median(1_000_000 * of(one) / one.executions for one in usages), 1)

    return {
        "per_second": round(median(one.per_second for one in usages), 1),
        "rounds": [round(one.per_second) for one in usages],
        **{f"{role}_cpu_us": spent(_spent_by(role)) for role in usages[0].service},
        "postgres_cpu_us": spent(lambda one: one.postgres),
        "others_cpu_us": spent(lambda one: one.others),
    }


def _spent_by(role: str) -> Callable[[Usage], float]:
    return lambda one: one.service[role]


async def measure_effect(server: EmbeddedPostgres, servers: str, extent: Extent, broker: int | None = None) -> Effect:
    """Pair after pair. The round without a relay is next to both others, of which each comes first every other time.

    Args:
        broker: its process id, if its processor time is to be told from that of other programs.
    """
    effect = Effect()
    rounds = _Rounds(server, servers, extent, {} if broker is None else {"broker": broker})
    for number in range(extent.pairs):
        in_turn = [effect.unlimited, effect.limited] if number % 2 else [effect.limited, effect.unlimited]
        for place, beside in enumerate(in_turn):
            if place == 1:
                without = await rounds.without()
                effect.unlimited.without.append(without)
                effect.limited.without.append(without)
            limit = {"relay_events_per_second": LIMIT} if beside is effect.limited else {}
            usage, published = await rounds.beside_relay(**limit)
            beside.usages.append(usage)
            beside.published.append(published)
    return effect


class _Rounds:
    """Runs single rounds, each on a database of its own."""

    def __init__(self, server: EmbeddedPostgres, servers: str, extent: Extent, metered: dict[str, int]) -> None:
        self._server = server
        self._servers = servers
        self._executions = extent.executions
        self._warm_up = extent.executions // 20
        self._metered = metered

    async def without(self) -> Usage:
        """What the executions used."""
        async with fresh_database(self._server.url) as url:
            return await self._executed(url)

    async def beside_relay(self, **settings: Any) -> tuple[Usage, float]:
        """The same beside a relay, and the share of their events that it has published when the last has ended."""
        topic = await new_topic(self._servers)
        settings |= {"kafka_bootstrap_servers": self._servers, "kafka_events_topic": topic}
        async with (
            fresh_database(self._server.url) as url,
            command_process("relay", url, **settings) as relay,
            counting(self._servers, topic) as published,
        ):
            usage = await self._executed(url, relay=relay)
            return usage, await published() / ((self._warm_up + self._executions) * EVENTS_EACH)

    async def _executed(self, url: str, **processes: int) -> Usage:
        assert self._server.pid is not None
        metered = {"service": os.getpid(), **self._metered, **processes}
        async with service_with_worker(url) as service, _connected(url) as connection:
            await per_second(service, self._warm_up)

            async def load() -> int:
                await per_second(service, self._executions)
                return self._executions

            return await Meter(connection=connection, server=self._server.pid, service=metered).metered(load)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _outside(one: Usage) -> float:
    return one.others / (one.seconds * one.processors)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third
