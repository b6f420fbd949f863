"""A claim is committed, and its answer is lost: nobody runs what the worker holds, and nobody else may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.frontier import ClaimFrontier
from execution.repository.workers import WorkerStore
from execution.service import ExecutionService
from execution.wiring import open_service
from execution.worker import Worker
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.cutting_proxy import CuttingProxy, Fault, cutting_proxy
from tests.support.service import PATIENCE, ended, running_worker, short_settings, states_of
from tests.support.worker_process import FAULT_HANDLERS

QUIET = {"heartbeat_interval_seconds": 10.0, "worker_timeout_seconds": 60.0, "poll_interval_seconds": 10.0}
"""So that the claim is the next statement that passes the door."""
WARM = 5
"""By this claim the driver knows the statement and its types, and asks the server nothing else before it."""


class OneAnswerIsLost(WorkerStore):
    """Holds one claim until it may go on; the answer to that one is lost."""

    def __init__(self, db: Database, proxy: CuttingProxy) -> None:
        super().__init__(db)
        self._proxy = proxy
        self._claimed = 0
        self.holds = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def claim(
        self, worker_id: UUID, kinds: Mapping[str, bool], limit: int, frontier: ClaimFrontier | None = None
    ) -> list[Execution]:
        self._claimed += 1
        if self._claimed == WARM:
            self.holds.set()
            await self.may_go_on.wait()
            self._proxy.arm(Fault.LOSE_ANSWER)
        return await super().claim(worker_id, kinds, limit, frontier)


class ClaimIsHeldBack(WorkerStore):
    """A claim is committed; the worker gets its answer when it may."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.holds = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def claim(
        self, worker_id: UUID, kinds: Mapping[str, bool], limit: int, frontier: ClaimFrontier | None = None
    ) -> list[Execution]:
        claimed = await super().claim(worker_id, kinds, limit, frontier)
        if claimed:
            self.holds.set()
            await self.may_go_on.wait()
        return claimed


def worker_of(service: ExecutionService, store: WorkerStore) -> Worker:
    """The service's worker, with another store."""
    return Worker(
        workers=store,
        runner=service.task_runner,
        tasks=service.background_tasks,
        settings=service.settings,
    )


async def test_it_is_given_back_and_run_once(
    client: ExecutionService, database_url: str, tmp_path: Path, ledger: Ledger
) -> None:
    async with (
        cutting_proxy(database_url, tmp_path) as (proxy, url),
        open_service(short_settings(url, handlers=FAULT_HANDLERS, **QUIET)) as service,
    ):
        store = OneAnswerIsLost(service.repository.db, proxy)
        async with running_worker(service, worker_of(service, store)):
            async with asyncio.timeout(PATIENCE):
                await store.holds.wait()
            execution = await client.create_execution("fault.once", ledger.at_once)
            store.may_go_on.set()
            after = await ended(client, execution.id)
    assert proxy.server_answered.is_set(), "the claim was committed"
    assert (after.state, after.attempt, after.result) == (ExecutionState.COMPLETED, 1, {"attempt": 1})
    states = ["CREATED", *["PENDING", "RUNNING"] * 2, "COMPLETED"]
    assert await states_of(client, execution.id) == states
    reasons = [item.reason for item in await client.get_state_history(execution.id)]
    assert "the answer to its claim was lost" in reasons
    assert ledger.runs() == {str(execution.id): 1}
    await check_all_ended(database_url)


async def test_a_worker_that_is_stopped_meanwhile_gives_it_back_all_the_same(
    client: ExecutionService, database_url: str, tmp_path: Path, ledger: Ledger
) -> None:
    async with (
        cutting_proxy(database_url, tmp_path) as (proxy, url),
        open_service(short_settings(url, handlers=FAULT_HANDLERS, **QUIET)) as service,
    ):
        store = OneAnswerIsLost(service.repository.db, proxy)
        async with running_worker(service, worker_of(service, store)), asyncio.timeout(PATIENCE):
            await store.holds.wait()
            execution = await client.create_execution("fault.once", ledger.at_once)
            store.may_go_on.set()
            await proxy.struck.wait()
    assert proxy.server_answered.is_set(), "the claim was committed"
    assert await states_of(client, execution.id) == ["CREATED", "PENDING", "RUNNING", "PENDING"]
    async with running_worker(client):
        assert (await ended(client, execution.id)).result == {"attempt": 1}
    assert ledger.runs() == {str(execution.id): 1}
    await check_all_ended(database_url)


async def test_a_worker_that_is_cancelled_while_it_claims_gives_it_back(
    client: ExecutionService, database_url: str, ledger: Ledger
) -> None:
    execution = await client.create_execution("fault.once", ledger.at_once)
    async with open_service(short_settings(database_url, handlers=FAULT_HANDLERS)) as service:
        store = ClaimIsHeldBack(service.repository.db)
        running = asyncio.create_task(worker_of(service, store).run())
        async with asyncio.timeout(PATIENCE):
            await store.holds.wait()
            running.cancel()
            asyncio.get_running_loop().call_later(0.05, store.may_go_on.set)
            await asyncio.wait([running])
    assert running.cancelled()
    assert await states_of(client, execution.id) == ["CREATED", "PENDING", "RUNNING", "PENDING"]
    assert ledger.runs() == {}
