"""`LogWatcher`: every watcher gets every entry once, however they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from execution.domain.commands import Finish, ReportProgress
from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.errors import ExecutionNotFoundError, ServiceClosedError
from execution.lifecycle import kept_running
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from execution.watcher import READ_AT_ONCE, LogWatcher, Watch, WatchLimits
from tests.support.stored import cut_append_lanes, submit
from tests.support.waiting import no_leaked_tasks

NEVER = 3600.0
SOON = 10.0


class HeldReads(ExecutionRepository):
    """Answers a watcher's read only when the test lets it: with what was there when it was asked."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.let_go = asyncio.Event()
        self.has_read = asyncio.Event()
        self.let_go.set()

    async def get_histories(self, after_versions: Mapping[UUID, int], limit_each: int = 100) -> list[HistoryItem]:
        items = await super().get_histories(after_versions, limit_each)
        self.has_read.set()
        await self.let_go.wait()
        return items


class CountedReads(ExecutionRepository):
    """Says how much each read has brought."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.brought: list[int] = []

    async def get_histories(self, after_versions: Mapping[UUID, int], limit_each: int = 100) -> list[HistoryItem]:
        items = await super().get_histories(after_versions, limit_each)
        self.brought.append(len(items))
        return items


class FaultyRead(ExecutionRepository):
    """Its first read fails in a way nobody foresaw."""

    faults = 0

    async def get_histories(self, after_versions: Mapping[UUID, int], limit_each: int = 100) -> list[HistoryItem]:
        if not self.faults:
            self.faults += 1
            raise RuntimeError("nobody foresaw this")
        return await super().get_histories(after_versions, limit_each)


@asynccontextmanager
async def watching(
    manager: ExecutionStateManager, repository: ExecutionRepository, limits: WatchLimits | None = None
) -> AsyncIterator[LogWatcher]:
    watcher = LogWatcher(repository, poll_interval=NEVER, limits=limits)
    manager.listen(watcher.noted)
    async with kept_running("watcher", watcher.run):
        yield watcher


async def versions(watcher: LogWatcher, execution_id: UUID, *, after: int = 0, until: int) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(SOON):
        with watcher.watching(execution_id, after) as watch:
            while not seen or seen[-1] != until:
                seen += versions_of(await watch.take())
    return seen


def versions_of(items: Iterable[HistoryItem]) -> list[int]:
    return [item.version for item in items]


async def running(manager: ExecutionStateManager) -> Execution:
    execution = await submit(manager.repository)
    return await manager.change_state(execution.id, ExecutionState.RUNNING)


async def progress(manager: ExecutionStateManager, execution: Execution, *, upto: int, since: int = 1) -> None:
    for percentage in range(since, upto + 1):
        await manager.apply(execution.id, ReportProgress(percentage=percentage))


async def test_the_past_and_then_the_present(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        seen = asyncio.create_task(versions(watcher, execution.id, until=8))
        await progress(state_manager, execution, upto=5)
        assert await seen == list(range(1, 9))


async def test_many_watchers_from_different_versions(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        await progress(state_manager, execution, upto=4)
        seen = [asyncio.create_task(versions(watcher, execution.id, after=after, until=9)) for after in range(8)]
        await progress(state_manager, execution, upto=6)
        assert await asyncio.gather(*seen) == [list(range(after + 1, 10)) for after in range(8)]


async def test_one_that_joins_while_another_ones_read_is_under_way_misses_nothing(
    state_manager: ExecutionStateManager, database: Database
) -> None:
    """The read brings what is new for those who asked for it; to a newcomer that is the end without its beginning."""
    repository = HeldReads(database)
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        early = asyncio.create_task(versions(watcher, execution.id, after=2, until=3))
        repository.let_go.clear()
        await repository.has_read.wait()
        late = asyncio.create_task(versions(watcher, execution.id, until=3))
        await asyncio.sleep(0)
        repository.let_go.set()
        assert await early == [3]
        assert await late == [1, 2, 3]


async def test_a_long_log_is_read_to_its_end(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    execution = await running(state_manager)
    reports = [ReportProgress(percentage=50, message=str(number)) for number in range(READ_AT_ONCE)]
    for report in reports:
        await state_manager.apply(execution.id, report)
    async with watching(state_manager, repository) as watcher:
        last = execution.version + len(reports)
        assert await versions(watcher, execution.id, until=last) == list(range(1, last + 1))


async def test_what_another_process_writes_is_seen_without_a_poll(
    database_url: str, state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    execution = await running(state_manager)
    async with watching(state_manager, repository) as watcher, Database(database_url) as elsewhere:
        seen = asyncio.create_task(versions(watcher, execution.id, after=3, until=4))
        other = ExecutionStateManager(ExecutionRepository(elsewhere), state_manager.event_emitter)
        await other.apply(execution.id, ReportProgress(percentage=1))
        assert await seen == [4]


async def test_watchers_go_on_when_connections_were_lost(
    database_url: str, state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    sql = await asyncpg.connect(database_url)
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        seen = asyncio.create_task(versions(watcher, execution.id, until=5))
        assert await cut_append_lanes(sql) > 0
        await progress(state_manager, execution, upto=2)
        assert await seen == [1, 2, 3, 4, 5]
    await sql.close()


async def test_when_the_service_stops_watchers_are_told(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    async with no_leaked_tasks():
        async with watching(state_manager, repository) as watcher:
            execution = await running(state_manager)
            seen = asyncio.create_task(versions(watcher, execution.id, until=99))
            assert await versions(watcher, execution.id, until=3) == [1, 2, 3]
        with pytest.raises(ServiceClosedError):
            await seen
        with pytest.raises(ServiceClosedError):
            await versions(watcher, execution.id, until=3)


async def test_a_fault_of_the_loop_costs_its_watchers_nothing(
    state_manager: ExecutionStateManager, database: Database
) -> None:
    repository = FaultyRead(database)
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        assert await versions(watcher, execution.id, until=3) == [1, 2, 3]
        assert repository.faults == 1


class TestASlowWatcher:
    """It takes nothing while others do: what is kept for it is bounded, and it misses nothing."""

    LIMITS = WatchLimits(items=3, size=100_000)

    async def test_it_gets_all_of_it_and_the_others_do_not_wait(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await running(state_manager)
        async with watching(state_manager, repository, self.LIMITS) as watcher:
            with watcher.watching(execution.id) as slow:
                await progress(state_manager, execution, upto=20)
                assert await versions(watcher, execution.id, until=23) == list(range(1, 24))
                taken = await take_all(slow, until=23)
        assert [item for items in taken for item in items] == list(range(1, 24))
        assert max(map(len, taken)) <= 3

    async def test_large_entries_fill_it_sooner(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await running(state_manager)
        async with watching(state_manager, repository, WatchLimits(items=100, size=10_000)) as watcher:
            for size in (1_000, 6_000, 50_000, 2_000, 1_000):
                await state_manager.apply(execution.id, ReportProgress(percentage=1, context={"text": "x" * size}))
            with watcher.watching(execution.id, 3) as slow:
                taken = await take_all(slow, until=8)
        assert taken == [[4, 5], [6], [7, 8]], "also what is too large for any buffer arrives, by itself"

    async def test_while_it_sleeps_nothing_is_read_for_it(
        self, state_manager: ExecutionStateManager, database: Database
    ) -> None:
        repository = CountedReads(database)
        execution = await running(state_manager)
        async with watching(state_manager, repository, self.LIMITS) as watcher:
            with watcher.watching(execution.id) as slow:
                await progress(state_manager, execution, upto=5)
                other = await running(state_manager)
                assert await versions(watcher, other.id, until=3) == [1, 2, 3]
                read = len(repository.brought)
                await progress(state_manager, execution, since=6, upto=10)
                assert await versions(watcher, other.id, until=3) == [1, 2, 3]
                assert repository.brought[read:] == [3], "what the other one asked for"
                assert await take_all(slow, until=13)


async def take_all(watch: Watch, *, until: int) -> list[list[int]]:
    """What it is given by the time it has that version, as often as it takes."""
    taken: list[list[int]] = []
    async with asyncio.timeout(SOON):
        while not taken or taken[-1][-1] != until:
            if items := await watch.take():
                taken.append(versions_of(items))
    return taken


async def test_a_long_log_does_not_hold_up_the_others(state_manager: ExecutionStateManager, database: Database) -> None:
    """What is read of one execution at a time is bounded, whoever else has asked meanwhile is served in between."""
    repository = CountedReads(database)
    long = await running(state_manager)
    for number in range(READ_AT_ONCE * 2):
        await state_manager.apply(long.id, ReportProgress(percentage=50, message=str(number)))
    last = 3 + READ_AT_ONCE * 2
    async with watching(state_manager, repository) as watcher:
        assert await versions(watcher, long.id, until=last) == list(range(1, last + 1))
    assert max(repository.brought) <= READ_AT_ONCE


async def test_a_watch_waits_no_longer_than_it_is_told(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    async with watching(state_manager, repository) as watcher:
        execution = await running(state_manager)
        with watcher.watching(execution.id, 3) as watch:
            assert await watch.take(0.01) == []
            await progress(state_manager, execution, upto=1)
            assert versions_of(await watch.take(SOON)) == [4]


async def test_a_watch_of_what_was_deleted_meanwhile_ends(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    execution = await running(state_manager)
    ended = await state_manager.apply(execution.id, Finish(outcome=Succeeded(result={}), by_holder=False))
    async with watching(state_manager, repository) as watcher:
        await repository.delete_execution(execution.id)
        with (
            watcher.watching(execution.id, 2, known_version=ended.version) as watch,
            pytest.raises(ExecutionNotFoundError),
        ):
            await watch.take(SOON)
