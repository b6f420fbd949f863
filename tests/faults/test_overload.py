"""Twice as much is offered as can be done, and goes on being offered."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import mean
from uuid import UUID

import asyncpg
import psutil
import pytest

from execution.errors import OverloadedError
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_all_ended
from tests.support.load import offered_load
from tests.support.service import SHORT, short_settings
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

log = logging.getLogger(__name__)

PARAMETERS = {"progress_reports": 3}
LONGEST_WAIT = 0.5
CLIENTS = 100
CLOSED_LOOP = 500
"""Executions under way at once in the closed loop: enough to keep a worker busy, few enough not to overload it."""
PAUSE_SECONDS = 0.005
WARM_UP_SECONDS = 1.0
MEASURED = 1 / 4
"""The capacity is measured for so long a share of the overload, on either side of it."""
SETTLING = 1 / 4
"""Share of an overload after which all is as it stays: caches are full, crowds have been seen."""
MEMORY_MIB = 64
"""A process grows by less than this in all ..."""
LATE_MEMORY_MIB = 16
"""... and by less than this once it has settled: of the executions of a minute none leaves as much as 100 bytes."""


@dataclass
class Memory:
    """How far processes have grown beyond what they held at the first look."""

    first_mib: dict[int, int] = field(default_factory=dict)
    growth_mib: int = 0

    def look(self, one: psutil.Process) -> None:
        resident = one.memory_info().rss >> 20
        self.growth_mib = max(self.growth_mib, resident - self.first_mib.setdefault(one.pid, resident))


@dataclass
class Observed:
    """What an onlooker saw of a worker, and of the memory of processes: from the first look on, and since `settled`."""

    longest_silence: float = 0.0
    memory: Memory = field(default_factory=Memory)
    late_memory: Memory = field(default_factory=Memory)

    def settled(self) -> None:
        """From here on they should hardly grow."""
        self.late_memory = Memory()

    async def look(self, sql: AnyConnection, processes: list[psutil.Process]) -> None:
        silence = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM workers")
        self.longest_silence = max(self.longest_silence, silence)
        for one in processes:
            self.memory.look(one)
            self.late_memory.look(one)

    async def look_on(self, sql: AnyConnection, processes: list[psutil.Process], seconds: float) -> float:
        """Watch for so long; how many executions ended per second. Counted at both ends only: it reads the table."""
        began, ended_before = time.monotonic(), await ended_so_far(sql)
        while time.monotonic() < began + seconds:
            await self.look(sql, processes)
            await asyncio.sleep(0.1)
        ended_at, ended = time.monotonic(), await ended_so_far(sql)
        return (ended - ended_before) / (ended_at - began)


async def ended_so_far(sql: AnyConnection) -> int:
    ended: int = await sql.fetchval("SELECT count(*) FROM executions WHERE completed_at IS NOT NULL")
    return ended


async def under_way(sql: AnyConnection) -> int:
    """How many wait or run, by the indexes that hold no others."""
    waiting: int = await sql.fetchval("SELECT count(*) FROM executions WHERE state = 'PENDING'")
    held: int = await sql.fetchval("SELECT count(*) FROM executions WHERE worker_id IS NOT NULL")
    return waiting + held


async def submit(service: ExecutionService, execution_id: UUID | None = None) -> None:
    await service.create_execution("noop", PARAMETERS, id=execution_id)


async def closed_loop(service: ExecutionService, url: str) -> None:
    """Clients that together keep a certain number under way, and no more; who is refused tries again."""
    room = 0

    async def client() -> None:
        nonlocal room
        while True:
            if room > 0:
                room -= 1
                with suppress(OverloadedError):
                    await submit(service)
                    continue
            await asyncio.sleep(PAUSE_SECONDS)

    sql = await asyncpg.connect(url, server_settings={"enable_seqscan": "off"})
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
            while True:
                room = CLOSED_LOOP - await under_way(sql)
                await asyncio.sleep(0.01)
    finally:
        await sql.close()


@dataclass(frozen=True)
class Scene:
    """A service that submits, a worker in a process of its own, and an onlooker's connection."""

    service: ExecutionService
    url: str
    sql: AnyConnection
    processes: list[psutil.Process]
    seen: Observed = field(default_factory=Observed)

    async def capacity(self, seconds: float) -> float:
        """What the service ends per second while its clients wait for it."""
        loop = asyncio.create_task(closed_loop(self.service, self.url))
        await self.seen.look_on(self.sql, self.processes, WARM_UP_SECONDS)
        per_second = await self.seen.look_on(self.sql, self.processes, seconds)
        assert not loop.done(), "the clients of the closed loop have given up"
        loop.cancel()
        await asyncio.wait([loop])
        return per_second

    async def overload(self, per_second: float, seconds: float) -> float:
        """What it ends per second while that much is offered, which is more than it can do; 0 if it was not."""
        async with offered_load(lambda execution_id: submit(self.service, execution_id), per_second) as load:
            early = await self.seen.look_on(self.sql, self.processes, seconds * SETTLING)
            self.seen.settled()
            late = await self.seen.look_on(self.sql, self.processes, seconds * (1 - SETTLING))
        was_offered = load.offered > 0.75 * per_second * seconds
        was_too_much = load.refused > 0.1 * load.offered
        log.info("offered %d, refused %d; ended per second: %.0f, then %.0f", load.offered, load.refused, early, late)
        return early * SETTLING + late * (1 - SETTLING) if was_offered and was_too_much else 0.0

    async def share(self, seconds: float) -> float:
        """What it ends under twice as much as it can, as a share of what it can: before and after, as tables grow."""
        before = await self.capacity(seconds * MEASURED)
        goodput = await self.overload(2 * before, seconds)
        await self.settles()
        after = await self.capacity(seconds * MEASURED)
        reached = goodput / mean([before, after])
        log.info(
            "%.3f of the capacity: %.0f, of %.0f before and %.0f after; %s", reached, goodput, before, after, self.seen
        )
        return reached

    async def settles(self) -> None:
        await eventually(lambda: nothing_is_left(self.sql), within=60.0, what="what was admitted has ended")


async def nothing_is_left(sql: AnyConnection) -> bool:
    left: bool = await sql.fetchval("SELECT EXISTS (SELECT FROM executions WHERE completed_at IS NULL)")
    return not left


@pytest.mark.parametrize(
    ("seconds", "share", "tries"),
    [
        # In the suite, beside whatever else runs on the same cores, and disturbs the one or what it is held against.
        pytest.param(5.0, 0.4, 3, marks=pytest.mark.timeout(240)),
        pytest.param(60.0, 0.9, 1, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_it_goes_on_ending_what_it_can(database_url: str, seconds: float, share: float, tries: int) -> None:
    sql = await asyncpg.connect(database_url)
    settings = short_settings(database_url, longest_wait_seconds=LONGEST_WAIT)
    reached: list[float] = []
    async with worker_process(database_url, progress_interval_seconds=0) as worker, open_service(settings) as service:
        scene = Scene(service, database_url, sql, [psutil.Process(), psutil.Process(worker.pid)])
        while len(reached) < tries and (not reached or reached[-1] < share):
            reached.append(await scene.share(seconds))
        assert await sql.fetchval("SELECT count(*) FROM workers") == 1, "the worker was declared dead"
        await scene.settles()
    await sql.close()
    assert scene.seen.longest_silence < SHORT["worker_timeout_seconds"]
    assert scene.seen.memory.growth_mib < MEMORY_MIB, scene.seen
    assert scene.seen.late_memory.growth_mib < LATE_MEMORY_MIB, scene.seen
    assert reached[-1] >= share, f"{reached}; 0: more than it can was not offered, or the excess not refused"
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
