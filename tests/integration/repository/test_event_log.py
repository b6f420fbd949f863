"""The log of all executions: whatever commits is read once, in order within each execution, however late it commits."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from execution.domain.commands import ChangeState, ReportProgress
from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.event_log import EventLog, LoggedEvent
from execution.repository.repository import ExecutionRepository
from tests.support import given
from tests.support.stored import AnyConnection, carry_out, store_log, submit

S = ExecutionState
INSERT_BY_HAND = """
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)
    SELECT execution_id, version + 100, type, occurred_at, tenant_id, data
    FROM execution_events WHERE execution_id = $1 AND version = 1
"""


@pytest.fixture
def event_log(database: Database) -> EventLog:
    return EventLog(database)


def keys(events: list[LoggedEvent]) -> list[tuple[UUID, int]]:
    return [(one.execution_id, one.event.version) for one in events]


async def test_each_event_is_read_once_with_what_a_message_needs(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    start = await event_log.head()
    log = given.completed(agent_id="writer", task_id="task-1", tenant_id="mine")
    execution = await store_log(repository, log)
    events, position = await event_log.read(start)
    assert [one.event for one in events] == [given.as_read(event) for event in log.events]
    (facts,) = {(one.execution_id, one.tenant_id, one.agent_id, one.task_id) for one in events}
    assert facts == (execution.id, "mine", "writer", "task-1")
    assert (await event_log.read(position))[0] == []


async def test_what_was_there_before_the_position_is_not_read(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    await submit(repository)
    assert (await event_log.read(await event_log.head()))[0] == []


async def test_what_commits_late_is_not_missed(
    event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    """Its transaction began, and its row was inserted, before events that were read already."""
    execution = await submit(repository)
    position = await event_log.head()
    async with sql.transaction():
        await sql.execute(INSERT_BY_HAND, execution.id)
        early = await submit(repository)
        events, position = await event_log.read(position)
        assert keys(events) == [(early.id, 1), (early.id, 2)]
        later = await submit(repository)
        events, position = await event_log.read(position)
        assert keys(events) == [(later.id, 1), (later.id, 2)]
    events, position = await event_log.read(position)
    assert keys(events) == [(execution.id, 101)]
    assert (await event_log.read(position))[0] == []


async def test_what_is_rolled_back_is_never_read(
    event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    execution = await submit(repository)
    position = await event_log.head()
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(INSERT_BY_HAND, execution.id)
    events, position = await event_log.read(position)
    assert events == []
    await transaction.rollback()
    assert (await event_log.read(position))[0] == []


async def test_the_events_of_a_deleted_execution_are_not_read(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    position = await event_log.head()
    execution = await store_log(repository, given.completed())
    assert await repository.delete_execution(execution.id)
    assert (await event_log.read(position))[0] == []


async def test_while_many_write_nothing_is_missed_repeated_or_out_of_order(
    event_log: EventLog, repository: ExecutionRepository, database_url: str
) -> None:
    position = start = await event_log.head()
    seen: list[tuple[UUID, int]] = []
    async with Database(database_url) as another:
        repositories = [repository, ExecutionRepository(another)]
        writers = [asyncio.create_task(live(repositories[number % 2])) for number in range(20)]
        finished = asyncio.gather(*writers)
        while not finished.done():
            events, position = await event_log.read(position)
            seen += keys(events)
        await finished
    events, _ = await event_log.read(position)
    seen += keys(events)
    everything, _ = await event_log.read(start)
    assert sorted(seen) == keys(everything)
    assert len(everything) == 20 * 33
    for execution_id in {execution_id for execution_id, _ in seen}:
        assert [version for one, version in seen if one == execution_id] == list(range(1, 34))


async def live(repository: ExecutionRepository) -> None:
    """One execution with thirty progress reports."""
    execution = await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING))
    for number in range(30):
        execution = await carry_out(repository, execution, ReportProgress(percentage=number, message=str(number)))
