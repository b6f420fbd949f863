"""What a service that has nothing to do asks PostgreSQL, counted by PostgreSQL in its own log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from execution.bench.databases import fresh_database
from execution.bench.service_runs import service_with_worker
from execution.embedded import EmbeddedPostgres
from execution.service import ExecutionService

WATCHERS = 100
SETTLE_SECONDS = 2.0
"""The worker looks more often at first; after this time it looks as seldom as it does for good, but for one or two."""
FAR_AWAY = timedelta(days=30)
_QUERY = re.compile(r" LOG:  (?:statement|execute [^:]+): ")


async def idle_queries_per_minute(server: EmbeddedPostgres, seconds: float) -> float:
    """Queries of a worker and 100 clients, each watching an execution that waits, together.

    Nobody else may use the server meanwhile: its log is read as a whole.
    """
    async with fresh_database(server.url) as url:
        await _log_statements(url)
        async with service_with_worker(url) as service, _watched(service):
            await asyncio.sleep(SETTLE_SECONDS)
            before = server.log.stat().st_size
            await asyncio.sleep(seconds)
            return _queries(server.log, before) * 60 / seconds


async def _log_statements(url: str) -> None:
    """From the next connection to this database on."""
    connection = await asyncpg.connect(url)
    try:
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
    finally:
        await connection.close()


@asynccontextmanager
async def _watched(service: ExecutionService) -> AsyncIterator[None]:
    run_at = service.repository.db.clock.now() + FAR_AWAY
    executions = [await service.create_execution("noop", run_at=run_at) for _ in range(WATCHERS)]
    watchers = [asyncio.create_task(_follow(service, one.id)) for one in executions]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def _follow(service: ExecutionService, execution_id: UUID) -> None:
    async for _ in service.watch(execution_id):
        pass


def _queries(log: Path, offset: int) -> int:
    with log.open(errors="replace") as file:
        file.seek(offset)
        return sum(1 for line in file if _QUERY.search(line))
