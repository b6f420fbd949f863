"""The append path: what it writes, what it refuses, and that each caller learns its own outcome."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from execution.domain.commands import Cancel, ChangeState, Finish, Pause, ReportProgress, Resume
from execution.domain.decide import decide
from execution.domain.execution import Execution
from execution.domain.outcome import Succeeded
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from execution.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DuplicateExecutionError,
    OutcomeUnknownError,
    ServiceClosedError,
    VersionConflict,
)
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from tests.support.given import SITUATIONS, WORKER, at
from tests.support.stored import (
    AnyConnection,
    assert_row_is_fold,
    carry_out,
    nobody_else_is_connected,
    open_transactions,
    store_log,
    submit,
    waiting_sessions,
)
from tests.support.waiting import eventually

S = ExecutionState
EVERYTHING: dict[str, Any] = {
    "parameters": {"path": "README.md", "deep": {"list": [1, 2.5, None, "ü"]}},
    "agent_id": "writer",
    "task_id": "task-1",
    "priority": 3,
    "run_at": at(60),
    "retry_policy": RetryPolicy(max_attempts=1, error_types=("Boom",)),
    "schedule_to_start": 30.5,
    "start_to_close": 10.25,
    "parent_id": WORKER,
    "trace_context": "00-trace",
}
"""All that a submission may say."""


class TestWritten:
    @pytest.mark.parametrize("situation", SITUATIONS)
    async def test_the_row_is_the_fold_of_the_log(self, repository: ExecutionRepository, situation: str) -> None:
        log = SITUATIONS[situation](**EVERYTHING)
        after = await store_log(repository, log)
        assert after == log.execution == await assert_row_is_fold(repository, after.id)

    @pytest.mark.parametrize("another", [EVERYTHING, {}], ids=["alike", "unlike"])
    @pytest.mark.parametrize("situation", SITUATIONS)
    async def test_so_it_is_of_those_that_share_a_statement(
        self, repository: ExecutionRepository, sql: AnyConnection, situation: str, another: dict[str, Any]
    ) -> None:
        """A single append goes by a statement of its own."""
        logs = [SITUATIONS[situation](id=new_id(), **said) for said in (EVERYTHING, another)]
        for log, after in zip(logs, await asyncio.gather(*(store_log(repository, log) for log in logs)), strict=True):
            assert after == log.execution == await assert_row_is_fold(repository, after.id)
        assert await sql.fetchval("SELECT count(DISTINCT xid) FROM execution_events") == len(logs[0].appends)

    async def test_progress_and_result_come_back_as_they_went_in(self, repository: ExecutionRepository) -> None:
        execution = await carry_out(repository, await submit(repository), ChangeState(target=S.RUNNING))
        context = {"pages": [1, 2], "ratio": 0.1, "note": "½"}
        execution = await carry_out(
            repository, execution, ReportProgress(percentage=33.3, message="page 2", context=context)
        )
        execution = await carry_out(
            repository, execution, Finish(outcome=Succeeded(result={"large": 2**60, "e": 1e22}))
        )
        row = await assert_row_is_fold(repository, execution.id)
        assert row == execution
        assert (row.progress.context, row.result) == (context, {"large": 2**60, "e": 1e22})

    async def test_concurrent_appends_share_one_commit(
        self, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        await asyncio.gather(*(submit(repository) for _ in range(50)))
        assert await sql.fetchval("SELECT count(DISTINCT xid) FROM execution_events") == 1

    async def test_a_batch_larger_than_the_limit_is_written_in_pieces(self, database_url: str) -> None:
        async with Database(database_url, batch_limit=3) as database:
            repository = ExecutionRepository(database)
            executions = await asyncio.gather(*(submit(repository) for _ in range(10)))
            assert len(await repository.get_many([one.id for one in executions])) == 10

    async def test_one_execution_may_be_appended_to_while_it_is_being_written(
        self, repository: ExecutionRepository
    ) -> None:
        """Chained appends of one execution never share a statement, and keep their order."""
        before = await submit(repository)
        paused_events = decide(before, Pause(), repository.db.clock.now())
        first = asyncio.ensure_future(repository.append(before, paused_events))
        paused = replace(before, state=S.PAUSED, version=before.version + 1)
        second = asyncio.ensure_future(repository.append(paused, decide(paused, Resume(), repository.db.clock.now())))
        await asyncio.gather(first, second)
        assert (await assert_row_is_fold(repository, before.id)).state is S.PENDING

    async def test_history_cannot_be_rewritten(self, repository: ExecutionRepository, sql: AnyConnection) -> None:
        execution = await submit(repository)
        with pytest.raises(asyncpg.RaiseError, match="immutable log"):
            await sql.execute("UPDATE execution_events SET actor = 'me' WHERE execution_id = $1", execution.id)


async def test_a_time_that_travels_as_a_number_arrives_as_it_was(sql: AnyConnection, chance: Random) -> None:
    """Which `statements.sql` relies on for the time of each append, in this century."""
    begin, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    microseconds = (end - begin) // timedelta(microseconds=1)
    times = [begin + timedelta(microseconds=chance.randrange(microseconds)) for _ in range(20_000)]
    arrived = await sql.fetchval(
        "SELECT array_agg(to_timestamp(seconds) ORDER BY number)"
        " FROM unnest($1::float8[]) WITH ORDINALITY AS t (seconds, number)",
        [time.timestamp() for time in times],
    )
    assert arrived == times


class TestRefused:
    async def test_a_change_of_what_has_changed(self, repository: ExecutionRepository) -> None:
        seen = await submit(repository)
        await carry_out(repository, seen, Pause())
        with pytest.raises(VersionConflict) as caught:
            await carry_out(repository, seen, Cancel())
        assert (caught.value.execution_id, caught.value.expected_version) == (seen.id, seen.version)
        assert (await assert_row_is_fold(repository, seen.id)).state is S.PAUSED

    async def test_a_change_of_what_does_not_exist(self, repository: ExecutionRepository) -> None:
        ghost = SITUATIONS["pending"]().execution
        with pytest.raises(VersionConflict):
            await carry_out(repository, ghost, Pause())
        assert await repository.get_history(ghost.id) == []

    async def test_a_second_execution_of_one_id(self, repository: ExecutionRepository) -> None:
        first = await submit(repository, parameters={"first": True})
        with pytest.raises(DuplicateExecutionError):
            await submit(repository, id=first.id)
        assert await assert_row_is_fold(repository, first.id) == first

    async def test_two_executions_of_one_id_at_once(self, repository: ExecutionRepository) -> None:
        shared = new_id()
        outcomes = await asyncio.gather(*(submit(repository, id=shared) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(outcome, Execution) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, DuplicateExecutionError) for outcome in outcomes) == 4

    async def test_a_worker_whose_lease_was_revoked(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        """A zombie that reads the version again still has the epoch of its own claim."""
        await submit(repository)
        await store.register(WORKER, ["noop"], concurrency=1, timeout_seconds=60)
        (claimed,) = await store.claim(WORKER, {"noop": True}, 1)
        current = await carry_out(repository, claimed, ReportProgress(percentage=1))
        events = decide(current, ReportProgress(percentage=2), repository.db.clock.now())
        with pytest.raises(VersionConflict):
            await repository.append(current, events, lease_epoch=claimed.lease_epoch - 1)
        after = await repository.append(current, events, lease_epoch=claimed.lease_epoch)
        assert await assert_row_is_fold(repository, claimed.id) == after

    async def test_a_bad_append_fails_alone(self, repository: ExecutionRepository) -> None:
        good = [await submit(repository) for _ in range(10)]
        bad = await submit(repository)
        events = decide(bad, Pause(), repository.db.clock.now())
        refused_by_a_constraint = replace(bad, version=bad.version + 1, attempt=0)
        outcomes = await asyncio.gather(
            repository.db.lanes.append(bad, refused_by_a_constraint, events),
            *(carry_out(repository, one, Pause()) for one in good),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], DatabaseError)
        assert "executions_counters_count_up" in str(outcomes[0])
        assert not isinstance(outcomes[0], DatabaseUnavailableError | OutcomeUnknownError)
        for one in good:
            assert (await assert_row_is_fold(repository, one.id)).state is S.PAUSED
        assert await assert_row_is_fold(repository, bad.id) == bad

    @pytest.mark.parametrize(
        "unstorable", [{"kind": "nul \x00"}, {"kind": "\ud800"}, {"parameters": {"a": "\x00"}}, {"priority": 40_000}]
    )
    async def test_so_does_one_that_the_driver_or_the_server_cannot_take(
        self, repository: ExecutionRepository, unstorable: dict[str, Any]
    ) -> None:
        refused, *accepted = await asyncio.gather(
            submit(repository, **unstorable), *(submit(repository) for _ in range(5)), return_exceptions=True
        )
        assert type(refused) is DatabaseError
        assert all(isinstance(one, Execution) for one in accepted)


class TestCaller:
    async def test_a_cancelled_caller_does_not_lose_the_write(
        self, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        execution = await submit(repository)
        async with sql.transaction():
            await sql.fetch("SELECT FROM executions FOR UPDATE")
            caller = asyncio.create_task(carry_out(repository, execution, Cancel()))
            await eventually(lambda: waiting_sessions(sql), within=5, what="the append waits for the row")
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller

        async def written() -> bool:
            return len(await repository.get_history(execution.id)) == 4

        await eventually(written, within=5, what="the append of the cancelled caller")
        assert (await assert_row_is_fold(repository, execution.id)).state is S.CANCELLED
        assert await open_transactions(sql) == 0

    async def test_an_append_waits_for_a_locked_row(self, repository: ExecutionRepository, sql: AnyConnection) -> None:
        execution = await submit(repository)
        async with sql.transaction():
            await sql.fetch("SELECT FROM executions FOR UPDATE")
            caller = asyncio.create_task(carry_out(repository, execution, Cancel()))
            await eventually(lambda: waiting_sessions(sql), within=5, what="the append waits for the row")
            assert not caller.done()
        assert (await caller).state is S.CANCELLED


class TestStop:
    async def test_what_is_queued_is_written_first(self, database_url: str, sql: AnyConnection) -> None:
        database = Database(database_url, batch_limit=7)
        await database.start()
        repository = ExecutionRepository(database)
        *submitted, _ = await asyncio.gather(*(submit(repository) for _ in range(100)), database.stop())
        assert len(submitted) == 100
        assert await sql.fetchval("SELECT count(*) FROM executions") == 100
        assert await sql.fetchval("SELECT count(*) FROM execution_events") == 200

    async def test_afterwards_and_before_there_is_no_append(self, database_url: str) -> None:
        database = Database(database_url)
        repository = ExecutionRepository(database)
        with pytest.raises(ServiceClosedError):
            await submit(repository)
        await database.start()
        await submit(repository)
        await database.stop()
        await database.stop()
        with pytest.raises(ServiceClosedError):
            await submit(repository)

    async def test_nothing_stays_connected(self, database_url: str, sql: AnyConnection) -> None:
        async with Database(database_url) as database:
            await submit(ExecutionRepository(database))
        await eventually(lambda: nobody_else_is_connected(sql), within=5, what="only the test's connection is left")
