"""Commands with an id of the caller's: carried out once, and told apart from other commands by nothing but the id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.errors import (
    DuplicateExecutionError,
    ExecutionNotFoundError,
    ExecutionServiceError,
    InvalidExecutionStateError,
    OutcomeUnknownError,
    VersionConflict,
)
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.client_commands import CLIENT_COMMANDS, ClientCommand
from tests.support.service import short_settings

S = ExecutionState
TWINS = 8
EACH_COMMAND = pytest.mark.parametrize("command", CLIENT_COMMANDS, ids=lambda command: command.name)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url)) as service:
        yield service
    await check_database(database_url)


@pytest.fixture
async def another(database_url: str) -> AsyncIterator[ExecutionService]:
    """As another process: with connections and lanes of its own."""
    async with open_service(short_settings(database_url)) as service:
        yield service


async def moved_on(service: ExecutionService, execution: Execution) -> Execution:
    """The execution after one more change."""
    if execution.is_terminal:
        return await service.retry_execution(execution.id)
    return await service.cancel_execution(execution.id)


class TestAgain:
    @EACH_COMMAND
    async def test_the_same_id_is_answered_with_the_first_outcome(
        self, service: ExecutionService, command: ClientCommand
    ) -> None:
        before = await command.prepare(service)
        command_id = new_id()
        first = await command.send(service, before.id, command_id=command_id)
        assert first.version > before.version
        assert await command.send(service, before.id, command_id=command_id) == first
        assert await service.get_execution(before.id) == first

    @EACH_COMMAND
    async def test_later_changes_do_not_alter_the_answer(
        self, service: ExecutionService, another: ExecutionService, command: ClientCommand
    ) -> None:
        before = await command.prepare(service)
        command_id = new_id()
        first = await command.send(service, before.id, command_id=command_id)
        after = await moved_on(service, first)
        assert await command.send(another, before.id, command_id=command_id) == first
        assert await service.get_execution(before.id) == after

    async def test_the_expected_version_is_not_checked_again(self, service: ExecutionService) -> None:
        before = await service.create_execution("noop")
        command_id = new_id()
        first = await service.pause_execution(before.id, expected_version=before.version, command_id=command_id)
        for version in (before.version, first.version):
            again = await service.pause_execution(before.id, expected_version=version, command_id=command_id)
            assert again == first
        with pytest.raises(VersionConflict):
            await service.resume_execution(before.id, expected_version=before.version, command_id=new_id())

    async def test_a_change_of_state_by_name(self, service: ExecutionService) -> None:
        before = await service.create_execution("noop")
        command_id = new_id()
        first = await service.state_manager.change_state(before.id, S.RUNNING, command_id=command_id)
        await moved_on(service, first)
        assert await service.state_manager.change_state(before.id, S.RUNNING, command_id=command_id) == first

    @EACH_COMMAND
    async def test_twins_at_once_have_one_effect(
        self, service: ExecutionService, another: ExecutionService, command: ClientCommand
    ) -> None:
        before = await command.prepare(service)
        command_id = new_id()
        outcomes = await asyncio.gather(
            *(
                command.send(one, before.id, command_id=command_id, expected_version=before.version)
                for one in (service, another)
                for _ in range(TWINS)
            )
        )
        after = await service.get_execution(before.id)
        assert outcomes == [after] * 2 * TWINS


class TestWhatTheIdRemembers:
    async def test_a_refusal_is_decided_anew(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop", start=False)
        command_id = new_id()
        with pytest.raises(InvalidExecutionStateError):
            await service.retry_execution(execution.id, command_id=command_id)
        await service.cancel_execution(execution.id)
        assert (await service.retry_execution(execution.id, command_id=command_id)).attempt == 2

    async def test_what_changed_nothing_is_decided_anew(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        paused = await service.pause_execution(execution.id)
        command_id = new_id()
        assert await service.pause_execution(execution.id, command_id=command_id) == paused
        await service.resume_execution(execution.id)
        assert (await service.pause_execution(execution.id, command_id=command_id)).version == paused.version + 2

    async def test_another_command_under_an_id_in_the_log_is_answered_with_the_first(
        self, service: ExecutionService
    ) -> None:
        execution = await service.create_execution("noop")
        command_id = new_id()
        paused = await service.pause_execution(execution.id, command_id=command_id)
        assert await service.cancel_execution(execution.id, command_id=command_id) == paused
        assert await service.get_execution(execution.id) == paused

    async def test_an_id_belongs_to_one_execution(self, service: ExecutionService) -> None:
        one, other = [await service.create_execution("noop") for _ in range(2)]
        command_id = new_id()
        await service.cancel_execution(one.id, command_id=command_id)
        assert (await service.get_execution(other.id)) == other
        assert (await service.cancel_execution(other.id, command_id=command_id)).state is S.CANCELLED

    async def test_another_tenant_learns_nothing_by_an_id(self, service: ExecutionService, database_url: str) -> None:
        command_id = new_id()
        execution = await service.create_execution("noop", command_id=command_id)
        async with open_service(short_settings(database_url, tenant_id="theirs")) as theirs:
            with pytest.raises(ExecutionNotFoundError):
                await theirs.cancel_execution(execution.id, command_id=command_id)
            with pytest.raises(DuplicateExecutionError):
                await theirs.create_execution("noop", command_id=command_id)


class TestCreate:
    async def test_the_command_is_the_execution_unless_it_has_an_id(self, service: ExecutionService) -> None:
        command_id, execution_id = new_id(), new_id()
        assert (await service.create_execution("noop", command_id=command_id)).id == command_id
        assert (await service.create_execution("noop", id=execution_id, command_id=command_id)).id == execution_id

    @pytest.mark.parametrize("execution_id", [None, UUID(int=7)], ids=["by the command", "by the execution"])
    async def test_again_is_the_first_outcome(self, service: ExecutionService, execution_id: UUID | None) -> None:
        command_id = new_id()
        first = await service.create_execution("noop", {"seconds": 1}, id=execution_id, command_id=command_id)
        assert (first.state, first.version) == (S.PENDING, 2)
        after = await moved_on(service, first)
        again = await service.create_execution("noop", {"seconds": 1}, id=execution_id, command_id=command_id)
        assert again == first
        assert await service.get_execution(first.id) == after

    async def test_twins_at_once_are_one_execution(self, service: ExecutionService, another: ExecutionService) -> None:
        command_id = new_id()
        outcomes = await asyncio.gather(
            *(one.create_execution("noop", command_id=command_id) for one in (service, another) for _ in range(TWINS))
        )
        assert outcomes == [await service.get_execution(command_id)] * 2 * TWINS

    async def test_an_execution_that_another_command_created_stays_a_duplicate(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop", command_id=new_id())
        later = new_id()
        await service.cancel_execution(execution.id, command_id=later)
        for command_id in (new_id(), later, None):
            with pytest.raises(DuplicateExecutionError):
                await service.create_execution("noop", id=execution.id, command_id=command_id)


def test_the_error_says_that_the_same_id_tells() -> None:
    error: ExecutionServiceError = OutcomeUnknownError("Appending")
    assert error.retriable
    assert "Repeat it under the same command id" in str(error)
