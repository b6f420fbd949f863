"""Every connection to PostgreSQL is cut, again and again, under load."""

from __future__ import annotations

import asyncio

from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger, ended_at_last, insisting, submitted
from tests.support.checker import check_all_ended
from tests.support.service import running_worker, short_settings
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS

EXECUTIONS = 120
CUTS = 4


async def cut_everything(sql: AnyConnection) -> int:
    """Terminate every other backend of this database; how many there were."""
    cut: int = await sql.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return cut


async def run_one(service: ExecutionService, ledger: Ledger, slots: asyncio.Semaphore, done: asyncio.Semaphore) -> None:
    async with slots:
        execution_id = new_id()
        await insisting(lambda: submitted(service, "fault.again", ledger.at_once, execution_id))
        after = await ended_at_last(service, execution_id)
        assert after.result == {"attempt": after.attempt}
        done.release()


async def test_everything_submitted_is_done(database_url: str, sql: AnyConnection, ledger: Ledger) -> None:
    settings = short_settings(database_url, handlers=FAULT_HANDLERS)
    slots, done = asyncio.Semaphore(10), asyncio.Semaphore(0)
    async with open_service(settings) as service, running_worker(service):
        async with asyncio.TaskGroup() as group:
            for _ in range(EXECUTIONS):
                group.create_task(run_one(service, ledger, slots, done))
            for _ in range(CUTS):
                for _ in range(EXECUTIONS // (2 * CUTS)):
                    await done.acquire()
                # right after a cut the service may be without any connection
                await eventually(lambda: cut_everything(sql), within=30, what="a connection to cut")
        assert await sql.fetchval("SELECT count(*) FROM execution_events WHERE version = 1") == EXECUTIONS
    assert await check_all_ended(database_url) == {"COMPLETED": EXECUTIONS}
    assert len(ledger.runs()) == EXECUTIONS


async def test_an_idle_service_finds_its_way_back(database_url: str, sql: AnyConnection, ledger: Ledger) -> None:
    settings = short_settings(database_url, handlers=FAULT_HANDLERS)
    async with open_service(settings) as service, running_worker(service):
        await cut_everything(sql)
        execution = await insisting(lambda: service.create_execution("fault.once", ledger.at_once))
        assert (await ended_at_last(service, execution.id)).result == {"attempt": 1}
    assert ledger.runs() == {str(execution.id): 1}
    await check_all_ended(database_url)
