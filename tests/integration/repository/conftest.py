"""The repository over a database of the test's own."""

from __future__ import annotations

import pytest

from execution.repository.database import Database
from execution.repository.workers import WorkerStore


@pytest.fixture
def store(database: Database) -> WorkerStore:
    return WorkerStore(database)
