"""The logs of plans that are about to run: of many that nobody has run in one query, of others each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import pytest

from execution.domain.decide import decide
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.steps.model import JobStep
from execution.steps.plan_beginnings import ENTRIES, PlanBeginnings
from tests.support.given import submission
from tests.support.stored import read, submit

PLAN = (JobStep(0, "noop"),)
MANY = 50


class CountingRepository(ExecutionRepository):
    """Notes of how many logs each query was that read several."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.together: list[int] = []

    async def get_histories(self, after_versions: Mapping[UUID, int], limit_each: int = 100) -> list[HistoryItem]:
        """Note it, and read."""
        self.together.append(len(after_versions))
        return await super().get_histories(after_versions, limit_each)


@pytest.fixture
async def repository(database_url: str) -> AsyncIterator[CountingRepository]:
    async with Database(database_url) as database:
        yield CountingRepository(database)


async def test_many_that_begin_at_once_share_their_queries(repository: CountingRepository) -> None:
    clients = [f"client {number}" for number in range(MANY)]
    now = repository.db.clock.now()
    executions = [await repository.append(None, decide(None, submission(), now, client)) for client in clients]
    beginnings = PlanBeginnings(repository)
    logs = await asyncio.gather(*(beginnings.read(one, PLAN) for one in executions))
    assert [one.submitted_by for one in logs] == clients
    assert sum(repository.together) == MANY
    assert len(repository.together) <= 3


async def test_one_that_was_begun_before_is_read_whole_and_by_itself(repository: CountingRepository) -> None:
    execution = await submit(repository)
    for state in (ExecutionState.PAUSED, ExecutionState.PENDING) * 2:
        assert (await repository.update_state(execution.id, state)) is not None
    execution = await read(repository, execution.id)
    assert execution.version > ENTRIES
    log = await PlanBeginnings(repository).read(execution, PLAN)
    assert (log.reason, repository.together) == ("resumed", [])
