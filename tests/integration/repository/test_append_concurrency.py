"""Many writers at once: one of the contenders wins, and nothing is lost or written twice."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import UUID

import pytest

from execution.domain.commands import Cancel, ChangeState, Command, Finish, Pause, ReportProgress, Resume, Retry
from execution.domain.decide import decide
from execution.domain.events import Event
from execution.domain.execution import Execution
from execution.domain.outcome import Failed
from execution.domain.state import ExecutionState
from execution.errors import InvalidExecutionStateError, VersionConflict
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from tests.support.given import BOOM
from tests.support.stored import AnyConnection, assert_row_is_fold, carry_out, read, submit

S = ExecutionState
WRITERS = 16
EXECUTIONS = 20


class TestContenders:
    async def test_one_of_fifty_wins(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository)
        outcomes = await asyncio.gather(
            *(carry_out(repository, execution, Pause(reason=str(number))) for number in range(50)),
            return_exceptions=True,
        )
        assert_one_wins(outcomes, 50)
        assert (await assert_row_is_fold(repository, execution.id)).version == execution.version + 1

    async def test_so_it_is_between_processes(self, repository: ExecutionRepository, database_url: str) -> None:
        execution = await submit(repository)
        async with Database(database_url) as another:
            repositories = [repository, ExecutionRepository(another)]
            outcomes = await asyncio.gather(
                *(carry_out(repositories[number % 2], execution, Pause()) for number in range(50)),
                return_exceptions=True,
            )
        assert_one_wins(outcomes, 50)
        assert (await assert_row_is_fold(repository, execution.id)).version == execution.version + 1


def assert_one_wins(outcomes: list[Execution | BaseException], contenders: int) -> None:
    assert sum(isinstance(outcome, Execution) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == contenders - 1


@pytest.mark.parametrize(
    "commands_each", [250, pytest.param(2_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_sixteen_writers_on_twenty_executions(
    repository: ExecutionRepository, database_url: str, sql: AnyConnection, commands_each: int
) -> None:
    ids = [(await submit(repository)).id for _ in range(EXECUTIONS)]
    async with Database(database_url) as another:
        repositories = [repository, ExecutionRepository(another)]
        written = await asyncio.gather(
            *(write(repositories[number % 2], ids, number, commands_each) for number in range(WRITERS))
        )
    for execution_id in ids:
        await assert_row_is_fold(repository, execution_id)
    in_log = await sql.fetch("SELECT execution_id, version, actor FROM execution_events WHERE actor IS NOT NULL")
    acknowledged = {key: str(number) for number, keys in enumerate(written) for key in keys}
    assert {(row["execution_id"], row["version"]): row["actor"] for row in in_log} == acknowledged


async def write(repository: ExecutionRepository, ids: list[UUID], number: int, commands: int) -> list[tuple[UUID, int]]:
    """Carry out so many random commands; the keys of all events that were acknowledged."""
    keys, chance = [], Random(number)
    for _ in range(commands):
        execution_id = chance.choice(ids)
        while True:
            before = await read(repository, execution_id)
            events = decide_anything(before, repository, str(number), chance)
            try:
                await repository.append(before, events)
            except VersionConflict:
                continue
            keys += [(execution_id, event.version) for event in events]
            break
    return keys


def decide_anything(before: Execution, repository: ExecutionRepository, actor: str, chance: Random) -> list[Event]:
    """The events of the first of some shuffled commands that does anything now."""
    commands: list[Command] = [
        Cancel(),
        Pause(),
        Resume(),
        Retry(),
        ChangeState(target=S.RUNNING),
        ReportProgress(percentage=chance.uniform(0, 100), message=str(chance.random()), context={"x": chance.random()}),
        ReportProgress(percentage=chance.uniform(0, 100), message=str(chance.random())),
        Finish(outcome=Failed(error=BOOM)),
    ]
    chance.shuffle(commands)
    for command in commands:
        try:
            if events := decide(before, command, repository.db.clock.now(), actor):
                return events
        except InvalidExecutionStateError:
            continue
    raise AssertionError(f"nothing can be done with {before}")
