"""`ListeningConnection`: it hears, and what is heard is answered over it; whatever else, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from execution.domain.commands import Pause
from execution.errors import DatabaseError, OutcomeUnknownError
from execution.ids import new_id
from execution.repository.connections import Connector
from execution.repository.database import Database
from execution.repository.listening_connection import ListeningConnection
from execution.repository.reading import fetch_as_woken
from execution.repository.repository import ExecutionRepository
from tests.support.stored import AnyConnection, carry_out, submit, waiting_sessions
from tests.support.waiting import eventually

CHANNEL = "test_channel"
WITHIN = 5.0
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
NOBODY = new_id()


class Heard:
    """What was heard over a connection, and whether it was lost."""

    def __init__(self) -> None:
        self.payloads: asyncio.Queue[str] = asyncio.Queue()
        self.lost = asyncio.Event()

    def hear(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        self.payloads.put_nowait(payload)

    async def next(self) -> str:
        async with asyncio.timeout(WITHIN):
            return await self.payloads.get()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def listening(database_url: str, heard: Heard) -> AsyncIterator[ListeningConnection]:
    connector = Connector(database_url, connect_timeout=WITHIN, statement_timeout=WITHIN, application_name="listening")
    connection = ListeningConnection(connector)
    await connection.open(CHANNEL, heard.hear, heard.lost.set)
    yield connection
    await connection.close()


@asynccontextmanager
async def held_up(sql: AnyConnection) -> AsyncIterator[str]:
    """A question that gets no answer as long as this lasts."""
    await sql.execute("SELECT pg_advisory_lock(1)")
    try:
        yield "SELECT pg_advisory_xact_lock_shared(1)"
    finally:
        await sql.execute("SELECT pg_advisory_unlock(1)")


@asynccontextmanager
async def busy(listening: ListeningConnection, sql: AnyConnection) -> AsyncIterator[asyncio.Task[object]]:
    """A question is under way over it as long as this lasts, unless it is broken off."""
    async with held_up(sql) as question:
        asking: asyncio.Task[object] = asyncio.create_task(listening.fetch(question))
        await under_way(sql)
        yield asking
    await asyncio.wait([asking])


async def under_way(sql: AnyConnection) -> None:
    """Until somebody waits for the lock."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database())"
    )
    await eventually(lambda: sql.fetchval(waiting), within=WITHIN, what="it waits for the lock")


async def test_one_server_process_hears_says_and_answers(
    listening: ListeningConnection, heard: Heard, sql: AnyConnection
) -> None:
    pids: set[int] = set()
    await sql.add_listener(CHANNEL, lambda _connection, pid, *_: pids.add(pid))
    await listening.notify(CHANNEL, "said")
    assert await heard.next() == "said"
    await sql.execute("SELECT 1")
    assert pids == {await pid_of(listening)}


async def test_only_its_notifications_are_not_waited_for(listening: ListeningConnection) -> None:
    await listening.notify(CHANNEL, "said")
    ((setting,),) = await listening.fetch("SHOW synchronous_commit")
    assert setting == "on"  # a claim that is forgotten in a crash has let a handler begin twice


async def test_what_it_says_waits_for_what_is_asked(
    listening: ListeningConnection, heard: Heard, sql: AnyConnection
) -> None:
    async with busy(listening, sql):
        assert not listening.is_free
        saying = asyncio.create_task(listening.notify(CHANNEL, "said"))
        await asyncio.sleep(0)
        assert not saying.done()
    await saying
    assert await heard.next() == "said"
    assert listening.is_free


async def test_a_question_that_is_broken_off_leaves_it_usable(
    listening: ListeningConnection, heard: Heard, sql: AnyConnection
) -> None:
    pid = await pid_of(listening)
    async with busy(listening, sql) as asking:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(WITHIN):
            assert await pid_of(listening) == pid
            await listening.notify(CHANNEL, "said")
    assert await heard.next() == "said"


async def test_a_question_that_fails_leaves_it_usable(listening: ListeningConnection) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await listening.fetch("SELECT * FROM nothing_of_the_kind")
    assert listening.is_free
    assert await pid_of(listening)


async def test_once_cut_it_says_so_and_is_not_free(
    listening: ListeningConnection, heard: Heard, sql: AnyConnection
) -> None:
    await sql.execute(CUT)
    async with asyncio.timeout(WITHIN):
        await heard.lost.wait()
    assert not listening.is_open
    assert not listening.is_free
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await listening.notify(CHANNEL, "said")
    await listening.close()
    await listening.close()


async def test_answers_to_wake_ups_need_no_connection_of_the_pool(database_url: str) -> None:
    async with Database(database_url, pool_size=1) as database:
        await free(database)
        async with database.pool.acquire(), asyncio.timeout(WITHIN):
            assert await fetch_as_woken(database, "get_ended", [NOBODY]) == []


async def test_unless_another_one_is_under_way(database_url: str, sql: AnyConnection) -> None:
    async with Database(database_url) as database:
        await free(database)
        async with busy(database.wakeups.connection, sql), asyncio.timeout(WITHIN):
            assert await fetch_as_woken(database, "get_ended", [NOBODY]) == []


async def test_an_append_that_is_alone_goes_over_it(database_url: str, sql: AnyConnection) -> None:
    async with Database(database_url) as database:
        await free(database)
        pid = await pid_of(database.wakeups.connection)
        repository = ExecutionRepository(database)
        alone = await submit(repository)
        assert await last_statement(sql, pid) == "append"
        await carry_out(repository, alone, Pause())
        assert await last_statement(sql, pid) == "append"
        await pid_of(database.wakeups.connection)
        await asyncio.gather(*(submit(repository) for _ in range(3)))
        assert await last_statement(sql, pid) == "another"


async def test_nor_does_it_wait_for_what_is_under_way_there(database_url: str, sql: AnyConnection) -> None:
    async with Database(database_url) as database:
        await free(database)
        async with busy(database.wakeups.connection, sql), asyncio.timeout(WITHIN):
            assert (await submit(ExecutionRepository(database))).version > 0


async def test_appends_that_are_given_up_do_not_hang_there(database_url: str, sql: AnyConnection) -> None:
    async with Database(database_url) as database:
        await free(database)
        repository = ExecutionRepository(database)
        execution = await submit(repository)
        async with sql.transaction():
            await sql.execute("SELECT FROM executions FOR UPDATE")
            append = asyncio.create_task(carry_out(repository, execution, Pause()))
            await eventually(lambda: waiting_sessions(sql), within=WITHIN, what="the append waits for the row")
            database.lanes.abandon()
            async with asyncio.timeout(WITHIN):
                with pytest.raises(OutcomeUnknownError):
                    await append


@pytest.mark.parametrize("notify", [True, False])
async def test_with_nothing_to_listen_over_the_pool_answers(database_url: str, *, notify: bool) -> None:
    async with Database(database_url, notify=notify) as database:
        if notify:
            await free(database)
            database.wakeups.connection.cut()
        assert not database.wakeups.connection.is_free
        assert await fetch_as_woken(database, "get_ended", [NOBODY]) == []


async def test_errors_are_the_repository_s(database_url: str) -> None:
    async with Database(database_url) as database:
        await free(database)
        with pytest.raises(DatabaseError, match="get_ended"):
            await fetch_as_woken(database, "get_ended", ["not an id"])


async def free(database: Database) -> None:
    """Until it listens and has nothing to say."""
    connection = database.wakeups.connection
    await eventually(lambda: connection.is_free, within=WITHIN, what="it listens")


async def last_statement(sql: AnyConnection, pid: int) -> str:
    """Whether the last statement of a server process was an append."""
    is_append = "SELECT query LIKE 'WITH item AS%' FROM pg_stat_activity WHERE pid = $1"
    return "append" if await sql.fetchval(is_append, pid) else "another"


async def pid_of(listening: ListeningConnection) -> int:
    """Which server process answers."""
    ((pid,),) = await listening.fetch("SELECT pg_backend_pid()")
    return int(pid)
