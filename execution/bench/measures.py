"""The whole measurement: the service and the floor in turn, on one fresh embedded cluster with fsync on."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from execution.bench import floor, floor_latency, service_runs
from execution.bench.databases import fresh_database, on_fresh_database
from execution.bench.figures import Against, Extent, Figures, Sampler
from execution.bench.idle_queries import idle_queries_per_minute
from execution.bench.worker_memory import worker_rss_mib
from execution.embedded import EmbeddedPostgres

Say = Callable[[str], None]
Side = Callable[[str], AbstractAsyncContextManager[Sampler]]

PROGRESS_REPORTS = 3
PIECE = 50
"""So many executions are sampled of one side before it is the other one's turn."""


@asynccontextmanager
async def own_server(**overrides: str) -> AsyncIterator[EmbeddedPostgres]:
    """A server for the measurement alone: the embedded one as it is configured for everybody, in a new folder."""
    with tempfile.TemporaryDirectory(prefix="execution-bench-") as folder:
        # Besides, it tells how much of the time goes into writing and syncing the log.
        async with EmbeddedPostgres(Path(folder), overrides={"track_wal_io_timing": "on"} | overrides) as server:
            yield server


async def measure(server: EmbeddedPostgres, extent: Extent, say: Say) -> Figures:
    """Measure everything; `say` is told what is under way."""
    noop = await _throughput(server.url, extent, 0, say)
    progress = await _throughput(server.url, extent, PROGRESS_REPORTS, say)
    say("latency of one at a time")
    idle = await _latency(server.url, extent, service_runs.in_one_process, floor_latency.in_one_process)
    say("latency of one at a time, submitted in one process and run in another")
    across = await _latency(server.url, extent, service_runs.across_processes, floor_latency.across_processes)
    say(f"memory of a worker with {extent.queued:,} waiting and 200 running")
    memory = await on_fresh_database(server.url, lambda url: worker_rss_mib(url, extent.queued))
    say(f"queries of a worker and 100 watchers that have nothing to do, for {extent.idle_seconds:.0f} s")
    queries = await idle_queries_per_minute(server, extent.idle_seconds)
    return Figures(
        noop=noop,
        progress=progress,
        idle=idle,
        across=across,
        worker_rss_mib=memory,
        idle_queries_per_minute=queries,
    )


async def _throughput(server_url: str, extent: Extent, reports: int, say: Say) -> Against:
    """Service and floor measured in turn, so that a drift of the machine meets both."""
    against = Against(service=[], floor=[])
    warm_up = extent.executions // 20

    async def serve(url: str) -> float:
        async with service_runs.service_with_worker(url) as service:
            await service_runs.per_second(service, warm_up, reports)
            return await service_runs.per_second(service, extent.executions, reports)

    async def floor_run(url: str) -> float:
        await floor.per_second(url, floor.FloorRun(executions=warm_up, progress_reports=reports))
        return await floor.per_second(url, floor.FloorRun(executions=extent.executions, progress_reports=reports))

    for number in range(1, extent.rounds + 1):
        say(f"throughput with {reports} progress events each, round {number} of {extent.rounds}")
        against.service.append(await on_fresh_database(server_url, serve))
        against.floor.append(await on_fresh_database(server_url, floor_run))
    return against


async def _latency(server_url: str, extent: Extent, service: Side, by_hand: Side) -> Against:
    """Both sides, each open in a database of its own, in turn and in small pieces: on a machine that others share, its
    speed can change within a second. A first tenth warms up and does not count.
    """
    against = Against(service=[], floor=[])
    async with (
        fresh_database(server_url, "bench_service") as services,
        fresh_database(server_url, "bench_by_hand") as floors,
        service(services) as served,
        by_hand(floors) as done_by_hand,
    ):
        for sampled in (served, done_by_hand):
            await sampled(extent.idle_samples // 10)
        for _ in range(0, extent.idle_samples, PIECE):
            against.service.extend(await served(PIECE))
            against.floor.extend(await done_by_hand(PIECE))
    return against
