"""How throughput grows: with worker processes, with what is in flight, with the size of the documents."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.loads import ECHO, handlers, in_flight, payload, submitted_and_drained
from benchmarks.metering import Meter
from benchmarks.usage import Usage
from execution.bench.command_process import command_process
from execution.bench.databases import fresh_database
from execution.bench.floor import connected
from execution.bench.service_runs import service_with_worker
from execution.domain.execution import JsonObject
from execution.embedded import EmbeddedPostgres
from execution.settings import Settings
from execution.wiring import open_service

Say = Callable[[str], None]

PAYLOADS_IN_FLIGHT = 64
SUBMITTERS = 200
WORKER_CONCURRENCY = 200
TOGETHER = "process of submitters and worker"
"""The role of the one process where clients, service and worker run together, as in the headline figures."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Which points are measured, and how long."""

    workers: tuple[int, ...]
    in_flight: tuple[int, ...]
    payload_bytes: tuple[int, ...]
    seconds: float
    executions: int


FULL = Extent(
    workers=(1, 2, 4),
    in_flight=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    payload_bytes=(100, 10 * 1024, 200 * 1024),
    seconds=5.0,
    executions=30_000,
)
QUICK = Extent(workers=(1, 2), in_flight=(1, 16), payload_bytes=(100, 200 * 1024), seconds=0.5, executions=1_000)


async def measure_growth(server: EmbeddedPostgres, extent: Extent, say: Say) -> dict[str, list[dict[str, Any]]]:
    """Of each series its points: `at` and what `Usage.to_json` says, all on databases of their own."""
    series: dict[str, list[dict[str, Any]]] = {"workers": [], "in_flight": [], "payload_bytes": []}
    for workers in extent.workers:
        say(f"growth: {workers} worker processes, submitters in their own")
        series["workers"].append(_point(workers, await _with_workers(server, workers, extent)))
    for clients in extent.in_flight:
        say(f"growth: {clients} in flight")
        series["in_flight"].append(_point(clients, await _in_one_process(server, clients, "noop", {}, extent)))
    for size in extent.payload_bytes:
        say(f"growth: documents of {size:,} bytes")
        usage = await _in_one_process(server, PAYLOADS_IN_FLIGHT, ECHO, payload(size), extent)
        series["payload_bytes"].append(_point(size, usage))
    return series


def _point(at: int, usage: Usage) -> dict[str, Any]:
    return {"at": at} | usage.to_json()


async def _in_one_process(
    server: EmbeddedPostgres, clients: int, kind: str, parameters: JsonObject, extent: Extent
) -> Usage:
    """Clients that wait for the end of one before they submit the next, beside the worker that runs them."""
    async with (
        fresh_database(server.url) as url,
        _meter(server, url, {TOGETHER: os.getpid()}) as meter,
        service_with_worker(url, concurrency=clients, registry=handlers()) as service,
    ):
        await in_flight(service, clients, extent.seconds / 10, kind, parameters)
        return await meter.metered(lambda: in_flight(service, clients, extent.seconds, kind, parameters))


async def _with_workers(server: EmbeddedPostgres, workers: int, extent: Extent) -> Usage:
    """Submitters in this process, workers in so many others."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database(server.url))
        roles = {"process of submitters": os.getpid()}
        for number in range(1, workers + 1):
            worker = command_process("worker", url, worker_concurrency=WORKER_CONCURRENCY)
            roles[f"process of worker {number}"] = await stack.enter_async_context(worker)
        meter = await stack.enter_async_context(_meter(server, url, roles))
        settings = Settings.load(database_url=url, log_level="WARNING")
        service = await stack.enter_async_context(open_service(settings))
        await submitted_and_drained(service, meter.connection, SUBMITTERS, extent.executions // 10)
        return await meter.metered(
            lambda: submitted_and_drained(service, meter.connection, SUBMITTERS, extent.executions)
        )


@asynccontextmanager
async def _meter(server: EmbeddedPostgres, url: str, roles: dict[str, int]) -> AsyncIterator[Meter]:
    assert server.pid is not None
    async with connected(url) as connection:
        yield Meter(connection=connection, server=server.pid, service=roles)
