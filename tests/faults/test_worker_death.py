"""kill -9 in the middle of a handler."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.cutting_proxy import Fault, cutting_proxy
from tests.support.service import PATIENCE, ended, running_worker, short_settings, states_of
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS, worker_process

S = ExecutionState


async def test_the_dead_workers_executions_are_settled_by_what_their_handlers_declared(
    client: ExecutionService, database_url: str, ledger: Ledger
) -> None:
    async with worker_process(database_url) as victim:
        once = [await client.create_execution("fault.once", ledger.gated) for _ in range(5)]
        again = [await client.create_execution("fault.again", ledger.gated) for _ in range(5)]
        await ledger.holds(10)
        await victim.kill()
    ledger.open_gate()
    async with worker_process(database_url):
        failed = [await ended(client, one.id) for one in once]
        completed = [await ended(client, one.id) for one in again]
    for after in failed:
        assert after.error is not None
        assert (after.state, after.error["type"], after.attempt) == (S.FAILED, "outcome_unknown", 1)
    for after in completed:
        assert (after.state, after.result, after.rescues) == (S.COMPLETED, {"attempt": 2}, 1)
        states = ["CREATED", *["PENDING", "RUNNING"] * 2, "COMPLETED"]
        assert await states_of(client, after.id) == states
    assert ledger.runs() == {str(one.id): 1 for one in once} | {str(one.id): 2 for one in again}
    assert await check_all_ended(database_url) == {"FAILED": 5, "COMPLETED": 5}


async def test_they_are_found_within_the_time_the_worker_promised(
    client: ExecutionService, database_url: str, ledger: Ledger
) -> None:
    async with worker_process(database_url) as victim, worker_process(database_url, worker_kinds="noop"):
        execution = await client.create_execution("fault.once", ledger.gated)
        await ledger.holds(1)
        before = client.repository.db.clock.now()
        await victim.kill()
        after = await ended(client, execution.id)
    assert after.completed_at is not None
    promised = client.settings.worker_timeout_seconds + client.settings.poll_interval_seconds
    assert after.completed_at - before < timedelta(seconds=promised + 1)


@pytest.mark.parametrize("command", ["cancel", "pause"])
async def test_a_command_that_the_dead_worker_never_carried_out(
    client: ExecutionService, database_url: str, ledger: Ledger, command: str
) -> None:
    async with worker_process(database_url) as victim:
        execution = await client.create_execution("fault.again", ledger.gated)
        await ledger.holds(1)
        await victim.kill()
    if command == "cancel":
        await client.cancel_execution(execution.id)
    else:
        await client.pause_execution(execution.id)
    ledger.open_gate()
    async with worker_process(database_url):
        after = await ended(client, execution.id)
    assert after.state is (S.CANCELLED if command == "cancel" else S.COMPLETED)
    assert ledger.runs()[str(execution.id)] == (1 if command == "cancel" else 2)
    await check_all_ended(database_url)


async def test_a_heartbeat_that_failed_is_repeated_soon(database_url: str, tmp_path: Path, sql: AnyConnection) -> None:
    """And not at the next one's time: a worker that was declared dead learns it from its heartbeat."""
    far_apart = {"heartbeat_interval_seconds": 20.0, "worker_timeout_seconds": 60.0}
    async with (
        cutting_proxy(database_url, tmp_path) as (proxy, url),
        open_service(short_settings(url, handlers=FAULT_HANDLERS, **far_apart)) as service,
    ):
        proxy.arm(Fault.LOSE_STATEMENT, at="heartbeat")
        async with running_worker(service):
            async with asyncio.timeout(PATIENCE):
                await proxy.struck.wait()
            beaten = "SELECT heartbeat_at > started_at FROM workers"
            await eventually(lambda: sql.fetchval(beaten), within=5.0, what="the next heartbeat")
