"""What a running relay costs the executions: as many as this machine runs, with a relay beside them and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.extent import Extent
from execution.bench.command_process import command_process
from execution.bench.databases import on_fresh_database
from execution.bench.figures import Against
from execution.bench.service_runs import per_second, service_with_worker
from execution.embedded import EmbeddedPostgres


async def measure_effect(server: EmbeddedPostgres, servers: str, extent: Extent) -> Against:
    """Executions per second with a relay (`service`) and without one (`floor`), in turn."""

    async def run(url: str) -> float:
        async with service_with_worker(url) as service:
            await per_second(service, extent.executions // 20)
            return await per_second(service, extent.executions)

    async def run_beside_relay(url: str) -> float:
        async with _relay(url, servers):
            return await run(url)

    against = Against(service=[], floor=[])
    for _ in range(extent.rounds):
        against.floor.append(await on_fresh_database(server.url, run))
        against.service.append(await on_fresh_database(server.url, run_beside_relay))
    return against


@asynccontextmanager
async def _relay(url: str, servers: str) -> AsyncIterator[None]:
    topic = await new_topic(servers)
    async with command_process("relay", url, kafka_bootstrap_servers=servers, kafka_events_topic=topic):
        yield


def effect_json(against: Against) -> dict[str, Any]:
    """Medians, and the share that is lost."""
    beside, without = against.medians
    return {
        "beside_relay_per_second": round(beside, 1),
        "without_relay_per_second": round(without, 1),
        "lost": round(1 - beside / without, 3),
        "beside_relay_rounds": [round(one) for one in against.service],
        "without_relay_rounds": [round(one) for one in against.floor],
    }
