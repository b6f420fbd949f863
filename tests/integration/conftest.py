"""The database and the repository over a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
def repository(database: Database) -> ExecutionRepository:
    return ExecutionRepository(database)
