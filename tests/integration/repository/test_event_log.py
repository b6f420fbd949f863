"""The log of all executions: whatever commits is read once, in order within each execution, however late it commits."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from uuid import UUID

import pytest

from execution.domain.commands import ChangeState, ReportProgress
from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.event_log import EventLog, LoggedEvent
from execution.repository.log_position import LogPosition
from execution.repository.repository import ExecutionRepository
from tests.support import given
from tests.support.stored import AnyConnection, carry_out, store_log, submit
from tests.support.waiting import eventually

S = ExecutionState
SOON = 10.0
INSERT_BY_HAND = """
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)
    SELECT execution_id, version + 100, type, occurred_at, tenant_id, data
    FROM execution_events WHERE execution_id = $1 AND version = 1
"""
INSERT_AS = """
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data, xid)
    SELECT execution_id, $2, type, occurred_at, tenant_id, data, $3::text::xid8
    FROM execution_events WHERE execution_id = $1 AND version = 1
"""


@pytest.fixture
def event_log(database: Database) -> EventLog:
    return EventLog(database)


async def read(event_log: EventLog, after: LogPosition, **options: Any) -> tuple[list[LoggedEvent], LogPosition]:
    batch = await event_log.read(after, **options)
    return batch.events, batch.position


async def ended_transactions(sql: AnyConnection) -> int:
    """The id after which those of ten more transactions have ended, also where other databases' are among them."""
    now: int = await sql.fetchval("SELECT pg_current_xact_id()::text::bigint")
    for _ in range(10):
        await sql.execute("SELECT pg_current_xact_id()")

    async def all_ended() -> bool:
        return bool(await sql.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1", now + 10))

    await eventually(all_ended, within=SOON, what="the transactions have ended")
    return now


async def read_all(event_log: EventLog, after: LogPosition, **options: Any) -> list[LoggedEvent]:
    """What there is now, in as many reads as it takes."""
    events: list[LoggedEvent] = []
    async with asyncio.timeout(SOON):
        while True:
            batch = await event_log.read(after, **options)
            events += batch.events
            if batch.is_last:
                return events
            assert batch.events, "it goes on, and got nowhere"
            after = batch.position


def keys(events: list[LoggedEvent]) -> list[tuple[UUID, int]]:
    return [(one.execution_id, one.event.version) for one in events]


async def test_each_event_is_read_once_with_what_a_message_needs(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    start = await event_log.head()
    log = given.completed(agent_id="writer", task_id="task-1", tenant_id="mine")
    execution = await store_log(repository, log)
    events, position = await read(event_log, start)
    assert [one.event for one in events] == [given.as_read(event) for event in log.events]
    (facts,) = {(one.execution_id, one.tenant_id, one.agent_id, one.task_id) for one in events}
    assert facts == (execution.id, "mine", "writer", "task-1")
    assert (await event_log.read(position)).events == []


async def test_what_was_there_before_the_position_is_not_read(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    await submit(repository)
    assert (await event_log.read(await event_log.head())).events == []


async def test_what_commits_late_is_not_missed(
    event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    """Its transaction began, and its row was inserted, before events that were read already."""
    execution = await submit(repository)
    position = await event_log.head()
    async with sql.transaction():
        await sql.execute(INSERT_BY_HAND, execution.id)
        early = await submit(repository)
        events, position = await read(event_log, position)
        assert keys(events) == [(early.id, 1), (early.id, 2)]
        later = await submit(repository)
        events, position = await read(event_log, position)
        assert keys(events) == [(later.id, 1), (later.id, 2)]
    events, position = await read(event_log, position)
    assert keys(events) == [(execution.id, 101)]
    assert (await event_log.read(position)).events == []


async def test_what_is_rolled_back_is_never_read(
    event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    execution = await submit(repository)
    position = await event_log.head()
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(INSERT_BY_HAND, execution.id)
    events, position = await read(event_log, position)
    assert events == []
    await transaction.rollback()
    assert (await event_log.read(position)).events == []


async def test_the_events_of_a_deleted_execution_are_not_read(
    event_log: EventLog, repository: ExecutionRepository
) -> None:
    position = await event_log.head()
    execution = await store_log(repository, given.completed())
    assert await repository.delete_execution(execution.id)
    assert (await event_log.read(position)).events == []


async def test_while_many_write_nothing_is_missed_repeated_or_out_of_order(
    event_log: EventLog, repository: ExecutionRepository, database_url: str, chance: Random
) -> None:
    position = start = await event_log.head()
    seen: list[tuple[UUID, int]] = []
    async with Database(database_url) as another:
        repositories = [repository, ExecutionRepository(another)]
        writers = [asyncio.create_task(live(repositories[number % 2])) for number in range(20)]
        finished = asyncio.gather(*writers)
        while not finished.done():
            events, position = await read(event_log, position, limit=chance.randint(1, 50))
            seen += keys(events)
        await finished
    seen += keys(await read_all(event_log, position, limit=10))
    everything, _ = await read(event_log, start, limit=10_000)
    assert sorted(seen) == keys(everything)
    assert len(everything) == 20 * 33
    for execution_id in {execution_id for execution_id, _ in seen}:
        assert [version for one, version in seen if one == execution_id] == list(range(1, 34))


async def live(repository: ExecutionRepository) -> None:
    """One execution with thirty progress reports."""
    execution = await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING))
    for number in range(30):
        execution = await carry_out(repository, execution, ReportProgress(percentage=number, message=str(number)))


class TestABoundedRead:
    """It ends where it has brought enough; the next one goes on there."""

    async def test_it_brings_no_more_than_it_may_and_a_transaction(
        self, event_log: EventLog, repository: ExecutionRepository
    ) -> None:
        position = await event_log.head()
        executions = [await submit(repository) for _ in range(10)]
        sizes = []
        seen: list[tuple[UUID, int]] = []
        while True:
            batch = await event_log.read(position, limit=3)
            sizes.append(len(batch.events))
            seen += keys(batch.events)
            position = batch.position
            if batch.is_last:
                break
        assert seen == [(one.id, version) for one in executions for version in (1, 2)]
        assert max(sizes) <= 4

    async def test_what_commits_late_behind_the_end_of_a_read_is_not_missed(
        self, event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        execution = await submit(repository)
        position = await event_log.head()
        first = await submit(repository)
        async with sql.transaction():
            await sql.execute(INSERT_BY_HAND, execution.id)
            others = [first, *[await submit(repository) for _ in range(5)]]
            events, position = await read(event_log, position, limit=6)
            assert len(events) < 12, "the read went to the head"
        seen = keys(events) + keys(await read_all(event_log, position, limit=2))
        assert sorted(seen) == sorted(
            [(execution.id, 101), *((one.id, version) for one in others for version in (1, 2))]
        )

    async def test_it_does_not_end_between_an_event_and_its_predecessor_of_a_later_transaction(
        self, event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        """A claim writes version 3 after another transaction, which began later, has written version 2."""
        position = await event_log.head()
        (one,) = [await submit(repository, start=False)]
        versions = {2: 5, 3: 1, 4: 3, 5: 7}  # version: in which order their transactions began
        now = await ended_transactions(sql)
        for version, order in versions.items():
            await sql.execute(INSERT_AS, one.id, version, str(now + order))
        for limit in range(1, 5):
            seen = keys(await read_all(event_log, position, limit=limit))
            assert seen == [(one.id, version) for version in range(1, 6)], limit

    async def test_nor_when_the_event_was_under_way_in_the_position(
        self, event_log: EventLog, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        """The claim had begun, and not committed, when the position was taken."""
        one, other = [await submit(repository, start=False) for _ in range(2)]
        now = await ended_transactions(sql)
        for execution, version, order in ((one, 3, 1), (other, 2, 3), (other, 3, 5), (one, 2, 7)):
            await sql.execute(INSERT_AS, execution.id, version, str(now + order))
        position = LogPosition(now + 1, now + 2, (now + 1,))
        for limit in (1, 2):
            seen = keys(await read_all(event_log, position, limit=limit))
            assert [version for execution_id, version in seen if execution_id == one.id] == [2, 3], limit

    async def test_a_read_up_to_a_position_ends_there(
        self, event_log: EventLog, repository: ExecutionRepository
    ) -> None:
        start = await event_log.head()
        first = await submit(repository)
        end = await event_log.head()
        await submit(repository)
        batch = await event_log.read(start, end)
        assert keys(batch.events) == [(first.id, 1), (first.id, 2)]
        assert (batch.position, batch.is_last) == (end, True)

    async def test_a_tenant_is_given_its_own(self, event_log: EventLog, repository: ExecutionRepository) -> None:
        start = await event_log.head()
        mine = await submit(repository, tenant_id="mine")
        await submit(repository, tenant_id="theirs")
        events, _ = await read(event_log, start, tenant_id="mine")
        assert keys(events) == [(mine.id, 1), (mine.id, 2)]

    async def test_how_much_there_is(self, event_log: EventLog, repository: ExecutionRepository) -> None:
        start = await event_log.head()
        for _ in range(3):
            await submit(repository)
        head = await event_log.head()
        assert await event_log.has_more_than(5, start, head)
        assert not await event_log.has_more_than(6, start, head)
        assert not await event_log.has_more_than(0, head, head)
