"""Cursors: one holder at a time, and nobody moves one at an epoch that has passed."""

from __future__ import annotations

import pytest

from execution.repository.database import Database
from execution.repository.event_log import EventLog
from execution.repository.log_position import LogPosition
from execution.repository.relay_cursors import BEGINNING, Hold, RelayCursorStore
from execution.repository.repository import ExecutionRepository
from tests.support.stored import AnyConnection, submit

LONG = 3_600.0


@pytest.fixture
def cursors(database: Database) -> RelayCursorStore:
    return RelayCursorStore(database)


async def taken(cursors: RelayCursorStore, owner: str, seconds: float = LONG) -> Hold:
    hold = await cursors.take("events", owner, seconds)
    assert hold is not None
    return hold


async def test_a_new_cursor_begins_at_the_beginning_or_now(cursors: RelayCursorStore, database: Database) -> None:
    assert (await taken(cursors, "one")).position == BEGINNING
    head = await EventLog(database).head()
    now = await cursors.take("others", "one", LONG, None)
    assert now is not None
    assert now.position.xmax >= head.xmax


async def test_one_holds_it_and_the_others_do_not(cursors: RelayCursorStore) -> None:
    hold = await taken(cursors, "one")
    assert await cursors.take("events", "other", LONG) is None
    await cursors.release(hold, LogPosition(5, 5))
    after = await taken(cursors, "other")
    assert (after.epoch, after.position) == (hold.epoch + 1, LogPosition(5, 5))


async def test_a_lease_that_has_run_out_is_anybodys_and_until_then_its_holders(cursors: RelayCursorStore) -> None:
    hold = await taken(cursors, "one", 0.0)
    assert await cursors.advance(hold, LogPosition(7, 7), 0.0), "nobody else has taken it"
    after = await taken(cursors, "other")
    assert after.position == LogPosition(7, 7)


async def test_who_has_lost_it_moves_nothing(cursors: RelayCursorStore) -> None:
    lost = await taken(cursors, "one", 0.0)
    held = await taken(cursors, "other")
    assert not await cursors.advance(lost, LogPosition(9, 9), LONG)
    await cursors.release(lost, LogPosition(9, 9))
    facts = await cursors.read("events")
    assert facts is not None
    assert (facts.position, facts.owner, facts.epoch, facts.is_held) == (BEGINNING, "other", held.epoch, True)


async def test_the_lag_counts_what_is_not_in_the_position(
    cursors: RelayCursorStore, database: Database, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    event_log = EventLog(database)
    async with sql.transaction():
        await sql.execute("SELECT pg_current_xact_id()")
        await database.pool.execute("SELECT pg_current_xact_id()")  # what begins later has ended: it is in between
        before = await event_log.head()
        await submit(repository)
        await sql.execute(
            "INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)"
            " SELECT execution_id, 9, type, occurred_at - interval '1 minute', tenant_id, data"
            " FROM execution_events WHERE version = 1"
        )
    lag = await cursors.lag(before, 100)
    assert (lag.events, lag.seconds > 59) == (3, True)
    assert (await cursors.lag(before, 1)).events == 2, "what was under way, and one more"
    assert (await cursors.lag(await event_log.head(), 100)).events == 0


async def test_the_barrier_is_held_by_who_has_written_and_not_committed(
    cursors: RelayCursorStore, sql: AnyConnection
) -> None:
    async with sql.transaction():
        await sql.execute("SELECT pg_current_xact_id()")
        barrier = await cursors.barrier()
        assert barrier is not None
        assert barrier.seconds >= 0
        pid = await sql.fetchval("SELECT pg_backend_pid()")
        mine = await sql.fetchval("SELECT current_database()")
        assert barrier.database != mine or barrier.holder == str(pid)  # tests beside this one write, too
