"""A claim is committed, and its answer is lost: nobody runs what the worker holds, and nobody else may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.workers import WorkerStore
from execution.service import ExecutionService
from execution.wiring import open_service
from execution.worker import Worker
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.cutting_proxy import CuttingProxy, Fault, cutting_proxy
from tests.support.service import PATIENCE, ended, running_worker, short_settings, states_of
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS

QUIET = {"heartbeat_interval_seconds": 10.0, "worker_timeout_seconds": 60.0, "poll_interval_seconds": 10.0}
"""So that the claim is the next statement that passes the door."""


class FirstAnswerIsLost(WorkerStore):
    """Claims once it may; the answer to its first claim is lost."""

    def __init__(self, db: Database, proxy: CuttingProxy) -> None:
        super().__init__(db)
        self._proxy = proxy
        self.may_claim = asyncio.Event()

    async def claim(self, worker_id: UUID, kinds: Mapping[str, bool], limit: int) -> list[Execution]:
        if not self.may_claim.is_set():
            await self.may_claim.wait()
            self._proxy.arm(Fault.LOSE_ANSWER)
        return await super().claim(worker_id, kinds, limit)


def worker_of(service: ExecutionService, store: WorkerStore) -> Worker:
    """The service's worker, with another store."""
    return Worker(
        workers=store,
        runner=service.task_runner,
        state_manager=service.state_manager,
        tasks=service.background_tasks,
        wakeups=service.repository.db.wakeups,
        settings=service.settings,
    )


async def nothing_else_is_asked(sql: AnyConnection) -> None:
    """Until the worker has said that it lives, and none of its loops has a statement under way."""

    async def is_quiet() -> bool:
        return await sql.fetchval(
            "SELECT EXISTS (SELECT FROM workers WHERE heartbeat_at > started_at) AND NOT EXISTS ("
            " SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND pid <> pg_backend_pid())"
        )

    await eventually(is_quiet, within=PATIENCE, what="the worker's other loops rest")


async def test_it_is_given_back_and_run_once(
    client: ExecutionService, database_url: str, sql: AnyConnection, tmp_path: Path, ledger: Ledger
) -> None:
    async with cutting_proxy(database_url, tmp_path) as (proxy, url):
        async with open_service(short_settings(url, handlers=FAULT_HANDLERS, **QUIET)) as service:
            store = FirstAnswerIsLost(service.repository.db, proxy)
            async with running_worker(service, worker_of(service, store)):
                execution = await client.create_execution("fault.once", ledger.at_once)
                await nothing_else_is_asked(sql)
                store.may_claim.set()
                after = await ended(client, execution.id)
    assert proxy.server_answered.is_set(), "the claim was committed"
    assert (after.state, after.attempt, after.result) == (ExecutionState.COMPLETED, 1, {"attempt": 1})
    states = ["CREATED", *["PENDING", "RUNNING"] * 2, "COMPLETED"]
    assert await states_of(client, execution.id) == states
    reasons = [item.reason for item in await client.get_state_history(execution.id)]
    assert "the answer to its claim was lost" in reasons
    assert ledger.runs() == {str(execution.id): 1}
    await check_all_ended(database_url)
