"""What a relay costs the executions: as many as this machine runs, with a relay beside them and without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.kafka.bare import published
from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.extent import Extent
from execution.bench.command_process import command_process
from execution.bench.databases import fresh_database, on_fresh_database
from execution.bench.service_runs import per_second, service_with_worker
from execution.embedded import EmbeddedPostgres

EVENTS_EACH = 5


LIMIT = 10_000
"""Events per second that the relay may publish in the runs with a limit."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Executions per second beside a relay, and what share of their events it has published at their end."""

    per_second: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)

    def to_json(self, without: float) -> dict[str, Any]:
        """Medians, and the share of executions that is lost."""
        return {
            "per_second": round(median(self.per_second), 1),
            "lost": round(1 - median(self.per_second) / without, 3),
            "published_meanwhile": round(median(self.published), 3),
            "rounds": [round(one) for one in self.per_second],
        }


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Without a relay, beside one that publishes as fast as it can, and beside one with a limit."""

    without: list[float] = field(default_factory=list)
    unlimited: Beside = field(default_factory=Beside)
    limited: Beside = field(default_factory=Beside)

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        without = median(self.without)
        beside = {"unlimited": self.unlimited, f"limit_{LIMIT}": self.limited}
        return {
            "without_per_second": round(without, 1),
            "without_rounds": [round(one) for one in self.without],
            **{f"{name}_{key}": value for name, one in beside.items() for key, value in one.to_json(without).items()},
        }


async def measure_effect(server: EmbeddedPostgres, servers: str, extent: Extent) -> Effect:
    """All three in turn, so that a drift of the machine meets each."""
    effect = Effect()
    for _ in range(extent.rounds):
        effect.without.append(await on_fresh_database(server.url, lambda url: _executed_per_second(url, extent)))
        await _beside_relay(server, servers, extent, effect.unlimited)
        await _beside_relay(server, servers, extent, effect.limited, relay_events_per_second=LIMIT)
    return effect


async def _beside_relay(
    server: EmbeddedPostgres, servers: str, extent: Extent, beside: Beside, **settings: Any
) -> None:
    topic = await new_topic(servers)
    settings |= {"kafka_bootstrap_servers": servers, "kafka_events_topic": topic}
    async with fresh_database(server.url) as url, command_process("relay", url, **settings):
        beside.per_second.append(await _executed_per_second(url, extent))
        beside.published.append(await published(servers, topic) / (_all_executions(extent) * EVENTS_EACH))


async def _executed_per_second(url: str, extent: Extent) -> float:
    async with service_with_worker(url) as service:
        await per_second(service, _warm_up(extent))
        return await per_second(service, extent.executions)


def _warm_up(extent: Extent) -> int:
    return extent.executions // 20


def _all_executions(extent: Extent) -> int:
    return _warm_up(extent) + extent.executions
