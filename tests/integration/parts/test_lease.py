"""`Lease`: a worker's writes pass under the epoch of its claim, and under no other."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from execution.domain.commands import Cancel, Finish, Pause, Release, ReportProgress
from execution.domain.execution import Execution
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.errors import InvalidExecutionStateError, LeaseLost
from execution.lease import Lease
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.stored import assert_row_is_fold, read

DONE = Finish(outcome=Succeeded(result={"by": "worker"}))


async def test_progress_and_the_end_in_one_append(lease: Lease, repository: ExecutionRepository) -> None:
    after = await lease.apply(ReportProgress(percentage=50), DONE)
    assert (after.state, after.progress.percentage) == (ExecutionState.COMPLETED, 50)
    assert await assert_row_is_fold(repository, after.id) == after


async def test_what_clients_ask_meanwhile_is_read_and_decided_upon(
    lease: Lease, state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    await state_manager.apply(lease.execution.id, Cancel())
    after = await lease.apply(DONE)
    assert after.state is ExecutionState.COMPLETED, "a handler that ended all the same counts as what it ended as"
    await assert_row_is_fold(repository, after.id)


async def test_a_worker_that_was_fenced_off_cannot_write_though_it_reads_the_version(
    lease: Lease, state_manager: ExecutionStateManager, repository: ExecutionRepository
) -> None:
    finished = Finish(outcome=Succeeded(result={"by": "somebody"}), by_holder=False)
    await state_manager.apply(lease.execution.id, finished)
    with pytest.raises(LeaseLost):
        await lease.apply(DONE)
    assert lease.is_lost
    assert (await read(repository, lease.execution.id)).result == {"by": "somebody"}


async def test_one_that_even_reads_its_successors_version_cannot_write_under_its_own_epoch(
    lease: Lease, repository: ExecutionRepository, state_manager: ExecutionStateManager, worker_id: UUID
) -> None:
    await lease.apply(Release(reason="given up"))
    (successor,) = await WorkerStore(repository.db).claim(worker_id, {"noop": False}, 1)
    lease.execution = successor
    with pytest.raises(LeaseLost):
        await lease.apply(ReportProgress(percentage=99))
    assert await assert_row_is_fold(repository, successor.id) == successor


async def test_once_lost_nothing_is_tried(lease: Lease, repository: ExecutionRepository) -> None:
    lease.is_lost = True
    with pytest.raises(LeaseLost):
        await lease.apply(DONE)
    assert (await assert_row_is_fold(repository, lease.execution.id)).state is ExecutionState.RUNNING


async def test_of_writes_at_once_none_is_lost(lease: Lease, repository: ExecutionRepository) -> None:
    reports = [ReportProgress(percentage=one, context={str(one): one}) for one in range(1, 21)]
    await asyncio.gather(*(lease.apply(report) for report in reports))
    after = await assert_row_is_fold(repository, lease.execution.id)
    assert after == lease.execution
    assert after.progress.percentage == 20
    assert after.progress.context == {str(one): one for one in range(1, 21)}


async def test_a_release_lets_the_next_worker_take_it(lease: Lease, repository: ExecutionRepository) -> None:
    after = await lease.apply(Release(reason="the worker is stopping"))
    assert (after.state, after.worker_id, after.attempt) == (ExecutionState.PENDING, None, 1)
    assert after.lease_epoch == lease.epoch + 1
    with pytest.raises(InvalidExecutionStateError, match="no run of it is open"):
        await lease.apply(DONE)


class TestObserve:
    async def test_it_takes_over_what_is_newer(self, lease: Lease, state_manager: ExecutionStateManager) -> None:
        asked = await state_manager.apply(lease.execution.id, Pause())
        lease.observe(asked)
        assert lease.execution.pause_requested
        assert not lease.is_lost

    async def test_it_ignores_what_is_older(self, lease: Lease, claimed: Execution) -> None:
        await lease.apply(ReportProgress(percentage=10))
        lease.observe(claimed)
        assert lease.execution.progress.percentage == 10

    def test_a_deleted_one_is_lost(self, lease: Lease) -> None:
        lease.observe(None)
        assert lease.is_lost


async def test_only_what_was_claimed_has_a_lease(
    repository: ExecutionRepository, state_manager: ExecutionStateManager
) -> None:
    waiting = await state_manager.create(submission())
    with pytest.raises(ValueError, match="claimed"):
        Lease(repository, waiting, state_manager)
