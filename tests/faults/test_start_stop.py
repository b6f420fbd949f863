"""Every part that starts and stops, many at once, in every manner: before, twice, cancelled. Nothing leaks or hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest

from events.bus import InProcessEventBus
from execution.embedded import EmbeddedPostgres
from execution.model_service import embedded_command_bus
from execution.repository.connections import Connector
from execution.repository.database import Database
from execution.repository.lanes import AppendLanes
from execution.repository.listening_connection import ListeningConnection
from execution.repository.wakeups import Wakeups
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service
from tests.support.cancelling import is_cancelled_at
from tests.support.database import SERVER_OVERRIDES
from tests.support.leaks import fill_pool, nothing_stays_open
from tests.support.service import PATIENCE, short_settings
from tests.support.stored import AnyConnection

AT_ONCE = 6
SHORT_SECONDS = 0.01
PARTS = ["database", "lanes", "wakeups", "service", "embedded", "worker", "program"]

Life = Coroutine[Any, Any, None]


class Startable(Protocol):
    """What has a start and a stop."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass
class Place:
    """Where parts start: a database, a service on it that is there already, and the folder of a server that runs."""

    settings: Settings
    service: ExecutionService
    folder: Path

    def life(self, part: str, chance: Random) -> Life:
        """One part's way from its start to its stop, which may be stopped before and more than once."""
        match part:
            case "worker":
                return run_worker(self.service, chance)
            case "program":
                return run_program(self.settings, chance)
            case _:
                return start_and_stop(self._startable(part), chance)

    def _startable(self, part: str) -> Startable:
        url = self.settings.database_url.get_secret_value() if self.settings.database_url else ""
        connector = Connector(url, connect_timeout=5, statement_timeout=5, application_name="started and stopped")
        match part:
            case "database":
                return Database(url)
            case "lanes":
                listening = ListeningConnection(connector)
                return Unwound(
                    AppendLanes(connector, listening, lanes=2, batch_limit=10, patience=5, creations_limit=10)
                )
            case "wakeups":
                return Wakeups(connector, enabled=True)
            case "service":
                buses = InProcessEventBus(), embedded_command_bus()
                return ExecutionService(self.service.repository.db, *buses, self.settings)
            case "embedded":
                return EmbeddedPostgres(self.folder, overrides=SERVER_OVERRIDES)
        raise ValueError(part)


class Unwound:
    """A part of the database's, which is stopped by it when the start fails."""

    def __init__(self, part: Startable) -> None:
        self._part = part
        self.stop = part.stop

    async def start(self) -> None:
        try:
            await self._part.start()
        except BaseException:
            await self._part.stop()
            raise


async def start_and_stop(part: Startable, chance: Random) -> None:
    if chance.random() < 0.5:
        await part.stop()
    await part.start()
    for _ in range(chance.randint(1, 2)):
        await part.stop()


async def run_worker(service: ExecutionService, chance: Random) -> None:
    """A worker is stopped before its start, or as soon as it claims."""
    worker = service.create_worker()
    if chance.random() < 0.2:
        worker.stop()
    stopping = asyncio.create_task(stop_once_ready(worker.ready, worker.stop))
    try:
        await worker.run()
    finally:
        stopping.cancel()


async def run_program(settings: Settings, chance: Random) -> None:
    """Everything, as the command `execution worker` does it."""
    async with open_service(settings) as service:
        await run_worker(service, chance)


async def stop_once_ready(ready: asyncio.Event, stop: Callable[[], None]) -> None:
    await ready.wait()
    stop()


@pytest.fixture
async def place(database_url: str, server: EmbeddedPostgres, sql: AnyConnection) -> AsyncIterator[Place]:
    """One execution is always there to be run, given up and run again."""
    settings = short_settings(database_url, drain_timeout_seconds=0.02)
    async with open_service(settings) as service:
        await fill_pool(service.repository.db)
        await service.create_execution("noop", {"seconds": 3_600})
        yield Place(settings, service, server.data_dir)
    assert await sql.fetchval("SELECT count(*) FROM workers WHERE dead_at IS NULL") == 0, "every worker has signed off"


async def usual_seconds(place: Place, part: str) -> float:
    """How long a life takes that nobody disturbs; the first one, which loads modules, does not count."""
    await place.life(part, Random(1))
    began = time.monotonic()
    await place.life(part, Random(1))
    return time.monotonic() - began


async def pass_time(task: asyncio.Task[None], seconds: float) -> None:
    """Until the task is done or the time is over: a short one in turns of the loop, because a timer would be late."""
    if seconds > SHORT_SECONDS:
        await asyncio.wait([task], timeout=seconds)
        return
    until = time.monotonic() + seconds
    while not task.done() and time.monotonic() < until:  # noqa: ASYNC110 - nothing signals that time has passed
        await asyncio.sleep(0)


async def live(life: Life, cancellations: list[float]) -> bool:
    """One life, cancelled after so many seconds each; was it?"""
    task = asyncio.create_task(life, name="life")
    for seconds in cancellations:
        await pass_time(task, seconds)
        task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    assert done, f"it hangs at {task.get_stack()}"
    if not task.cancelled():
        task.result()
    return task.cancelled()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("lives", [60, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_many_at_once(place: Place, sql: AnyConnection, chance: Random, part: str, lives: int) -> None:
    usual = await usual_seconds(place, part)
    cancelled: list[bool] = []

    async def one_after_the_other() -> None:
        for _ in range(lives // AT_ONCE):
            cancellations = [chance.uniform(0, usual) for _ in range(chance.randint(0, 2))]
            cancelled.append(await live(place.life(part, chance), cancellations))

    async with nothing_stays_open(sql), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    assert 0 < sum(cancelled) < lives, "some are cancelled, some are not"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
async def test_cancelled_wherever_it_waits(place: Place, sql: AnyConnection, part: str, times: int) -> None:
    await place.life(part, Random(1))
    wait = 1
    async with nothing_stays_open(sql):
        while await is_cancelled_at(wait, place.life(part, Random(1)), within=PATIENCE, times=times):
            wait += 1
    assert wait > 1
