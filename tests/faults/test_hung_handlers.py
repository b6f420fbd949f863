"""Handlers that hang: a cancellation ends the execution by its deadline, and nothing is written of it afterwards."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import timedelta

import psutil
import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.service import PATIENCE, ended, short_settings
from tests.support.starvation import sessions, starvation
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, worker_process

S = ExecutionState

GRACE = {"cancel_grace_seconds": 1.0}
LATEST = timedelta(seconds=1)
"""After the deadline, not counting for how long those who see to it had no processor: other tests run on it, too."""
HANGING = "tests.support.hanging_handlers"
ABANDONED = {"type": "abandoned", "message": "the handler did not stop before the cancellation deadline"}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[ExecutionService]:
    """A client whose cancellations leave little time."""
    async with open_service(short_settings(database_url, handlers=HANGING, **GRACE)) as service:
        yield service


async def cancelled_in_time(
    client: ExecutionService, execution: Execution, sql: AnyConnection, worker: WorkerProcess
) -> Execution:
    """Cancel it, and see it ended in time by that worker."""
    async with starvation([worker.pid, *await sessions(sql)]) as starved:
        asked = await client.cancel_execution(execution.id)
        after = await ended(client, execution.id)
    assert asked.deadline is not None
    assert after.completed_at is not None
    without_processor = timedelta(seconds=starved.seconds(asked.deadline, after.completed_at))
    assert after.completed_at <= asked.deadline + LATEST + without_processor, f"{without_processor} without processor"
    assert after.state is S.CANCELLED
    return after


async def is_drained(worker: WorkerProcess) -> None:
    """After this nothing can write for what the worker ran."""
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


@pytest.mark.parametrize("kind", ["hang.deaf", "hang.thread", "hang.cpu"])
async def test_what_comes_back_too_late_writes_nothing(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger, kind: str
) -> None:
    async with worker_process(database_url, handlers=HANGING) as worker:
        execution = await client.create_execution(kind, ledger.gated)
        await ledger.holds(1)
        after = await cancelled_in_time(client, execution, sql, worker)
        assert after.error == ABANDONED
        ledger.open_gate()
        await ledger.holds(2)
        await is_drained(worker)
    assert await client.get_execution(execution.id) == after
    await check_all_ended(database_url)


async def test_an_await_ends_at_once(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url, handlers=HANGING) as worker:
        execution = await client.create_execution("hang.await", ledger.gated)
        await ledger.holds(1)
        after = await cancelled_in_time(client, execution, sql, worker)
        assert after.error is None, "it obeyed"
        await is_drained(worker)
    assert await client.get_execution(execution.id) == after
    await check_all_ended(database_url)


async def test_a_child_process_is_killed(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url, handlers=HANGING) as worker:
        execution = await client.create_execution("hang.child", ledger.gated)
        await ledger.holds(1)
        (child,) = ledger.processes()
        assert child != worker.pid
        after = await cancelled_in_time(client, execution, sql, worker)
        assert after.error == ABANDONED, "it gets longer between request and end than this cancellation grants"
        await eventually(lambda: not psutil.pid_exists(child), within=PATIENCE, what="the child is killed")
        await is_drained(worker)
    assert await client.get_execution(execution.id) == after
    await check_all_ended(database_url)


async def test_one_that_blocks_its_worker_is_ended_by_another(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with (
        worker_process(database_url, handlers=HANGING) as blocked,
        worker_process(database_url, worker_kinds="noop") as other,
    ):
        execution = await client.create_execution("hang.loop", ledger.gated)
        await ledger.holds(1)
        after = await cancelled_in_time(client, execution, sql, other)
        assert after.error is not None
        assert after.error["type"] == "abandoned"
        buried = "SELECT count(*) FROM workers WHERE pid = $1 AND dead_at IS NOT NULL"
        await eventually(lambda: sql.fetchval(buried, blocked.pid), within=PATIENCE, what="it is declared dead")
        ledger.open_gate()
        await ledger.holds(2)
        await is_drained(blocked)
        await is_drained(other)
    assert await client.get_execution(execution.id) == after
    await check_all_ended(database_url)
