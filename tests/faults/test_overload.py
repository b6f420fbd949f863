"""Twice as much is offered as can be done, and goes on being offered."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from uuid import UUID

import asyncpg
import psutil
import pytest

from benchmarks.metering import Meter
from benchmarks.usage import Usage
from execution.embedded import EmbeddedPostgres
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
"""The capacity is measured for so long a share of the overload, before it and perhaps after it."""
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

    def look(self, pid: int) -> None:
        resident = psutil.Process(pid).memory_info().rss >> 20
        self.growth_mib = max(self.growth_mib, resident - self.first_mib.setdefault(pid, resident))


@dataclass
class Observed:
    """What an onlooker saw of a worker, and of the memory of processes: from the first look on, and since `settled`."""

    longest_silence: float = 0.0
    memory: Memory = field(default_factory=Memory)
    late_memory: Memory = field(default_factory=Memory)

    def settled(self) -> None:
        """From here on they should hardly grow."""
        self.late_memory = Memory()

    async def look(self, sql: AnyConnection, processes: Iterable[int]) -> None:
        silence = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM workers")
        self.longest_silence = max(self.longest_silence, silence)
        for pid in processes:
            self.memory.look(pid)
            self.late_memory.look(pid)


def undisturbed(usage: Usage) -> float:
    """How many came to a good end per second, not counting the processor time that went to other programs."""
    return usage.executions / (usage.seconds - usage.others / usage.processors)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How many have ended, and how many of them had waited no longer for a worker than any may."""

    all: int
    good: int
    """What comes too late does no good."""

    def __sub__(self, earlier: Ended) -> Ended:
        return Ended(all=self.all - earlier.all, good=self.good - earlier.good)


async def ended_so_far(sql: AnyConnection) -> Ended:
    row = await sql.fetchrow(
        "SELECT count(*) AS all, count(*) FILTER (WHERE started_at <= created_at + make_interval(secs => $1)) AS good"
        " FROM executions WHERE completed_at IS NOT NULL",
        LONGEST_WAIT,
    )
    assert row is not None
    return Ended(**row)


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


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What came of an overload."""

    share: float
    """What came to a good end per second, as a share of what can; 0 if no more was offered than that."""
    in_time: float
    """The share of what ended, once all was as it stays, that came to a good end."""

    def is_at_least(self, bound: Reached) -> bool:
        return self.share >= bound.share and self.in_time >= bound.in_time


@dataclass(frozen=True, kw_only=True)
class Form:
    """How long it is overloaded, and what has to come of it, at least once in so many tries."""

    seconds: float
    least: Reached
    tries: int
    measures_again: bool
    """Is the capacity measured afterwards, too? It falls as the tables grow."""


SHORT_FORM = Form(seconds=3.0, least=Reached(share=0.4, in_time=0.8), tries=3, measures_again=False)
"""In the suite, beside whatever else runs on the same cores, and disturbs the one or what it is held against. What ends
too late shows all the same: where the age of the oldest alone decides who is admitted, half does."""
LONG_FORM = Form(seconds=60.0, least=Reached(share=0.9, in_time=0.9), tries=1, measures_again=True)


@dataclass
class Scene:
    """A service that submits, a worker in a process of its own, and an onlooker's connection."""

    service: ExecutionService
    url: str
    sql: AnyConnection
    meter: Meter
    seen: Observed = field(default_factory=Observed)
    late: Ended = field(default_factory=lambda: Ended(all=0, good=0))
    """What ended in the part of the overload in which all was as it stays."""

    async def capacity(self, seconds: float) -> Usage:
        """What the service ends while its clients wait for it."""
        loop = asyncio.create_task(closed_loop(self.service, self.url))
        await self.look_on(WARM_UP_SECONDS)
        usage = await self.meter.metered(partial(self.look_on, seconds))
        assert not loop.done(), "the clients of the closed loop have given up"
        loop.cancel()
        await asyncio.wait([loop])
        return usage

    async def overload(self, per_second: float, seconds: float) -> Usage | None:
        """What it ends while that much is offered, which is more than it can do; None if it was not."""
        async with offered_load(lambda execution_id: submit(self.service, execution_id), per_second) as load:
            usage = await self.meter.metered(partial(self.settle_and_look_on, seconds))
        log.info("offered %d, refused %d", load.offered, load.refused)
        was_offered = load.offered > 0.75 * per_second * seconds
        was_too_much = usage.executions < 0.9 * load.offered
        return usage if was_offered and was_too_much else None

    async def reached(self, form: Form) -> Reached:
        """What it ends under twice as much as it can, beside what it can."""
        capacities = [await self.capacity(form.seconds * MEASURED)]
        during = await self.overload(2 * capacities[0].per_second, form.seconds)
        await self.settles()
        if form.measures_again:
            capacities.append(await self.capacity(form.seconds * MEASURED))
        log.info("%s; during: %s; capacities: %s", self.seen, during, capacities)
        share = undisturbed(during) / mean(map(undisturbed, capacities)) if during else 0.0
        return Reached(share=share, in_time=self.late.good / max(1, self.late.all))

    async def settle_and_look_on(self, seconds: float) -> int:
        """As `look_on`; from a part of the time on, memory must hardly grow."""
        early = await self.look_on(seconds * SETTLING)
        self.seen.settled()
        settled = await ended_so_far(self.sql)
        good = early + await self.look_on(seconds * (1 - SETTLING))
        self.late = await ended_so_far(self.sql) - settled
        return good

    async def look_on(self, seconds: float) -> int:
        """Watch for so long; how many came to a good end. Counted at both ends only: it reads the table."""
        until, before = time.monotonic() + seconds, await ended_so_far(self.sql)
        while time.monotonic() < until:
            await self.seen.look(self.sql, self.meter.service.values())
            await asyncio.sleep(0.1)
        return (await ended_so_far(self.sql) - before).good

    async def settles(self) -> None:
        await eventually(lambda: nothing_is_left(self.sql), within=60.0, what="what was admitted has ended")


async def nothing_is_left(sql: AnyConnection) -> bool:
    left: bool = await sql.fetchval("SELECT EXISTS (SELECT FROM executions WHERE completed_at IS NULL)")
    return not left


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(SHORT_FORM, id="short", marks=pytest.mark.timeout(240)),
        pytest.param(LONG_FORM, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_it_goes_on_ending_what_it_can(database_url: str, server: EmbeddedPostgres, form: Form) -> None:
    sql = await asyncpg.connect(database_url)
    settings = short_settings(database_url, longest_wait_seconds=LONGEST_WAIT)
    reached: list[Reached] = []
    async with worker_process(database_url, progress_interval_seconds=0) as worker, open_service(settings) as service:
        assert server.pid is not None
        meter = Meter(connection=sql, server=server.pid, service={"clients": os.getpid(), "worker": worker.pid})
        scene = Scene(service, database_url, sql, meter)
        while len(reached) < form.tries and not (reached and reached[-1].is_at_least(form.least)):
            reached.append(await scene.reached(form))
        assert await sql.fetchval("SELECT count(*) FROM workers") == 1, "the worker was declared dead"
        await scene.settles()
    await sql.close()
    assert scene.seen.longest_silence < SHORT["worker_timeout_seconds"]
    assert scene.seen.memory.growth_mib < MEMORY_MIB, scene.seen
    assert scene.seen.late_memory.growth_mib < LATE_MEMORY_MIB, scene.seen
    log.info("%s", reached)
    assert reached[-1].is_at_least(form.least), reached
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
