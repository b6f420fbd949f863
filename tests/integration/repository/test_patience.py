"""`Patience`: a connection whose server does not answer is cut, and one whose statements are merely many is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from execution.repository.connections import DRIVER_ERRORS, is_connection_lost
from execution.repository.patience import patient_connection

SECONDS = 0.4
WITHIN = 10.0


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, connection_class=patient_connection(SECONDS))
    yield connection
    connection.terminate()


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_who_is_not_answered_has_lost_the_connection(connection: asyncpg.Connection, method: str) -> None:
    run: Any = getattr(connection, method)
    await run("SELECT 1")
    began = time.monotonic()
    async with asyncio.timeout(WITHIN):
        with pytest.raises(DRIVER_ERRORS) as lost:
            await run("SELECT pg_sleep($1)", 2 * WITHIN)
    assert time.monotonic() - began >= SECONDS
    assert is_connection_lost(lost.value)
    assert connection.is_closed()


async def test_each_statement_has_the_time_for_itself(connection: asyncpg.Connection) -> None:
    began = time.monotonic()
    while time.monotonic() < began + 3 * SECONDS:
        await connection.fetchval("SELECT pg_sleep($1)", SECONDS / 10)
    assert await connection.fetchval("SELECT 1") == 1


async def test_between_statements_it_may_rest(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT 1")
    await asyncio.sleep(2 * SECONDS)
    assert await connection.fetchval("SELECT 1") == 1


async def test_a_statement_that_begins_late_in_the_time_of_another_is_cut_in_its_own(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("SELECT 1")
    await asyncio.sleep(SECONDS / 2)
    began = time.monotonic()
    with pytest.raises(DRIVER_ERRORS):
        await connection.execute("SELECT pg_sleep($1)", 2 * WITHIN)
    assert SECONDS <= time.monotonic() - began < WITHIN


async def test_within_a_transaction_and_over_a_pool(database_url: str) -> None:
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=1, connection_class=patient_connection(SECONDS)) as pool,
        asyncio.timeout(WITHIN),
    ):
        with pytest.raises(DRIVER_ERRORS):
            async with pool.acquire() as taken, taken.transaction():
                await taken.execute("SELECT pg_sleep($1)", 2 * WITHIN)
        assert await pool.fetchval("SELECT 1") == 1, "the pool has put another one in its place"
