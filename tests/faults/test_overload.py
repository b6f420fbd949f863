"""Twice as much is offered as can be done, and goes on being offered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import psutil
import pytest

from execution.errors import OverloadedError
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_all_ended
from tests.support.load import OfferedLoad, offered_load
from tests.support.service import SHORT, short_settings
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

PARAMETERS = {"progress_reports": 3}
LONGEST_WAIT = 0.5
CLIENTS = 100
CLOSED_LOOP = 800
"""Executions under way at once in the closed loop: enough to keep a worker busy, few enough not to overload it."""
WARM_UP_SECONDS = 1.0
MEMORY_MIB = 64


@dataclass
class Observed:
    """What an onlooker saw of a worker."""

    ended: int = 0
    longest_silence: float = 0.0
    memory_mib: int = 0

    async def look(self, sql: AnyConnection, processes: list[psutil.Process]) -> None:
        self.ended = await sql.fetchval("SELECT count(*) FROM executions WHERE completed_at IS NOT NULL")
        silence = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM workers")
        self.longest_silence = max(self.longest_silence, silence)
        self.memory_mib = max(self.memory_mib, *(one.memory_info().rss >> 20 for one in processes))

    async def look_on(self, sql: AnyConnection, processes: list[psutil.Process], seconds: float) -> float:
        """Watch for so long; how many executions ended per second."""
        await self.look(sql, processes)
        began, ended_before = time.monotonic(), self.ended
        while time.monotonic() < began + seconds:
            await asyncio.sleep(0.02)
            await self.look(sql, processes)
        return (self.ended - ended_before) / (time.monotonic() - began)


async def submit(service: ExecutionService, execution_id: UUID | None = None) -> None:
    await service.create_execution("noop", PARAMETERS, id=execution_id)


async def closed_loop(service: ExecutionService, seen: Observed) -> None:
    """Clients that together keep a certain number under way, and no more."""
    submitted = seen.ended

    async def client() -> None:
        nonlocal submitted
        while True:
            if submitted - seen.ended < CLOSED_LOOP:
                submitted += 1
                await submit(service)
            else:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


async def capacity(
    service: ExecutionService, sql: AnyConnection, processes: list[psutil.Process], seconds: float
) -> float:
    """What the service ends per second while its clients wait for it."""
    seen = Observed()
    await seen.look(sql, processes)
    loop = asyncio.create_task(closed_loop(service, seen))
    await seen.look_on(sql, processes, WARM_UP_SECONDS)
    per_second = await seen.look_on(sql, processes, seconds)
    loop.cancel()
    await asyncio.wait([loop])
    return per_second


async def nothing_is_left(sql: AnyConnection) -> bool:
    left: bool = await sql.fetchval("SELECT EXISTS (SELECT FROM executions WHERE completed_at IS NULL)")
    return not left


def assert_was_overloaded(load: OfferedLoad, per_second: float) -> None:
    """The fault was there: more was offered than could be done, and the excess was refused in words."""
    assert load.offered > 1.5 * per_second
    assert load.refused > 0.1 * load.offered


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        pytest.param(5.0, 0.7),
        pytest.param(60.0, 0.9, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_it_goes_on_ending_what_it_can(database_url: str, seconds: float, share: float) -> None:
    sql = await asyncpg.connect(database_url)
    settings = short_settings(database_url, longest_wait_seconds=LONGEST_WAIT)
    async with worker_process(database_url, progress_interval_seconds=0) as worker, open_service(settings) as service:
        processes = [psutil.Process(), psutil.Process(worker.pid)]
        per_second = await capacity(service, sql, processes, min(seconds / 2, 15.0))
        before, seen = Observed(), Observed()
        await before.look(sql, processes)
        async with offered_load(lambda execution_id: submit(service, execution_id), 2 * per_second) as load:
            goodput = await seen.look_on(sql, processes, seconds)
        assert_was_overloaded(load, per_second * seconds)
        assert goodput >= share * per_second
        assert seen.longest_silence < SHORT["worker_timeout_seconds"]
        assert await sql.fetchval("SELECT count(*) FROM workers") == 1, "the worker was declared dead"
        assert seen.memory_mib < before.memory_mib + MEMORY_MIB
        await eventually(lambda: nothing_is_left(sql), within=60.0, what="what was admitted has ended")
    await sql.close()
    await check_all_ended(database_url)


async def test_refusals_end_with_the_backlog(database_url: str) -> None:
    settings = short_settings(database_url, longest_wait_seconds=LONGEST_WAIT)
    async with open_service(settings) as service:
        first = await service.create_execution("noop")
        with pytest.raises(OverloadedError, match="'noop' have waited"):
            await insist_on_refusal(service)
        assert (await service.create_execution("files.inventory", {"path": "."})).kind == "files.inventory"
        async with worker_process(database_url):
            await service.wait(first.id, 10.0)
            await eventually(lambda: is_admitted(service), within=10.0, what="it is admitted again")


async def insist_on_refusal(service: ExecutionService) -> None:
    """Submit what nobody runs, again and again, until that is refused."""
    async with asyncio.timeout(10.0):
        while True:
            await submit(service)
            await asyncio.sleep(0.05)


async def is_admitted(service: ExecutionService) -> bool:
    try:
        await submit(service)
    except OverloadedError:
        return False
    return True
