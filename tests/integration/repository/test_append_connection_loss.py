"""Connections that break around a commit: whatever was acknowledged is in the log, and nothing is there twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from execution.domain.commands import Cancel, ChangeState, Pause, ReportProgress
from execution.domain.decide import decide
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.errors import DatabaseUnavailableError, DuplicateExecutionError, OutcomeUnknownError, VersionConflict
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from tests.support.cutting_proxy import CuttingProxy, Fault, cutting_proxy
from tests.support.given import submission
from tests.support.stored import (
    AnyConnection,
    assert_row_is_fold,
    carry_out,
    cut_append_lanes,
    submit,
    waiting_sessions,
)
from tests.support.waiting import eventually

S = ExecutionState
T = TypeVar("T")
WRITERS = 8
APPENDS_EACH = 100
CUTS = 10
FOR_CREATIONS_AND_CHANGES = pytest.mark.parametrize("creates", [True, False], ids=["create", "change"])


@pytest.fixture
async def proxied(database_url: str, cluster_folder: Path) -> AsyncIterator[tuple[CuttingProxy, ExecutionRepository]]:
    """A repository that reaches its database through a proxy; both statements are prepared on its lanes."""
    async with (
        cutting_proxy(database_url, cluster_folder) as (proxy, url),
        Database(url, append_lanes=1, notify=False, connect_timeout=2) as database,
    ):
        repository = ExecutionRepository(database)
        await carry_out(repository, await submit(repository), Pause())
        yield proxy, repository


async def append_one(repository: ExecutionRepository, before: Execution | None) -> Execution:
    """One append of one of the two kinds."""
    return await (carry_out(repository, before, Cancel()) if before else submit(repository))


class TestThroughAProxy:
    @FOR_CREATIONS_AND_CHANGES
    @pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.LOSE_STATEMENT])
    async def test_a_lost_answer_or_statement_is_a_success_written_once(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], sql: AnyConnection, creates: bool, fault: Fault
    ) -> None:
        proxy, repository = proxied
        before = None if creates else await submit(repository)
        proxy.arm(fault)
        after = await append_one(repository, before)
        assert proxy.struck.is_set()
        assert proxy.server_answered.is_set() == (fault is Fault.LOSE_ANSWER)
        assert await assert_row_is_fold(repository, after.id) == after
        commands = await sql.fetch("SELECT DISTINCT command_id FROM execution_events WHERE execution_id = $1", after.id)
        assert len(commands) == (1 if creates else 2)

    @FOR_CREATIONS_AND_CHANGES
    async def test_a_statement_that_commits_after_the_look_up(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], sql: AnyConnection, creates: bool
    ) -> None:
        """The first try hangs on a lock, unnoticed by the server; the second one is sent before the first commits."""
        proxy, repository = proxied
        before = None if creates else await submit(repository)
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute(
            "LOCK TABLE execution_events IN SHARE MODE" if creates else "SELECT FROM executions FOR UPDATE"
        )
        proxy.arm(Fault.LEAVE_RUNNING)
        caller = asyncio.create_task(append_one(repository, before))
        await proxy.struck.wait()

        async def both_wait() -> bool:
            return await waiting_sessions(sql) == 2

        await eventually(both_wait, within=5, what="the statement that was cut off and its repetition wait")
        await transaction.rollback()
        after = await caller
        assert proxy.server_answered.is_set()
        assert await assert_row_is_fold(repository, after.id) == after

    async def test_an_answer_lost_to_somebody_elses_change_is_a_conflict(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], database_url: str
    ) -> None:
        proxy, repository = proxied
        before = await submit(repository)
        async with Database(database_url) as another:
            await carry_out(ExecutionRepository(another), before, Pause())
        proxy.arm(Fault.LOSE_STATEMENT)
        with pytest.raises(VersionConflict):
            await carry_out(repository, before, Cancel())
        assert (await assert_row_is_fold(repository, before.id)).state is S.PAUSED

    @FOR_CREATIONS_AND_CHANGES
    async def test_what_another_sending_of_the_same_command_wrote_is_not_taken_for_ones_own(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], database_url: str, creates: bool
    ) -> None:
        proxy, repository = proxied
        before = None if creates else await submit(repository)
        command_id, command = new_id(), submission() if creates else Pause()
        async with Database(database_url) as database:
            twin = ExecutionRepository(database)
            await twin.append(before, decide(before, command, database.clock.now()), command_id=command_id)
        events = decide(before, command, repository.db.clock.now())
        proxy.arm(Fault.LOSE_STATEMENT)
        with pytest.raises((VersionConflict, DuplicateExecutionError)):
            await repository.append(before, events, command_id=command_id)
        assert proxy.struck.is_set()

    async def test_the_whole_batch_of_a_lost_answer_is_a_success(
        self, proxied: tuple[CuttingProxy, ExecutionRepository]
    ) -> None:
        proxy, repository = proxied
        stale = await submit(repository)
        current = await carry_out(repository, stale, Pause())
        executions = [await submit(repository) for _ in range(5)]
        proxy.arm(Fault.LOSE_ANSWER)
        *cancelled, refused = await asyncio.gather(
            *(carry_out(repository, one, Cancel()) for one in executions),
            carry_out(repository, stale, Cancel()),
            return_exceptions=True,
        )
        assert proxy.server_answered.is_set()
        assert isinstance(refused, VersionConflict)
        for one in cancelled:
            assert isinstance(one, Execution)
            assert await assert_row_is_fold(repository, one.id) == one
        assert await assert_row_is_fold(repository, current.id) == current


class TestTerminated:
    @pytest.mark.parametrize(("listens", "connections"), [(True, 1), (False, 2)], ids=["the one that listens", "lanes"])
    async def test_at_idle_the_next_append_reconnects(
        self, database_url: str, sql: AnyConnection, *, listens: bool, connections: int
    ) -> None:
        async with Database(database_url, notify=listens) as database:
            listening = database.wakeups.connection
            await eventually(lambda: listening.is_free is listens, within=5, what="it listens")
            repository = ExecutionRepository(database)
            before = await carry_out(repository, await submit(repository), Pause())
            assert await cut_append_lanes(sql) == connections
            after = await carry_out(repository, before, Cancel())
            created = await submit(repository)
            assert await assert_row_is_fold(repository, before.id) == after
            assert await assert_row_is_fold(repository, created.id) == created

    async def test_while_it_waits_for_a_lock(self, repository: ExecutionRepository, sql: AnyConnection) -> None:
        before = await submit(repository)
        async with sql.transaction():
            await sql.fetch("SELECT FROM executions FOR UPDATE")
            caller = asyncio.create_task(carry_out(repository, before, Cancel()))
            await eventually(lambda: waiting_sessions(sql), within=5, what="the append waits for the row")
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            )
        assert (await caller).state is S.CANCELLED
        assert (await assert_row_is_fold(repository, before.id)).state is S.CANCELLED

    async def test_changes_under_load(self, repository: ExecutionRepository, sql: AnyConnection) -> None:
        executions = [
            await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING)) for _ in range(WRITERS)
        ]
        acknowledged = asyncio.Queue[str]()
        reports = [report(repository, one, acknowledged) for one in executions]
        messages = await cut_under_load(reports, acknowledged, sql)
        logged = await sql.fetch(
            "SELECT data->>'message' AS message FROM execution_events WHERE type = 'agent.execution.progress'"
        )
        assert sorted(row["message"] for row in logged) == sorted(messages)
        for execution in executions:
            await assert_row_is_fold(repository, execution.id)

    async def test_creations_under_load(self, repository: ExecutionRepository, sql: AnyConnection) -> None:
        acknowledged = asyncio.Queue[Execution]()
        created = await cut_under_load([create(repository, acknowledged) for _ in range(WRITERS)], acknowledged, sql)
        assert await sql.fetchval("SELECT count(*) FROM executions") == len(created) == WRITERS * APPENDS_EACH
        for execution in created:
            assert await assert_row_is_fold(repository, execution.id) == execution


async def report(repository: ExecutionRepository, execution: Execution, acknowledged: asyncio.Queue[str]) -> None:
    """Report progress so many times, each with a message of its own."""
    for number in range(APPENDS_EACH):
        message = f"{execution.id} {number}"
        execution = await carry_out(repository, execution, ReportProgress(percentage=1, message=message))
        acknowledged.put_nowait(message)


async def create(repository: ExecutionRepository, acknowledged: asyncio.Queue[Execution]) -> None:
    """Submit so many executions."""
    for _ in range(APPENDS_EACH):
        acknowledged.put_nowait(await submit(repository))


async def cut_under_load(
    writers: list[Coroutine[Any, Any, None]], acknowledged: asyncio.Queue[T], sql: AnyConnection
) -> list[T]:
    """Run the writers, cutting the lanes' connections again and again; everything that was acknowledged."""
    tasks = [asyncio.create_task(writer) for writer in writers]
    received, cuts = [], 0
    for _ in range(CUTS):
        received += [await acknowledged.get() for _ in range(WRITERS * APPENDS_EACH // CUTS)]
        cuts += await cut_append_lanes(sql)
    await asyncio.gather(*tasks)
    assert cuts >= CUTS // 2, "a lane that has just been cut may not be back yet"
    return received


class TestUnreachable:
    async def test_what_was_not_sent_is_known_not_to_be_written(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], sql: AnyConnection
    ) -> None:
        proxy, repository = proxied
        proxy.close_door()

        async def lanes_know() -> bool:
            with pytest.raises((DatabaseUnavailableError, OutcomeUnknownError)) as caught:
                await submit(repository, patience=0.1)
            return isinstance(caught.value, DatabaseUnavailableError)

        await eventually(lanes_know, within=5, what="a lane that knows that its connection is gone")
        assert await sql.fetchval("SELECT count(*) FROM executions") == 1

    async def test_what_was_sent_may_have_been_written(
        self, proxied: tuple[CuttingProxy, ExecutionRepository], sql: AnyConnection
    ) -> None:
        proxy, repository = proxied
        proxy.arm(Fault.LOSE_ANSWER, then_close=True)
        with pytest.raises(OutcomeUnknownError, match="may have been applied"):
            await submit(repository, patience=0.3)
        assert await sql.fetchval("SELECT count(*) FROM executions") == 2

    async def test_patience_outlasts_an_outage(self, proxied: tuple[CuttingProxy, ExecutionRepository]) -> None:
        proxy, repository = proxied
        before = await submit(repository)
        proxy.arm(Fault.LOSE_ANSWER, then_close=True)
        caller = asyncio.create_task(carry_out(repository, before, Cancel()))
        await proxy.refused.wait()
        proxy.open_door()
        assert await caller == await assert_row_is_fold(repository, before.id)
