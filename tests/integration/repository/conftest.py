"""The repository over a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from execution.repository.database import Database
from execution.repository.workers import WorkerStore


@pytest.fixture
def store(database: Database) -> WorkerStore:
    return WorkerStore(database)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test itself, to look behind the service and to disturb it."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
