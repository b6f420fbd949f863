"""`ExecutionStateManager`: commands, states by name, and what follows from a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from execution.domain.commands import Cancel, Command, Finish, Pause, ReportProgress, Start
from execution.domain.events import Event
from execution.domain.execution import Execution
from execution.domain.machine import carry_out
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState, ExecutionStateTransitionValidator
from execution.errors import (
    DuplicateExecutionError,
    ExecutionNotFoundError,
    InvalidExecutionStateError,
    VersionConflict,
)
from execution.ids import new_id
from execution.lease import Lease
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import Topic
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.stored import assert_row_is_fold, submit

S = ExecutionState


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Without a listening connection, which signals every topic once when it is there."""
    async with Database(database_url, notify=False) as database:
        yield database


@asynccontextmanager
async def signalled(manager: ExecutionStateManager) -> AsyncIterator[set[Topic]]:
    """The topics that are signalled inside the block, complete at its end."""
    topics: set[Topic] = set()
    wakeups = manager.repository.db.wakeups
    ends = [wakeups.subscribe(topic, lambda topic=topic: topics.add(topic)) for topic in Topic]  # type: ignore[misc]
    yield topics
    await asyncio.sleep(0)  # signals are passed on in the loop's next round
    for end in ends:
        end()


def decided(execution: Execution, command: Command) -> tuple[Execution, list[Event], Execution]:
    """What the command comes to, as an append takes it."""
    after, events = carry_out(execution, [command], execution.updated_at)
    return execution, events, after


class TestValidateTransition:
    def test_it_answers_by_the_one_table(self, state_manager: ExecutionStateManager) -> None:
        for current, allowed in ExecutionStateTransitionValidator.VALID_TRANSITIONS.items():
            for target in ExecutionState:
                assert state_manager.validate_transition(current, target) is (target in allowed)


class TestChangeState:
    async def test_the_whole_way_by_names_of_states(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository, start=False)
        for target in (S.PENDING, S.PAUSED, S.PENDING, S.RUNNING, S.CANCELLING, S.CANCELLED, S.PENDING):
            execution = await state_manager.change_state(execution.id, target, "because")
            assert execution.state is target
        assert execution.attempt == 2
        await assert_row_is_fold(repository, execution.id)

    async def test_the_reason_is_recorded(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        await state_manager.change_state(execution.id, S.CANCELLED, "not needed any more", actor="somebody")
        (latest,) = await repository.get_state_history(execution.id, limit=1)
        assert (latest.new_state, latest.reason, latest.actor) == (S.CANCELLED, "not needed any more", "somebody")

    async def test_an_undeclared_transition_is_refused_and_writes_nothing(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        with pytest.raises(InvalidExecutionStateError, match="PENDING may not be followed by COMPLETED"):
            await state_manager.change_state(execution.id, S.COMPLETED)
        assert await assert_row_is_fold(repository, execution.id) == execution

    async def test_an_unknown_execution(self, state_manager: ExecutionStateManager) -> None:
        with pytest.raises(ExecutionNotFoundError):
            await state_manager.change_state(new_id(), S.PENDING)

    async def test_a_stale_version(self, state_manager: ExecutionStateManager, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        with pytest.raises(VersionConflict):
            await state_manager.change_state(execution.id, S.CANCELLED, expected_version=execution.version - 1)
        assert await assert_row_is_fold(repository, execution.id) == execution


class TestCreate:
    async def test_the_same_id_twice_is_one_execution(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        command = submission(parameters={"first": True})
        first = await state_manager.create(command)
        with pytest.raises(DuplicateExecutionError, match=str(command.id)):
            await state_manager.create(submission(id=command.id, parameters={"first": False}))
        assert await assert_row_is_fold(repository, command.id) == first


class TestApply:
    async def test_what_is_so_already_writes_nothing(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        paused = await state_manager.apply(execution.id, Pause())
        assert await state_manager.apply(execution.id, Pause()) == paused

    async def test_another_tenants_execution_does_not_exist(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository, tenant_id="theirs")
        with pytest.raises(ExecutionNotFoundError):
            await state_manager.apply(execution.id, Cancel(), tenant_id="ours")
        assert (await state_manager.apply(execution.id, Cancel(), tenant_id="theirs")).state is S.CANCELLED

    async def test_without_an_expected_version_a_change_that_gets_in_first_is_decided_upon(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        await state_manager.change_state(execution.id, S.RUNNING)
        reports = [ReportProgress(percentage=one, context={str(one): one}) for one in range(1, 13)]
        await asyncio.gather(*(state_manager.apply(execution.id, report) for report in reports))
        after = await assert_row_is_fold(repository, execution.id)
        assert after.progress.percentage == 12
        assert after.progress.context == {str(one): one for one in range(1, 13)}

    async def test_two_commands_that_exclude_each_other(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository, start=False)
        answers = await asyncio.gather(
            *(state_manager.apply(execution.id, Start()) for _ in range(5)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in answers) == ["Execution", *["InvalidExecutionStateError"] * 4]


class TestSideEffects:
    async def test_waiting_work_wakes_workers(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository, start=False)
        async with signalled(state_manager) as topics:
            await state_manager.apply(execution.id, Start())
        assert topics == {Topic.LOG, Topic.WORK}

    async def test_a_cancel_of_a_running_one_wakes_its_worker_and_the_rescuer(
        self, state_manager: ExecutionStateManager, claimed: Execution
    ) -> None:
        async with signalled(state_manager) as topics:
            after = await state_manager.apply(claimed.id, Cancel())
        assert after.state is S.CANCELLING
        assert topics == {Topic.LOG, Topic.CONTROL, Topic.DEADLINE}

    async def test_whoever_listens_is_told_after_the_commit(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        told: list[Execution] = []
        no_more = state_manager.listen(told.append)
        execution = await state_manager.create(submission())
        paused = await state_manager.apply(execution.id, Pause())
        no_more()
        await state_manager.apply(execution.id, Cancel())
        assert told == [execution, paused]

    async def test_a_change_has_them_though_its_caller_was_cancelled(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        told = asyncio.Event()
        state_manager.listen(lambda _: told.set())
        async with signalled(state_manager) as topics:
            written = repository.append(*decided(execution, Cancel()), audience=state_manager)
            written.cancel()
            await asyncio.wait_for(told.wait(), 10)
        assert topics == {Topic.LOG, Topic.ENDED}

    async def test_of_a_batch_each_one_is_told_and_what_works_is_woken(
        self, state_manager: ExecutionStateManager, lease: Lease
    ) -> None:
        told: list[Execution] = []
        state_manager.listen(told.append)
        waiting = await asyncio.gather(*(state_manager.create(submission()) for _ in range(3)))
        told.clear()
        async with signalled(state_manager) as topics:
            cancelled = await asyncio.gather(
                lease.apply(Finish(outcome=Succeeded(result={}))),
                *(state_manager.apply_to(execution, Cancel()) for execution in waiting),
            )
        assert {one.id: one.version for one in told} == {one.id: one.version for one in cancelled}
        assert topics == {Topic.LOG, Topic.ENDED}

    async def test_a_listener_that_fails_takes_nothing_back(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        def fail(_: Execution) -> None:
            raise RuntimeError("a listener")

        state_manager.listen(fail)
        with capture_logs() as logs:
            execution = await state_manager.create(submission())
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["append.not_told"]
        await assert_row_is_fold(repository, execution.id)

    async def test_one_that_does_not_wait_yet_wakes_those_who_follow_the_log_only(
        self, state_manager: ExecutionStateManager
    ) -> None:
        async with signalled(state_manager) as topics:
            await state_manager.create(submission(start=False))
        assert topics == {Topic.LOG}

    async def test_a_refused_command_has_none(
        self, state_manager: ExecutionStateManager, repository: ExecutionRepository
    ) -> None:
        execution = await submit(repository)
        async with signalled(state_manager) as topics:
            with pytest.raises(InvalidExecutionStateError):
                await state_manager.apply(execution.id, Start())
        assert topics == set()
