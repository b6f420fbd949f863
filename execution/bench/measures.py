"""The whole measurement: the service and the floor in turn, on one fresh embedded cluster with fsync on."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

import asyncpg

from execution.bench import floor, service_runs
from execution.bench.worker_memory import worker_rss_mib
from execution.embedded import EmbeddedPostgres
from execution.repository.schema import migrate

Result = TypeVar("Result")

PROGRESS_REPORTS = 3
WARM_UP = 2_000


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured."""

    executions: int
    idle_samples: int
    rounds: int


FULL = Extent(executions=40_000, idle_samples=1_000, rounds=3)
QUICK = Extent(executions=4_000, idle_samples=100, rounds=1)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came out: medians over the rounds; latencies over all samples."""

    noop_per_second: float
    noop_floor_per_second: float
    progress_per_second: float
    progress_floor_per_second: float
    idle_p50_ms: float
    idle_floor_p50_ms: float
    idle_p99_ms: float
    idle_floor_p99_ms: float
    worker_rss_mib: float

    def to_json(self) -> dict[str, Any]:
        """The figures as one JSON object, with the ratios they are for."""
        rounded = {name: round(value, 3) for name, value in asdict(self).items()}
        return rounded | {
            "noop_ratio": round(self.noop_per_second / self.noop_floor_per_second, 3),
            "progress_ratio": round(self.progress_per_second / self.progress_floor_per_second, 3),
            "idle_p50_ratio": round(self.idle_p50_ms / self.idle_floor_p50_ms, 3),
        }


async def measure(extent: Extent, say: Callable[[str], None]) -> Figures:
    """Measure everything; `say` is told what is under way."""
    with tempfile.TemporaryDirectory(prefix="execution-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            noop, noop_floor = await _throughput(server.url, extent, 0, say)
            progress, progress_floor = await _throughput(server.url, extent, PROGRESS_REPORTS, say)
            idle, idle_floor = await _latencies(server.url, extent, say)
            say("memory of a worker with 10,000 waiting and 200 running")
            async with _fresh_database(server.url) as url:
                memory = await worker_rss_mib(url)
    return Figures(
        noop_per_second=noop,
        noop_floor_per_second=noop_floor,
        progress_per_second=progress,
        progress_floor_per_second=progress_floor,
        idle_p50_ms=median(idle),
        idle_floor_p50_ms=median(idle_floor),
        idle_p99_ms=quantiles(idle, n=100)[-1],
        idle_floor_p99_ms=quantiles(idle_floor, n=100)[-1],
        worker_rss_mib=memory,
    )


async def _throughput(server_url: str, extent: Extent, reports: int, say: Callable[[str], None]) -> tuple[float, float]:
    """Medians of service and floor, measured in turn, so that a drift of the machine meets both."""
    served, floors = [], []

    async def serve(url: str) -> float:
        async with service_runs.service_with_worker(url) as service:
            await service_runs.per_second(service, WARM_UP, reports)
            return await service_runs.per_second(service, extent.executions, reports)

    async def floor_run(url: str) -> float:
        await floor.per_second(url, floor.FloorRun(executions=WARM_UP, progress_reports=reports))
        return await floor.per_second(url, floor.FloorRun(executions=extent.executions, progress_reports=reports))

    for number in range(1, extent.rounds + 1):
        say(f"throughput with {reports} progress events each, round {number} of {extent.rounds}")
        served.append(await _on_fresh_database(server_url, serve))
        floors.append(await _on_fresh_database(server_url, floor_run))
    return median(served), median(floors)


async def _latencies(server_url: str, extent: Extent, say: Callable[[str], None]) -> tuple[list[float], list[float]]:
    say("latency of one at a time")

    async def serve(url: str) -> list[float]:
        async with service_runs.service_with_worker(url) as service:
            await service_runs.idle_latencies(service, extent.idle_samples // 10)
            return await service_runs.idle_latencies(service, extent.idle_samples)

    async def floor_run(url: str) -> list[float]:
        await floor.idle_latencies(url, extent.idle_samples // 10)
        return await floor.idle_latencies(url, extent.idle_samples)

    return await _on_fresh_database(server_url, serve), await _on_fresh_database(server_url, floor_run)


async def _on_fresh_database(server_url: str, measure_it: Callable[[str], Awaitable[Result]]) -> Result:
    async with _fresh_database(server_url) as url:
        return await measure_it(url)


@asynccontextmanager
async def _fresh_database(server_url: str) -> AsyncIterator[str]:
    """An empty, migrated database beside the server's own, so that no run finds another one's rows and dead rows."""
    url = server_url.replace("/execution?", "/bench?")
    administration = await asyncpg.connect(server_url)
    try:
        await administration.execute("CREATE DATABASE bench")
        await migrate(url)
        await administration.execute("CHECKPOINT")
        yield url
    finally:
        await administration.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        await administration.close()
