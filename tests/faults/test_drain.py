"""SIGTERM: what can end, ends; the rest is settled in order; nothing is left under the worker's name."""

from __future__ import annotations

import signal

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from execution.worker import STOP_SECONDS
from tests.faults.conftest import Ledger
from tests.support.checker import check_database
from tests.support.service import PATIENCE, ended, reached, states_of
from tests.support.stored import AnyConnection
from tests.support.worker_process import worker_process

S = ExecutionState


async def left_behind(sql: AnyConnection) -> tuple[int, int]:
    """Executions that somebody holds, and workers that count as alive."""
    held = await sql.fetchval("SELECT count(*) FROM executions WHERE worker_id IS NOT NULL")
    return held, await sql.fetchval("SELECT count(*) FROM workers WHERE dead_at IS NULL")


def assert_is_unknown(execution: Execution) -> None:
    assert execution.error is not None
    assert (execution.state, execution.error["type"]) == (S.FAILED, "outcome_unknown")
    assert "the worker stopped" in execution.error["message"]


async def test_an_idle_worker_ends_at_once(client: ExecutionService, database_url: str, sql: AnyConnection) -> None:
    async with worker_process(database_url, drain_timeout_seconds=2 * PATIENCE) as worker:
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await left_behind(sql) == (0, 0)


async def test_what_ends_in_time_ends_as_ever(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url) as worker:
        executions = [await client.create_execution("fault.once", ledger.gated) for _ in range(5)]
        await ledger.holds(5)
        worker.signal(signal.SIGTERM)
        waiting = await client.create_execution("fault.once", ledger.gated)
        ledger.open_gate()
        for execution in executions:
            assert (await ended(client, execution.id)).result == {"attempt": 1}
        assert await worker.ended() == 0
    assert await left_behind(sql) == (0, 0)
    last = await client.get_execution(waiting.id)
    assert last.state in {S.PENDING, S.COMPLETED}, "claimed just before the signal and run, or not claimed at all"
    assert ledger.runs()[str(waiting.id)] == (last.state is S.COMPLETED)
    await check_database(database_url)


async def test_what_does_not_end_is_interrupted_and_says_so(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url, drain_timeout_seconds=0.3) as worker:
        once = await client.create_execution("fault.once", ledger.gated)
        again = await client.create_execution("fault.again", ledger.gated)
        await ledger.holds(2)
        worker.signal(signal.SIGTERM)
        assert await worker.ended(within=STOP_SECONDS) == 0, "handlers that obey are not waited for any longer"
    assert await left_behind(sql) == (0, 0)
    assert_is_unknown(await client.get_execution(once.id))
    waiting = await client.get_execution(again.id)
    assert (waiting.state, waiting.attempt, waiting.rescues) == (S.PENDING, 2, 0)
    ledger.open_gate()
    async with worker_process(database_url):
        assert (await ended(client, again.id)).result == {"attempt": 2}
    await check_database(database_url)


async def test_a_handler_that_ignores_it_does_not_keep_the_worker(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url, drain_timeout_seconds=0.3) as worker:
        execution = await client.create_execution("fault.deaf", ledger.gated)
        await ledger.holds(1)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await left_behind(sql) == (0, 0)
    assert_is_unknown(await client.get_execution(execution.id))
    await check_database(database_url)


async def test_a_cancellation_under_way_is_still_carried_out(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url) as worker:
        execution = await client.create_execution("fault.once", ledger.gated)
        await ledger.holds(1)
        worker.signal(signal.SIGTERM)
        await client.cancel_execution(execution.id)
        after = await ended(client, execution.id)
        assert (after.state, after.error) == (S.CANCELLED, None)
        assert await worker.ended() == 0
    assert await left_behind(sql) == (0, 0)


async def test_a_paused_run_is_given_back_paused(
    client: ExecutionService, database_url: str, sql: AnyConnection
) -> None:
    async with worker_process(database_url, drain_timeout_seconds=0.3) as worker:
        execution = await client.create_execution("noop", {"seconds": 60})
        await reached(client, execution.id, S.RUNNING)
        await client.pause_execution(execution.id)
        await reached(client, execution.id, S.PAUSED)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await left_behind(sql) == (0, 0)
    after = await client.get_execution(execution.id)
    assert (after.state, after.is_held, after.attempt) == (S.PAUSED, False, 2)
    assert (await states_of(client, execution.id))[-2:] == ["PENDING", "PAUSED"]
    await check_database(database_url)


async def test_a_drained_worker_leaves_its_backlog_to_the_next(
    client: ExecutionService, database_url: str, ledger: Ledger
) -> None:
    async with worker_process(database_url, worker_concurrency=2) as worker:
        executions = [await client.create_execution("fault.once", ledger.gated) for _ in range(6)]
        await ledger.holds(2)
        worker.signal(signal.SIGTERM)
        ledger.open_gate()
        assert await worker.ended() == 0

    async def none_runs() -> bool:
        return (await client.list_executions({"state": "RUNNING"}))[1] == 0

    assert await none_runs()
    async with worker_process(database_url):
        for execution in executions:
            assert (await ended(client, execution.id)).state is S.COMPLETED
    assert ledger.runs() == {str(execution.id): 1 for execution in executions}
