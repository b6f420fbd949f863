"""`Rescuer`: dead workers' executions and deadlines nobody kept, each settled once however many look."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from execution.domain.commands import Cancel, Pause
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.rescuer import MIN_PAUSE_SECONDS, Rescuer
from execution.state_manager import ExecutionStateManager
from tests.support.stored import AnyConnection, assert_row_is_fold, read, submit
from tests.support.waiting import eventually

S = ExecutionState
POLL = 60.0


@pytest.fixture
def store(database: Database) -> WorkerStore:
    return WorkerStore(database)


@pytest.fixture
def rescuer(database: Database, store: WorkerStore, state_manager: ExecutionStateManager) -> Rescuer:
    return Rescuer(store, state_manager, database.wakeups, poll_interval=POLL)


async def claimed_by_a_worker(
    repository: ExecutionRepository, store: WorkerStore, *, idempotent: bool, count: int = 1
) -> tuple[UUID, list[Execution]]:
    worker_id = new_id()
    await store.register(worker_id, ["noop"], concurrency=10, timeout_seconds=5)
    for _ in range(count):
        await submit(repository)
    return worker_id, await store.claim(worker_id, {"noop": idempotent}, count)


async def fall_silent(sql: AnyConnection, worker_id: UUID) -> None:
    """As if its last heartbeat were a minute old."""
    await sql.execute("UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE id = $1", worker_id)


async def test_with_nothing_to_do_it_sleeps_a_poll_interval(rescuer: Rescuer) -> None:
    assert POLL * 0.7 < await rescuer.rescue_once() <= POLL


@pytest.mark.parametrize(("idempotent", "state"), [(True, S.PENDING), (False, S.FAILED)])
async def test_a_silent_worker_is_buried_and_its_executions_rescued(
    rescuer: Rescuer, store: WorkerStore, sql: AnyConnection, idempotent: bool, state: ExecutionState
) -> None:
    repository = ExecutionRepository(store.db)
    worker_id, executions = await claimed_by_a_worker(repository, store, idempotent=idempotent, count=3)
    await rescuer.rescue_once()
    assert (await assert_row_is_fold(repository, executions[0].id)).state is S.RUNNING, "it is alive"
    await fall_silent(sql, worker_id)
    assert await rescuer.rescue_once() == MIN_PAUSE_SECONDS
    for before in executions:
        after = await assert_row_is_fold(repository, before.id)
        assert (after.state, after.worker_id, after.rescues) == (state, None, 1)
        assert after.lease_epoch == before.lease_epoch + 1
    assert await store.heartbeat(worker_id) is None, "it is told when it comes back"
    assert await store.claim(worker_id, {"noop": True}, 9) == []


async def test_many_rescuers_rescue_once(
    database: Database,
    repository: ExecutionRepository,
    store: WorkerStore,
    state_manager: ExecutionStateManager,
    sql: AnyConnection,
) -> None:
    worker_id, executions = await claimed_by_a_worker(repository, store, idempotent=True, count=5)
    await fall_silent(sql, worker_id)
    rescuers = [Rescuer(store, state_manager, database.wakeups, poll_interval=POLL) for _ in range(6)]
    await asyncio.gather(*(rescuer.rescue_once() for rescuer in rescuers))
    await asyncio.gather(*(rescuer.rescue_once() for rescuer in rescuers))
    for before in executions:
        after = await assert_row_is_fold(repository, before.id)
        assert (after.attempt, after.rescues, after.version) == (2, 1, before.version + 1)


async def test_one_that_was_being_cancelled_is_abandoned(
    rescuer: Rescuer,
    repository: ExecutionRepository,
    store: WorkerStore,
    state_manager: ExecutionStateManager,
    sql: AnyConnection,
) -> None:
    worker_id, (execution,) = await claimed_by_a_worker(repository, store, idempotent=True)
    await state_manager.apply(execution.id, Cancel())
    await fall_silent(sql, worker_id)
    await rescuer.rescue_once()
    after = await assert_row_is_fold(repository, execution.id)
    assert after.error is not None
    assert (after.state, after.error["type"]) == (S.CANCELLED, "abandoned")


class TestDeadlines:
    async def test_it_wakes_for_the_next_one(self, rescuer: Rescuer, repository: ExecutionRepository) -> None:
        await submit(repository, schedule_to_start=5.0)
        assert 3 < await rescuer.rescue_once() <= 5

    async def test_a_wait_that_was_too_long(self, rescuer: Rescuer, repository: ExecutionRepository) -> None:
        waited = await submit(repository, schedule_to_start=0.001)

        async def has_ended() -> bool:
            await rescuer.rescue_once()
            return (await read(repository, waited.id)).is_terminal

        await eventually(has_ended, within=5, what="its deadline passes, and the rescuer finds it")
        after = await assert_row_is_fold(repository, waited.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "schedule_to_start_timeout")

    async def test_a_cancellation_nobody_obeyed(
        self,
        rescuer: Rescuer,
        repository: ExecutionRepository,
        state_manager: ExecutionStateManager,
        claimed: Execution,
    ) -> None:
        cancelling = await state_manager.apply(claimed.id, Cancel(grace=0.0))
        assert cancelling.state is S.CANCELLING
        await rescuer.rescue_once()
        after = await assert_row_is_fold(repository, claimed.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.CANCELLED, "abandoned")
        assert after.lease_epoch == claimed.lease_epoch + 1

    async def test_a_running_one_is_left_to_its_worker_for_a_moment(
        self, rescuer: Rescuer, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        worker_id = new_id()
        await store.register(worker_id, ["noop"], concurrency=1, timeout_seconds=60)
        await submit(repository, start_to_close=0.001)
        (execution,) = await store.claim(worker_id, {"noop": False}, 1)
        pause = await rescuer.rescue_once()
        assert 3 < pause <= 5.1, "the slack"
        assert (await assert_row_is_fold(repository, execution.id)).state is S.RUNNING
        assert execution.deadline is not None
        assert execution.deadline - execution.updated_at == timedelta(milliseconds=1)

    async def test_a_paused_one_has_none(
        self, rescuer: Rescuer, repository: ExecutionRepository, state_manager: ExecutionStateManager
    ) -> None:
        waiting = await submit(repository, schedule_to_start=0.5)
        paused = await state_manager.apply(waiting.id, Pause())
        assert paused.deadline is None
        assert await rescuer.rescue_once() > POLL / 2
