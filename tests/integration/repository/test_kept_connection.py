"""`KeptConnection`: a connection of the pool for one loop, unless the rest of the process would go short of them."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from execution.errors import DatabaseUnavailableError
from execution.repository.database import Database
from execution.repository.kept_connection import LEAST_POOL, KeptConnection
from execution.repository.reading import fetch
from tests.support.stored import AnyConnection

NOBODY = UUID(int=0)
WITHIN = 10.0
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.mark.parametrize("size", [1, LEAST_POOL - 1, LEAST_POOL])
async def test_whoever_else_asks_never_waits_for_it(database_url: str, size: int) -> None:
    async with Database(database_url, pool_size=size, notify=False) as database:
        keepers = [KeptConnection(database) for _ in range(2)]  # a worker's claims, and questions for ends
        for kept in keepers:
            assert await kept.fetch("get_execution", NOBODY) == []
        async with asyncio.timeout(WITHIN):
            assert await fetch(database, "get_execution", NOBODY) == []
        for kept in keepers:
            await kept.release()
        assert database.pool.get_idle_size() == database.pool.get_size()


async def test_a_kept_one_is_not_idle_until_it_is_given_back(database_url: str) -> None:
    async with Database(database_url, notify=False) as database:
        kept = KeptConnection(database)
        await kept.fetch("get_execution", NOBODY)
        assert database.pool.get_idle_size() == database.pool.get_size() - 1
        await kept.release()
        await kept.release()
        assert database.pool.get_idle_size() == database.pool.get_size()


async def test_after_a_cut_the_next_statement_takes_another(database_url: str, sql: AnyConnection) -> None:
    async with Database(database_url, notify=False) as database:
        kept = KeptConnection(database)
        await kept.fetch("get_execution", NOBODY)
        await sql.execute(CUT)
        with pytest.raises(DatabaseUnavailableError):
            await kept.fetch("get_execution", NOBODY)
        assert await kept.fetch("get_execution", NOBODY) == []
        await kept.release()
