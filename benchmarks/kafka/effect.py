"""What a relay costs the executions: as many as this machine runs, with a relay beside them and without one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import asyncpg

from benchmarks.kafka.bare import published
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
"""Events per second that the relay may publish in the runs with a limit."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What executions used in each round, and what share of their events a relay has published at the end of it."""

    usages: list[Usage] = field(default_factory=list)
    published: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """The median."""
        return median(one.per_second for one in self.usages)

    def to_json(self) -> dict[str, Any]:
        """Medians; processor time in microseconds for each execution, the broker's among that of other programs."""
        return {
            "per_second": round(self.per_second, 1),
            "rounds": [round(one.per_second) for one in self.usages],
            "service_cpu_us": self._cpu(lambda one: one.service["service"]),
            "relay_cpu_us": self._cpu(lambda one: one.service.get("relay", 0.0)),
            "postgres_cpu_us": self._cpu(lambda one: one.postgres),
            "others_cpu_us": self._cpu(lambda one: one.others),
        }

    def _cpu(self, spent: Callable[[Usage], float]) -> float:
        return round(median(1_000_000 * spent(one) / one.executions for one in self.usages), 1)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Without a relay, beside one that publishes as fast as it can, and beside one with a limit."""

    without: Rounds = field(default_factory=Rounds)
    unlimited: Rounds = field(default_factory=Rounds)
    limited: Rounds = field(default_factory=Rounds)

    def to_json(self) -> dict[str, Any]:
        """Everything by name, and the share of executions that is lost beside a relay: the median of the pairs."""
        figures = {f"without_{name}": value for name, value in self.without.to_json().items()}
        for name, beside in (("unlimited", self.unlimited), (f"limit_{LIMIT}", self.limited)):
            figures |= {f"{name}_{key}": value for key, value in beside.to_json().items()}
            figures[f"{name}_lost"] = round(median(self._lost(beside)), 3)
            figures[f"{name}_published_meanwhile"] = round(median(beside.published), 3)
        return figures

    def _lost(self, beside: Rounds) -> list[float]:
        pairs = zip(self.without.usages, beside.usages, strict=True)
        return [1 - with_it.per_second / without.per_second for without, with_it in pairs]


async def measure_effect(server: EmbeddedPostgres, servers: str, extent: Extent) -> Effect:
    """All three in turn, so that a drift of the machine meets each."""
    effect = Effect()
    for _ in range(extent.rounds):
        async with fresh_database(server.url) as url:
            effect.without.usages.append(await _executed(server, url, extent))
        await _beside_relay(server, servers, extent, effect.unlimited)
        await _beside_relay(server, servers, extent, effect.limited, relay_events_per_second=LIMIT)
    return effect


async def _beside_relay(
    server: EmbeddedPostgres, servers: str, extent: Extent, beside: Rounds, **settings: Any
) -> None:
    topic = await new_topic(servers)
    settings |= {"kafka_bootstrap_servers": servers, "kafka_events_topic": topic}
    async with fresh_database(server.url) as url, command_process("relay", url, **settings) as relay:
        beside.usages.append(await _executed(server, url, extent, relay=relay))
        beside.published.append(await published(servers, topic) / (_all_executions(extent) * EVENTS_EACH))


async def _executed(server: EmbeddedPostgres, url: str, extent: Extent, **processes: int) -> Usage:
    assert server.pid is not None
    async with service_with_worker(url) as service, _connected(url) as connection:
        await per_second(service, _warm_up(extent))

        async def load() -> int:
            await per_second(service, extent.executions)
            return extent.executions

        meter = Meter(connection=connection, server=server.pid, service={"service": os.getpid(), **processes})
        return await meter.metered(load)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _warm_up(extent: Extent) -> int:
    return extent.executions // 20


def _all_executions(extent: Extent) -> int:
    return _warm_up(extent) + extent.executions
