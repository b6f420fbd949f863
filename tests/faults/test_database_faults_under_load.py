"""The database crashes, or loses sessions all the time, under a steady load; afterwards the throughput is as before.

The load is offered at a fixed rate, far below what the service can do. So the throughput before a fault is a stable
number, equal to that rate, and coming back means that what had piled up meanwhile does not hold anything up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from uuid import UUID

import asyncpg
import pytest

from execution.embedded import EmbeddedPostgres
from execution.errors import DuplicateExecutionError
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger, ended_at_last, insisting
from tests.support.checker import check_all_ended
from tests.support.load import EndMeter, OfferedLoad, end_meter, offered_load
from tests.support.service import running_worker, short_settings
from tests.support.stored import AnyConnection
from tests.support.worker_process import FAULT_HANDLERS, WorkerProcess, worker_process

OFFERED_PER_SECOND = 150.0
ENOUGH = 0.9 * OFFERED_PER_SECOND
RECOVERY_SECONDS = 15.0
TERMINATIONS_PER_SECOND = 5


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Clients that offer a steady load; a worker in their process, and one in a process of its own."""

    load: OfferedLoad
    meter: EndMeter
    other: WorkerProcess

    async def recovers(self) -> None:
        """The throughput is back within the time allowed; nobody had to start anything again."""
        await self.meter.reaches(ENOUGH, within=RECOVERY_SECONDS)
        assert self.other.process.returncode is None


async def submit_insistently(
    service: ExecutionService, ledger: Ledger, acknowledged: list[UUID], execution_id: UUID
) -> None:
    """As a patient client does it: until it is acknowledged, or known to be there from an earlier try."""
    with suppress(DuplicateExecutionError):
        await insisting(lambda: service.create_execution("fault.again", ledger.at_once, id=execution_id))
    acknowledged.append(execution_id)


@asynccontextmanager
async def under_load(server: EmbeddedPostgres, ledger: Ledger) -> AsyncIterator[Scene]:
    """At the end the load stops, and whatever was acknowledged has to end."""
    settings = short_settings(server.url, handlers=FAULT_HANDLERS)
    acknowledged: list[UUID] = []
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(worker_process(server.url))
        service = await stack.enter_async_context(open_service(settings))
        await stack.enter_async_context(running_worker(service))
        meter = await stack.enter_async_context(end_meter(server.url))
        submit = partial(submit_insistently, service, ledger, acknowledged)
        async with offered_load(submit, OFFERED_PER_SECOND) as load:
            await meter.reaches(ENOUGH, within=RECOVERY_SECONDS)
            yield Scene(load=load, meter=meter, other=other)
        for execution_id in acknowledged:
            await ended_at_last(service, execution_id)
    assert len(acknowledged) == load.offered
    assert set(ledger.runs()) >= {str(one) for one in acknowledged}


@pytest.mark.parametrize(
    "crashes", [pytest.param(2, marks=pytest.mark.timeout(120)), pytest.param(5, marks=pytest.mark.slow)]
)
async def test_it_crashes_and_comes_back(own_server: EmbeddedPostgres, ledger: Ledger, crashes: int) -> None:
    pids = {own_server.pid}
    async with under_load(own_server, ledger) as scene:
        for _ in range(crashes):
            await own_server.restart("immediate")
            await scene.recovers()
            pids.add(own_server.pid)
    assert len(pids) == crashes + 1
    states = await check_all_ended(own_server.url)
    assert states == {"COMPLETED": scene.load.offered}


@pytest.mark.parametrize(
    "seconds", [pytest.param(5.0, marks=pytest.mark.timeout(120)), pytest.param(30.0, marks=pytest.mark.slow)]
)
async def test_its_sessions_are_terminated_all_the_time(
    own_server: EmbeddedPostgres, ledger: Ledger, chance: Random, seconds: float
) -> None:
    sql = await asyncpg.connect(own_server.url)
    async with under_load(own_server, ledger) as scene:
        terminated = await terminate_sessions(sql, chance, seconds)
        await scene.recovers()
    await sql.close()
    assert terminated >= 0.9 * seconds * TERMINATIONS_PER_SECOND
    assert await check_all_ended(own_server.url) == {"COMPLETED": scene.load.offered}


async def terminate_sessions(sql: AnyConnection, chance: Random, seconds: float) -> int:
    """End a session of somebody else's at each beat; how many there were."""
    until = time.monotonic() + seconds
    terminated = 0
    while time.monotonic() < until:
        sessions = await sql.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if sessions:
            victim = chance.choice(sorted(row["pid"] for row in sessions))
            terminated += await sql.fetchval("SELECT pg_terminate_backend($1)", victim)
        await asyncio.sleep(1 / TERMINATIONS_PER_SECOND)
    return terminated
