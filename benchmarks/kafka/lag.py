"""How far a relay is behind a steady load that keeps the machine busy and leaves enough for the relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.kafka.bare import counting
from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.pacing import paced
from execution.bench.command_process import command_process
from execution.bench.databases import fresh_database
from execution.bench.service_runs import service_with_worker
from execution.embedded import EmbeddedPostgres

PER_SECOND = 3_000
"""Executions: about a third of what two processors run when they do nothing else, so that the relay can keep up."""
EVENTS_EACH = 5
LOOK_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Lag:
    """Events that were due, by the pace of the load, and not in the topic; looked at all the time, and at the end."""

    behind: list[int]
    took: float
    """Seconds until the last execution had ended."""

    def to_json(self) -> dict[str, Any]:
        """The median, the most, and whether it grows: what there is at the end."""
        return {
            "behind_median": round(median(self.behind)),
            "behind_most": max(self.behind),
            "behind_at_the_end": self.behind[-1],
            "load_took_seconds": round(self.took, 2),
        }


async def measure_lag(server: EmbeddedPostgres, servers: str, seconds: float, per_second: float = PER_SECOND) -> Lag:
    """Service and worker in this process, the relay in one of its own."""
    topic = await new_topic(servers)
    kafka = {"kafka_bootstrap_servers": servers, "kafka_events_topic": topic}
    executions = int(seconds * per_second)
    async with (
        fresh_database(server.url) as url,
        command_process("relay", url, **kafka),
        counting(servers, topic) as published,
        service_with_worker(url) as service,
    ):
        began = time.perf_counter()

        async def behind() -> int:
            due = min(executions, int((time.perf_counter() - began) * per_second)) * EVENTS_EACH
            return max(0, due - await published())

        async with _sampled(behind) as samples:
            await paced(executions, per_second, lambda _: service.create_execution("noop"))
            took = time.perf_counter() - began
        return Lag(behind=[*samples, await behind()], took=took)


@asynccontextmanager
async def _sampled(look: Callable[[], Awaitable[int]]) -> AsyncIterator[list[int]]:
    samples: list[int] = []

    async def sample() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            samples.append(await look())

    sampling = asyncio.create_task(sample(), name="bench lag")
    try:
        yield samples
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
