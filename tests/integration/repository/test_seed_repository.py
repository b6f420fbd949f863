"""The repository's methods by name: found, not found, refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from execution.domain.commands import Cancel, ChangeState, Pause, Retry
from execution.domain.execution import Progress
from execution.domain.history import StateHistoryItem
from execution.domain.state import ExecutionState
from execution.errors import (
    ExecutionNotFoundError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    InvalidProgressError,
    VersionConflict,
)
from execution.ids import new_id
from execution.repository.repository import ExecutionRepository
from tests.support import given
from tests.support.given import SITUATIONS, STATE_OF
from tests.support.stored import AnyConnection, assert_row_is_fold, carry_out, store_log, submit

S = ExecutionState


async def test_get_by_id(repository: ExecutionRepository) -> None:
    execution = await submit(repository)
    assert await repository.get_by_id(execution.id) == execution
    assert await repository.get_by_id(new_id()) is None


async def test_get_many(repository: ExecutionRepository) -> None:
    first, second = await submit(repository), await submit(repository)
    found = await repository.get_many([first.id, new_id(), second.id])
    assert {one.id for one in found} == {first.id, second.id}
    assert await repository.get_many([]) == []


class TestUpdateState:
    async def test_found(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        after = await repository.update_state(execution.id, S.RUNNING)
        assert after is not None
        assert after == await assert_row_is_fold(repository, execution.id)
        assert after.state is S.RUNNING

    async def test_a_given_time_is_when_it_happened(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        started, completed = (execution.created_at + timedelta(seconds=seconds) for seconds in (10, 12.5))
        await repository.update_state(execution.id, S.RUNNING, {"started_at": started})
        after = await repository.update_state(
            execution.id, S.COMPLETED, {"started_at": started, "completed_at": completed}
        )
        assert after is not None
        assert (after.started_at, after.completed_at, after.duration_seconds) == (started, completed, 2.5)
        await assert_row_is_fold(repository, execution.id)

    async def test_a_time_before_the_last_change_is_not_believed(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        early = execution.created_at - timedelta(days=1)
        after = await repository.update_state(execution.id, S.RUNNING, {"started_at": early})
        assert after is not None
        assert after.started_at == execution.updated_at

    async def test_so_already(self, repository: ExecutionRepository) -> None:
        paused = await carry_out(repository, await submit(repository), Pause())
        assert await repository.update_state(paused.id, S.PAUSED) == paused

    async def test_not_found(self, repository: ExecutionRepository) -> None:
        assert await repository.update_state(new_id(), S.RUNNING) is None

    async def test_refused(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        with pytest.raises(InvalidExecutionStateError):
            await repository.update_state(execution.id, S.COMPLETED)
        assert await assert_row_is_fold(repository, execution.id) == execution


class TestUpdateProgress:
    async def test_found(self, repository: ExecutionRepository) -> None:
        execution = await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING))
        await repository.update_progress(execution.id, 25, "a quarter", {"pages": (1, 2)})
        after = await repository.update_progress(execution.id, 50, "half", {"more": True})
        assert after is not None
        assert after.progress == Progress(percentage=50.0, message="half", context={"pages": [1, 2], "more": True})
        assert after == await assert_row_is_fold(repository, execution.id)

    async def test_not_found(self, repository: ExecutionRepository) -> None:
        assert await repository.update_progress(new_id(), 50, "half") is None

    async def test_refused(self, repository: ExecutionRepository) -> None:
        waiting = await submit(repository)
        with pytest.raises(InvalidExecutionStateError):
            await repository.update_progress(waiting.id, 50, "half")
        running = await carry_out(repository, waiting, ChangeState(target=S.RUNNING))
        with pytest.raises(InvalidProgressError):
            await repository.update_progress(running.id, 101, "too far")
        with pytest.raises(InvalidDocumentError):
            await repository.update_progress(running.id, 50, "half", {"x": float("nan")})
        assert await assert_row_is_fold(repository, running.id) == running


class TestUpdateResult:
    async def test_found(self, repository: ExecutionRepository) -> None:
        execution = await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING))
        after = await repository.update_result(execution.id, {"answer": (4, 2)})
        assert after is not None
        assert (after.state, after.result, after.error) == (S.COMPLETED, {"answer": [4, 2]}, None)
        assert after == await assert_row_is_fold(repository, execution.id)

    async def test_an_error_message_is_a_failure(self, repository: ExecutionRepository) -> None:
        execution = await store_log(repository, given.running())
        after = await repository.update_result(execution.id, {}, "no such page")
        assert after is not None
        assert (after.state, after.error) == (S.FAILED, {"type": "failed", "message": "no such page"})
        assert after.lease_epoch == execution.lease_epoch + 1, "the worker that held it is fenced off"
        await assert_row_is_fold(repository, execution.id)

    async def test_not_found(self, repository: ExecutionRepository) -> None:
        assert await repository.update_result(new_id(), {}) is None

    async def test_refused(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        with pytest.raises(InvalidExecutionStateError):
            await repository.update_result(execution.id, {})
        with pytest.raises(InvalidDocumentError):
            await repository.update_result(execution.id, {"x": "\x00"})
        assert await assert_row_is_fold(repository, execution.id) == execution


class TestStateHistory:
    async def test_recording_a_change_makes_it(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        item = StateHistoryItem(
            execution_id=execution.id,
            previous_state=S.PENDING,
            new_state=S.CANCELLED,
            reason="not needed",
            actor="maria",
        )
        recorded = await repository.create_state_history(item)
        assert (recorded.new_state, recorded.reason, recorded.version) == (S.CANCELLED, "not needed", 3)
        assert recorded.actor == "maria"
        assert recorded.occurred_at is not None
        assert (await repository.get_state_history(execution.id, limit=1)) == [recorded]
        assert (await assert_row_is_fold(repository, execution.id)).state is S.CANCELLED

    async def test_a_version_may_be_expected(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        item = StateHistoryItem(
            execution_id=execution.id, previous_state=S.PENDING, new_state=S.PAUSED, version=execution.version + 1
        )
        assert (await repository.create_state_history(item)).version == execution.version + 1

    async def test_not_found(self, repository: ExecutionRepository) -> None:
        with pytest.raises(ExecutionNotFoundError):
            await repository.create_state_history(
                StateHistoryItem(execution_id=new_id(), previous_state=None, new_state=S.CREATED)
            )
        assert await repository.get_state_history(new_id()) == []

    @pytest.mark.parametrize(
        ("previous", "new", "version", "refusal"),
        [
            (S.PENDING, S.COMPLETED, None, InvalidExecutionStateError),
            (S.RUNNING, S.COMPLETED, None, VersionConflict),
            (S.PENDING, S.PAUSED, 2, VersionConflict),
            (S.PENDING, S.PAUSED, 4, VersionConflict),
        ],
    )
    async def test_refused(
        self,
        repository: ExecutionRepository,
        previous: ExecutionState,
        new: ExecutionState,
        version: int | None,
        refusal: type[Exception],
    ) -> None:
        execution = await submit(repository)
        item = StateHistoryItem(execution_id=execution.id, previous_state=previous, new_state=new, version=version)
        with pytest.raises(refusal):
            await repository.create_state_history(item)
        assert await assert_row_is_fold(repository, execution.id) == execution

    @pytest.mark.parametrize(
        ("situation", "new"),
        [("running", S.PAUSED), ("asked", S.RUNNING), ("paused", S.PAUSED), ("paused", S.RUNNING), ("held", S.PENDING)],
    )
    async def test_a_change_that_would_not_be_made_is_not_recorded(
        self, repository: ExecutionRepository, situation: str, new: ExecutionState
    ) -> None:
        """A pause that is only requested, a resume that leads elsewhere: the item would not be what the log says."""
        execution = await store_log(repository, SITUATIONS[situation]())
        item = StateHistoryItem(execution_id=execution.id, previous_state=STATE_OF[situation], new_state=new)
        with pytest.raises(InvalidExecutionStateError):
            await repository.create_state_history(item)
        assert await assert_row_is_fold(repository, execution.id) == execution


class TestDelete:
    @pytest.mark.parametrize("situation", SITUATIONS)
    async def test_only_what_has_ended(
        self, repository: ExecutionRepository, sql: AnyConnection, situation: str
    ) -> None:
        other = await submit(repository)
        execution = await store_log(repository, SITUATIONS[situation]())
        deleted = await repository.delete_execution(execution.id)
        assert deleted == execution.is_terminal
        assert (await repository.get_by_id(execution.id) is None) == deleted
        assert (await repository.get_history(execution.id) == []) == deleted
        assert await assert_row_is_fold(repository, other.id) == other
        if not deleted:
            assert await assert_row_is_fold(repository, execution.id) == execution

    async def test_not_found(self, repository: ExecutionRepository) -> None:
        assert not await repository.delete_execution(new_id())

    async def test_its_id_may_be_used_again(self, repository: ExecutionRepository) -> None:
        cancelled = await carry_out(repository, await submit(repository), Cancel())
        assert await repository.delete_execution(cancelled.id)
        again = await submit(repository, id=cancelled.id)
        assert await assert_row_is_fold(repository, again.id) == again

    async def test_what_was_deleted_cannot_be_retried(self, repository: ExecutionRepository) -> None:
        cancelled = await carry_out(repository, await submit(repository), Cancel())
        assert await repository.delete_execution(cancelled.id)
        with pytest.raises(VersionConflict):
            await carry_out(repository, cancelled, Retry())
