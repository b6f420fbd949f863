"""The floor of latency: the chain of statements of one execution, by hand, one execution at a time.

In one process: create, claim, finish. Across two processes each also has to learn of the other one's commit, so the
shortest chain by hand is: create and notify here; claim, finish and notify there; read the ended row here. The NOTIFY
is a statement of its own after the commit, as in the service: inside the transaction it would serialise all commits.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from execution.bench.figures import Sampler
from execution.bench.floor import FloorRun, claim_batch, connected, create_batch, finish_batch
from execution.ids import new_id

TO_WORKER = "bench_submitted"
TO_SUBMITTER = "bench_ended"
ONE = FloorRun(executions=1)
SECONDS_TO_ANSWER = 30.0


@asynccontextmanager
async def in_one_process(url: str) -> AsyncIterator[Sampler]:
    """The chain over one connection."""
    async with connected(url) as connection:
        worker_id = new_id()

        async def one() -> None:
            await create_batch(connection, 1, ONE)
            await finish_batch(connection, await claim_batch(connection, worker_id), worker_id, ONE)

        yield lambda samples: timed(one, samples)


@asynccontextmanager
async def across_processes(url: str) -> AsyncIterator[Sampler]:
    """From the creation here to having read the row that the other process has ended."""
    async with connected(url) as connection:
        ended = await notified(connection, TO_SUBMITTER)

        async def one() -> None:
            (created,) = await create_batch(connection, 1, ONE)
            await connection.execute("SELECT pg_notify($1, '')", TO_WORKER)
            await _wait(ended)
            await connection.fetchrow("SELECT * FROM executions WHERE id = $1", created)

        async with _other_process(url):
            await _wait(ended)  # it says that it listens
            yield lambda samples: timed(one, samples)


async def timed(one: Callable[[], Awaitable[object]], samples: int) -> list[float]:
    """Milliseconds that each took, one after the other."""
    latencies = []
    for _ in range(samples):
        started = time.perf_counter()
        await one()
        latencies.append((time.perf_counter() - started) * 1000)
    return latencies


@asynccontextmanager
async def _other_process(url: str) -> AsyncIterator[None]:
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "execution.bench.floor_worker", url)
    try:
        yield
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


async def notified(connection: asyncpg.Connection, channel: str) -> asyncio.Event:
    """An event that is set at each notification."""
    event = asyncio.Event()
    await connection.add_listener(channel, lambda *_: event.set())
    return event


async def _wait(event: asyncio.Event) -> None:
    async with asyncio.timeout(SECONDS_TO_ANSWER):
        await event.wait()
    event.clear()
