"""What a relay has still to publish cannot be deleted: no cursor ever loses an event to a deletion."""

from __future__ import annotations

import asyncpg
import pytest

from execution.domain.commands import Cancel, Retry
from execution.domain.execution import Execution
from execution.errors import EventsNotPublishedError
from execution.repository.database import Database
from execution.repository.event_log import EventLog
from execution.repository.log_position import LogPosition
from execution.repository.relay_cursors import Hold, RelayCursorStore
from execution.repository.repository import ExecutionRepository
from tests.support.stored import AnyConnection, assert_row_is_fold, carry_out, submit

LONG = 3_600.0


@pytest.fixture
def cursors(database: Database) -> RelayCursorStore:
    return RelayCursorStore(database)


@pytest.fixture
async def ended(repository: ExecutionRepository) -> Execution:
    return await carry_out(repository, await submit(repository), Cancel())


async def taken(cursors: RelayCursorStore, name: str = "events", seconds: float = LONG) -> Hold:
    hold = await cursors.take(name, "a relay", seconds)
    assert hold is not None
    return hold


async def refused(repository: ExecutionRepository, execution: Execution) -> EventsNotPublishedError:
    """It is, and everything of it is still there."""
    with pytest.raises(EventsNotPublishedError) as caught:
        await repository.delete_execution(execution.id, execution.version)
    assert await assert_row_is_fold(repository, execution.id) == execution
    return caught.value


async def test_until_the_cursor_has_passed_its_last_event(
    repository: ExecutionRepository, database: Database, cursors: RelayCursorStore, ended: Execution
) -> None:
    hold = await taken(cursors)
    error = await refused(repository, ended)
    assert (error.cursors, error.retriable, error.status) == (["events"], True, 409)
    assert await cursors.advance(hold, await EventLog(database).head(), LONG)
    assert await repository.delete_execution(ended.id, ended.version)
    assert await repository.get_history(ended.id) == []


async def test_every_cursor_counts_whether_or_not_a_relay_holds_it(
    repository: ExecutionRepository, database: Database, cursors: RelayCursorStore, ended: Execution
) -> None:
    head = await EventLog(database).head()
    assert await cursors.advance(await taken(cursors), head, LONG)
    stopped = await taken(cursors, "audit", 0.0)
    assert (await refused(repository, ended)).cursors == ["audit"]
    await cursors.release(stopped, head)
    assert await repository.delete_execution(ended.id, ended.version)


async def test_a_cursor_in_the_middle_of_its_log(
    repository: ExecutionRepository, database: Database, cursors: RelayCursorStore, ended: Execution
) -> None:
    """What came after a retry has not been published, though the first end has."""
    hold = await taken(cursors)
    assert await cursors.advance(hold, await EventLog(database).head(), LONG)
    again = await carry_out(repository, await carry_out(repository, ended, Retry()), Cancel())
    await refused(repository, again)


async def test_an_event_between_barrier_and_head(
    repository: ExecutionRepository, cursors: RelayCursorStore, ended: Execution, sql: AnyConnection
) -> None:
    """The cursor is beyond its transactions, and says of one of them that it was under way."""
    xid = await sql.fetchval("SELECT max(xid)::text::bigint FROM execution_events WHERE execution_id = $1", ended.id)
    hold = await taken(cursors)
    assert await cursors.advance(hold, LogPosition(xid, xid + 10, (xid,)), LONG)
    await refused(repository, ended)
    assert await cursors.advance(hold, LogPosition(xid + 1, xid + 10, (xid + 5,)), LONG)
    assert await repository.delete_execution(ended.id, ended.version)


async def test_a_cursor_that_moves_while_it_is_deleted_counts_where_it_was(
    repository: ExecutionRepository, database: Database, cursors: RelayCursorStore, ended: Execution, database_url: str
) -> None:
    """A move that is not committed may be taken back."""
    head = await EventLog(database).head()
    hold = await taken(cursors)
    connection: AnyConnection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE relay_cursors SET position = $1", str(head))
            await refused(repository, ended)
        assert (await taken_at(cursors, hold)) == head
        assert await repository.delete_execution(ended.id, ended.version)
    finally:
        await connection.close()


async def taken_at(cursors: RelayCursorStore, hold: Hold) -> LogPosition:
    facts = await cursors.read(hold.name)
    assert facts is not None
    return facts.position


async def test_what_has_not_ended_or_has_changed_is_none_of_the_relays_business(
    repository: ExecutionRepository, cursors: RelayCursorStore, ended: Execution
) -> None:
    await taken(cursors)
    waiting = await submit(repository)
    assert not await repository.delete_execution(waiting.id, waiting.version)
    assert not await repository.delete_execution(ended.id, ended.version - 1)
