"""`EndWatcher`: whoever waits learns of an end, wherever it happened, from one question for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import pytest

from execution.domain.commands import Cancel, Pause, Retry
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.end_watcher import EndWatcher
from execution.errors import ServiceClosedError
from execution.lifecycle import kept_running
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import Topic
from execution.state_manager import ExecutionStateManager
from tests.support.stored import carry_out, submit
from tests.support.waiting import eventually, no_leaked_tasks

NEVER = 3600.0
SOON = 10.0


class CountedQuestions(ExecutionRepository):
    """Counts how often, and about how many executions, it was asked."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.questions: list[int] = []

    async def get_ended(self, execution_ids: Sequence[UUID]) -> list[Execution]:
        self.questions.append(len(execution_ids))
        return await super().get_ended(execution_ids)


class AnswersHeldBack(CountedQuestions):
    """An answer that has been read arrives when it may."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.has_read = asyncio.Event()
        self.may_arrive = asyncio.Event()

    async def get_ended(self, execution_ids: Sequence[UUID]) -> list[Execution]:
        ended = await super().get_ended(execution_ids)
        if ended:
            self.has_read.set()
            await self.may_arrive.wait()
        return ended


@asynccontextmanager
async def watching(
    state_manager: ExecutionStateManager, counted: CountedQuestions, *, poll_interval: float = NEVER
) -> AsyncIterator[EndWatcher]:
    manager = ExecutionStateManager(counted, state_manager.event_emitter)
    watcher = EndWatcher(manager, poll_interval=poll_interval)
    async with no_leaked_tasks(), kept_running("end watcher", watcher.run):
        await asyncio.sleep(0)  # it has begun: its first question is for those who waited already
        yield watcher


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that listens: the beginning of that wakes whoever waits, and would be counted as a question."""
    database, listens = Database(database_url), asyncio.Event()
    database.wakeups.subscribe(Topic.ENDED, listens.set, from_others_only=True)
    async with database:
        async with asyncio.timeout(SOON):
            await listens.wait()
        yield database


@pytest.fixture
def counted(repository: ExecutionRepository) -> CountedQuestions:
    return CountedQuestions(repository.db)


async def told(end: asyncio.Future[Execution]) -> Execution:
    async with asyncio.timeout(SOON):
        return await end


async def test_what_this_process_ends_is_told_without_a_question(
    state_manager: ExecutionStateManager, counted: CountedQuestions
) -> None:
    execution = await submit(counted)
    async with watching(state_manager, counted) as watcher:
        with watcher.awaiting(execution.id) as first, watcher.awaiting(execution.id) as second:
            watcher.noted(await carry_out(counted, execution, Pause()))
            assert not first.done()
            ended = await carry_out(counted, await counted_read(counted, execution), Cancel())
            watcher.noted(ended)
            assert [await told(first), await told(second)] == [ended, ended]
    assert counted.questions == []


async def test_what_another_process_ends_is_asked_for_when_it_says_so(
    state_manager: ExecutionStateManager, counted: CountedQuestions, database_url: str
) -> None:
    executions = [await submit(counted) for _ in range(3)]
    async with Database(database_url) as other, watching(state_manager, counted) as watcher:
        elsewhere = ExecutionStateManager(ExecutionRepository(other), state_manager.event_emitter)
        await eventually(lambda: other.wakeups.has_peers, within=SOON, what="the other process knows of this one")
        with watcher.awaiting(executions[0].id) as end, watcher.awaiting(executions[1].id) as unended:
            await elsewhere.apply(executions[2].id, Pause())
            await elsewhere.apply(executions[0].id, Cancel())
            after = await told(end)
            assert (after.id, after.state) == (executions[0].id, ExecutionState.CANCELLED)
            assert not unended.done()
    assert set(counted.questions) <= {1, 2}
    assert len(counted.questions) <= 3, "a question for each execution that waited, or for each change"


async def test_a_lost_wake_up_costs_one_poll(state_manager: ExecutionStateManager, counted: CountedQuestions) -> None:
    execution = await submit(counted)
    async with watching(state_manager, counted, poll_interval=0.02) as watcher:
        with watcher.awaiting(execution.id) as end:
            await carry_out(counted, execution, Cancel())  # and nobody says so
            assert (await told(end)).state is ExecutionState.CANCELLED


async def test_an_answer_from_before_a_retry_is_none_to_who_waits_since(
    state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    held_back = AnswersHeldBack(repository.db)
    cancelled = await carry_out(held_back, await submit(held_back), Cancel())
    async with watching(state_manager, held_back, poll_interval=0.02) as watcher:
        with watcher.awaiting(cancelled.id) as first:
            async with asyncio.timeout(SOON):
                await held_back.has_read.wait()
            again = await carry_out(held_back, cancelled, Retry())
            with watcher.awaiting(cancelled.id) as second:
                held_back.may_arrive.set()
                assert await told(first) == cancelled
                ended = await carry_out(held_back, again, Cancel())
                assert await told(second) == ended


async def test_whoever_waits_when_it_stops_is_told(
    state_manager: ExecutionStateManager, counted: CountedQuestions
) -> None:
    execution = await submit(counted)
    async with watching(state_manager, counted) as watcher:
        block = watcher.awaiting(execution.id)
        end = block.__enter__()
    with pytest.raises(ServiceClosedError):
        await told(end)
    block.__exit__(None, None, None)
    with pytest.raises(ServiceClosedError), watcher.awaiting(execution.id):
        pass


async def counted_read(counted: CountedQuestions, execution: Execution) -> Execution:
    """The execution as it is now."""
    current = await counted.get_by_id(execution.id)
    assert current is not None
    return current


async def test_what_has_just_begun_here_need_not_be_looked_at(
    state_manager: ExecutionStateManager, counted: CountedQuestions
) -> None:
    async with watching(state_manager, counted) as watcher:
        execution = await submit(counted)
        assert not watcher.has_just_begun(execution.id, execution.tenant_id), "nobody has told it"
        watcher.noted(execution)
        assert watcher.has_just_begun(execution.id, execution.tenant_id)
        assert not watcher.has_just_begun(execution.id, "somebody else")
        watcher.noted(await carry_out(counted, execution, Cancel()))
        assert not watcher.has_just_begun(execution.id, execution.tenant_id)


async def test_once_something_has_ended_elsewhere_everything_is_looked_at(
    state_manager: ExecutionStateManager, counted: CountedQuestions, database_url: str
) -> None:
    async with Database(database_url) as other, watching(state_manager, counted) as watcher:
        elsewhere = ExecutionStateManager(ExecutionRepository(other), state_manager.event_emitter)
        await eventually(lambda: other.wakeups.has_peers, within=SOON, what="the other process knows of this one")
        execution = await submit(counted)
        watcher.noted(execution)
        await elsewhere.apply(execution.id, Cancel())
        await eventually(
            lambda: not watcher.has_just_begun(execution.id, execution.tenant_id), within=SOON, what="it is told"
        )


async def test_of_what_has_begun_the_latest_are_remembered(
    state_manager: ExecutionStateManager, counted: CountedQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execution.end_watcher.MOST_REMEMBERED", 2)
    async with watching(state_manager, counted) as watcher:
        executions = [await submit(counted) for _ in range(3)]
        for one in executions:
            watcher.noted(one)
        assert [watcher.has_just_begun(one.id, one.tenant_id) for one in executions] == [False, True, True]


async def test_it_asks_over_the_connection_that_listens(
    state_manager: ExecutionStateManager, counted: CountedQuestions
) -> None:
    execution = await submit(counted)
    listening, pool = counted.db.wakeups.connection, counted.db.pool
    await eventually(lambda: listening.is_free, within=SOON, what="the process listens")
    async with watching(state_manager, counted, poll_interval=0.02) as watcher, AsyncExitStack() as taken:
        for _ in range(pool.get_max_size()):
            await taken.enter_async_context(pool.acquire())
        with watcher.awaiting(execution.id):
            await eventually(lambda: len(counted.questions) >= 3, within=SOON, what="it is answered at each poll")
