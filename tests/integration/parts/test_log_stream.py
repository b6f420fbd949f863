"""`LogStream`: every follower gets every event it wants once, in order within each execution, wherever it goes on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from execution.domain.commands import Cancel, ReportProgress
from execution.domain.events import EventType
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.errors import InvalidPositionError, ServiceClosedError
from execution.lifecycle import kept_running
from execution.log_stream import KEPT_ITEMS, Follower, LogEntry, LogFilter, LogStream
from execution.repository.database import Database
from execution.repository.event_log import EventLog, LogBatch
from execution.repository.log_position import LogPosition, StreamPosition
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.waiting import eventually, no_leaked_tasks

NEVER = 3600.0
SOON = 10.0
MINE = LogFilter(tenant_id="default")
Key = tuple[UUID, int]


class SmallReads(EventLog):
    """Brings little at a time, and counts how often."""

    def __init__(self, db: Database, limit: int = 5) -> None:
        super().__init__(db)
        self._small = limit
        self.reads = 0

    async def read(self, after: LogPosition, upto: LogPosition | None = None, **options: Any) -> LogBatch:
        self.reads += 1
        return await super().read(after, upto, **{"limit": self._small} | options)


@asynccontextmanager
async def streaming(
    database: Database, event_log: EventLog | None = None, *, replay_limit: int = 100_000
) -> AsyncIterator[LogStream]:
    log = event_log or EventLog(database)
    stream = LogStream(log, database.wakeups, poll_interval=NEVER, replay_limit=replay_limit)
    async with kept_running("log stream", stream.run):
        yield stream


async def entered(manager: ExecutionStateManager, **changes: Any) -> Execution:
    """A new execution; the log has two entries of it, or one with `start=False`."""
    return await manager.create(submission(**changes))


def manager_of(database: Database, manager: ExecutionStateManager) -> ExecutionStateManager:
    return ExecutionStateManager(ExecutionRepository(database), manager.event_emitter)


async def taken(follower: Follower, count: int) -> list[LogEntry]:
    """So many entries, and no more than those."""
    entries: list[LogEntry] = []
    async with asyncio.timeout(SOON):
        while len(entries) < count:
            entries += await follower.take()
    assert len(entries) == count
    return entries


def keys(entries: Iterable[LogEntry]) -> list[Key]:
    return [(entry.item.execution_id, entry.item.version) for entry in entries]


def of(*executions: Execution) -> list[Key]:
    """All that is in the logs of executions that were just submitted."""
    return [(one.id, version) for one in executions for version in (1, 2)]


async def test_one_who_comes_gets_what_is_entered_from_then_on(
    database: Database, state_manager: ExecutionStateManager
) -> None:
    async with no_leaked_tasks(), streaming(database) as stream:
        await entered(state_manager)
        async with stream.following(MINE) as follower:
            later = await entered(state_manager)
            assert keys(await taken(follower, 2)) == of(later)
            assert await follower.take(0.01) == []


async def test_what_another_process_writes_is_given_without_a_poll(
    database: Database, database_url: str, state_manager: ExecutionStateManager
) -> None:
    async with (
        Database(database_url) as elsewhere,
        streaming(database) as stream,
        stream.following(MINE) as follower,
    ):
        later = await entered(manager_of(elsewhere, state_manager))
        assert keys(await taken(follower, 2)) == of(later)


async def test_an_entry_is_what_histories_show(database: Database, state_manager: ExecutionStateManager) -> None:
    async with streaming(database) as stream, stream.following(MINE) as follower:
        execution = await entered(state_manager)
        entries = await taken(follower, 2)
    assert [entry.item for entry in entries] == await state_manager.repository.get_history(execution.id)


async def test_from_every_position_another_process_goes_on_with_the_rest(
    database: Database, state_manager: ExecutionStateManager, database_url: str
) -> None:
    """Also from within what was read together."""
    async with streaming(database) as stream, stream.following(MINE) as follower:
        start = follower.position
        executions = await asyncio.gather(*(entered(state_manager) for _ in range(5)))
        entries = await taken(follower, 10)
        end = follower.position
    assert sorted(keys(entries)) == sorted(of(*executions))
    async with Database(database_url) as database_elsewhere, streaming(database_elsewhere) as elsewhere:
        for number, position in enumerate([start, *(entry.position for entry in entries)]):
            again = StreamPosition.decode(position.encode())
            async with elsewhere.following(MINE, again) as follower:
                rest = await taken(follower, 10 - number) if number < 10 else []
                assert keys(rest) == keys(entries[number:])
        async with elsewhere.following(MINE, end) as follower:
            later = await entered(state_manager)
            assert keys(await taken(follower, 2)) == of(later)


async def test_it_gives_only_what_is_wanted(database: Database, state_manager: ExecutionStateManager) -> None:
    async with streaming(database) as stream, stream.following(MINE) as everything:
        start = everything.position
        one = await entered(state_manager, agent_id="a", task_id="t", start=False)
        other = await entered(state_manager, kind="other", agent_id="b")
        theirs = await entered(state_manager, tenant_id="theirs", agent_id="a")
        entries = keys(await taken(everything, 3))
        expected = {
            LogFilter(tenant_id="default"): entries,
            LogFilter(tenant_id="default", kind="other"): of(other),
            LogFilter(tenant_id="default", agent_id="a"): [(one.id, 1)],
            LogFilter(tenant_id="default", task_id="t", agent_id="a"): [(one.id, 1)],
            LogFilter(tenant_id="default", state=ExecutionState.PENDING): [(other.id, 2)],
            LogFilter(tenant_id="default", type=EventType.STATE_CHANGED): entries,
            LogFilter(tenant_id="theirs"): of(theirs),
        }
        for wanted, given in expected.items():
            async with stream.following(wanted, start) as follower:
                assert keys(await taken(follower, len(given))) == given
        for nothing in ({"kind": "none"}, {"type": EventType.COMPLETED}, {"task_id": "t", "agent_id": "b"}):
            async with stream.following(LogFilter(tenant_id="default", **nothing), start) as follower:
                await eventually(partial(takes_nothing, follower, start), within=SOON, what="it has moved on")


async def takes_nothing(follower: Follower, start: StreamPosition) -> bool:
    """There is nothing for it, and it moves on all the same, so that nothing is read twice."""
    assert await follower.take(0.05) == []
    return follower.position != start


async def test_one_who_is_slow_misses_nothing_and_holds_up_nobody(
    database: Database, state_manager: ExecutionStateManager
) -> None:
    async with (
        streaming(database, SmallReads(database)) as stream,
        stream.following(MINE) as slow,
        stream.following(MINE) as quick,
    ):
        executions = []
        for _ in range(KEPT_ITEMS // 2 + 30):
            executions.append(await entered(state_manager))
            assert keys(await taken(quick, 2)) == of(executions[-1])
        assert keys(await taken(slow, 2 * len(executions))) == of(*executions)
        later = await entered(state_manager)
        assert keys(await taken(slow, 2)) == of(later), "it has found its place again"


class TestPositionsThatCannotBe:
    async def test_what_lies_ahead(self, database: Database) -> None:
        async with streaming(database) as stream:
            far = LogPosition(10**12, 10**12)
            for position in (StreamPosition(far), StreamPosition(LogPosition(10, 10), far, (UUID(int=1), 1))):
                with pytest.raises(InvalidPositionError):
                    async with stream.following(MINE, position):
                        pass

    async def test_a_read_that_ends_before_it_begins(self, database: Database) -> None:
        async with streaming(database) as stream:
            position = StreamPosition(LogPosition(20, 20), LogPosition(10, 10), (UUID(int=1), 1))
            with pytest.raises(InvalidPositionError):
                async with stream.following(MINE, position):
                    pass

    async def test_a_read_larger_than_any(
        self, database: Database, state_manager: ExecutionStateManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("execution.log_stream.LARGEST_READ", 3)
        async with streaming(database) as stream, stream.following(MINE) as follower:
            start = follower.position.seen
            for _ in range(5):
                await entered(state_manager)
            await taken(follower, 10)
            with pytest.raises(InvalidPositionError):
                async with stream.following(MINE, StreamPosition(start, follower.position.seen, (UUID(int=1), 1))):
                    pass


async def test_who_has_missed_more_than_is_read_again_begins_anew(
    database: Database, state_manager: ExecutionStateManager
) -> None:
    async with streaming(database, replay_limit=9) as stream, stream.following(MINE) as follower:
        start = follower.position
        for _ in range(4):
            await entered(state_manager)
        async with stream.following(MINE, start) as again:
            assert not again.has_expired
            assert len(await taken(again, 8)) == 8
        await entered(state_manager)
        async with stream.following(MINE, start) as late:
            assert late.has_expired
            later = await entered(state_manager)
            assert keys(await taken(late, 2)) == of(later)


async def test_however_many_follow_the_log_is_read_once_and_not_at_all_for_nobody(
    database: Database, state_manager: ExecutionStateManager
) -> None:
    log = SmallReads(database, limit=100)
    async with streaming(database, log) as stream:
        await entered(state_manager)
        assert log.reads == 0
        async with stream.following(MINE) as first:
            follow_on = [stream.following(MINE) for _ in range(50)]
            others = [await one.__aenter__() for one in follow_on]
            await entered(state_manager)
            await asyncio.gather(*(taken(one, 2) for one in (first, *others)))
            assert log.reads < 150, "the joins, and a few reads for all"
            before = log.reads
            for _ in range(10):
                await entered(state_manager)
            await asyncio.gather(*(taken(one, 20) for one in (first, *others)))
            assert log.reads - before < 25
            for one in follow_on:
                await one.__aexit__(None, None, None)


async def test_followers_go_on_when_the_connections_were_lost(
    database: Database, state_manager: ExecutionStateManager, database_url: str
) -> None:
    sql = await asyncpg.connect(database_url)
    async with streaming(database) as stream, stream.following(MINE) as follower:
        await entered(state_manager)
        await taken(follower, 2)
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND query LIKE '%current_snapshot%'"
        )
        later = await entered(state_manager)
        assert keys(await taken(follower, 2)) == of(later)
    await sql.close()


async def test_when_the_service_stops_followers_are_told(database: Database) -> None:
    async with no_leaked_tasks():
        async with AsyncExitStack() as stack:
            async with streaming(database) as stream:
                follower = await stack.enter_async_context(stream.following(MINE))
                waiting = asyncio.create_task(follower.take(SOON))
            with pytest.raises(ServiceClosedError):
                await waiting
        with pytest.raises(ServiceClosedError):
            async with stream.following(MINE):
                pass


async def test_breaking_off_anywhere_and_going_on_elsewhere_while_many_write(
    database: Database, database_url: str, state_manager: ExecutionStateManager, chance: Random
) -> None:
    """Two processes, small reads, ten who change between them all the time: each gets all there is, once, in order."""
    async with (
        Database(database_url) as elsewhere,
        streaming(database, SmallReads(database)) as one,
        streaming(elsewhere, SmallReads(elsewhere)) as other,
        one.following(MINE) as first,
    ):
        start = first.position
        managers = [state_manager, manager_of(elsewhere, state_manager)]
        writers = [asyncio.create_task(live(managers[number % 2])) for number in range(20)]
        restless = [asyncio.create_task(wander([one, other], start, chance, 20 * 22)) for _ in range(10)]
        await asyncio.gather(*writers)
        async with asyncio.timeout(30):
            seen = await asyncio.gather(*restless)
    for given in seen:
        logs: dict[UUID, list[int]] = defaultdict(list)
        for execution_id, version in given:
            logs[execution_id].append(version)
        assert len(logs) == 20
        assert all(versions == list(range(1, 23)) for versions in logs.values())


async def live(manager: ExecutionStateManager) -> None:
    """One execution with 22 entries in its log."""
    execution = await entered(manager)
    execution = await manager.change_state(execution.id, ExecutionState.RUNNING)
    for number in range(18):
        await manager.apply(execution.id, ReportProgress(percentage=number + 1))
    await manager.apply(execution.id, Cancel(grace=0.0))


async def wander(streams: list[LogStream], position: StreamPosition, chance: Random, count: int) -> list[Key]:
    """What is seen by one who breaks off again and again, and remembers the last entry it looked at."""
    seen: list[Key] = []
    while len(seen) < count:
        async with chance.choice(streams).following(MINE, StreamPosition.decode(position.encode())) as follower:
            for _ in range(chance.randint(1, 4)):
                entries = await follower.take(0.2)
                looked_at = entries[: chance.randint(0, len(entries))] if chance.random() < 0.3 else entries
                seen += keys(looked_at)
                if looked_at:
                    position = looked_at[-1].position
                if len(looked_at) < len(entries):
                    break
            else:
                position = follower.position
    return seen
