"""What a service may leave behind: tasks, connections, threads, files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import psutil
from sqlalchemy.pool import QueuePool

from execution.repository.database import Database
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually, no_leaked_tasks

_SETTLE_SECONDS = 15.0
_POOLED = "asyncio_"  # the event loop's own threads, which it keeps until it is closed


@dataclass(frozen=True)
class Holdings:
    """What this process holds, but for its tasks."""

    sessions: int
    """Connections to the database of the test."""
    threads: int
    files: int

    def is_within(self, bounds: Holdings) -> bool:
        return self.sessions <= bounds.sessions and self.threads <= bounds.threads and self.files <= bounds.files


async def fill_pool(database: Database) -> None:
    """Open every connection that the pools keep, so that what they hold can be compared. Hangs if one was lost."""
    administration = database.engine.pool
    assert isinstance(administration, QueuePool)
    async with AsyncExitStack() as stack, asyncio.timeout(_SETTLE_SECONDS):
        for pool in (database.pool, database.list_pool):
            for _ in range(pool.get_max_size()):
                await stack.enter_async_context(pool.acquire())
        for _ in range(administration.size()):
            await stack.enter_async_context(database.engine.connect())


def connections_in_use(database: Database) -> int:
    """How many connections of the pools are with somebody."""
    administration = database.engine.pool
    assert isinstance(administration, QueuePool)
    in_use = (pool.get_size() - pool.get_idle_size() for pool in (database.pool, database.list_pool))
    return sum(in_use) + administration.checkedout()


async def holdings(sql: AnyConnection) -> Holdings:
    """What there is now; the database is the one that `sql` leads to."""
    sessions = await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    threads = [one for one in threading.enumerate() if not one.name.startswith(_POOLED)]
    return Holdings(sessions, len(threads), psutil.Process().num_fds())


@asynccontextmanager
async def nothing_stays_open(sql: AnyConnection) -> AsyncIterator[None]:
    """What is opened inside is closed at the end. Sessions end on the server a moment after their connections."""
    before = await holdings(sql)

    async def is_closed() -> bool:
        return (await holdings(sql)).is_within(before)

    async with no_leaked_tasks():
        yield
    try:
        await eventually(is_closed, within=_SETTLE_SECONDS, what="everything is closed")
    except AssertionError:
        raise AssertionError(f"held before: {before}; still held: {await holdings(sql)}") from None
