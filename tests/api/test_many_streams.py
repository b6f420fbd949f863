"""Many streams at once: nothing is lost or repeated, connections do not grow, memory is bounded, nobody is held up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from uuid import UUID

import pytest

from execution.domain.commands import ReportProgress
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.support.sse import EventStreamClient, event_stream
from tests.support.stored import AnyConnection
from tests.support.stream_server import StreamServer, stream_server
from tests.support.waiting import eventually

REPORTS = 12
LAST = 3 + REPORTS + 2
KIB = 1024


@dataclass(frozen=True)
class Crowd:
    """How many follow how many."""

    subscribers: int
    executions: int
    within: float
    """Seconds for all of it."""


SMALL = Crowd(subscribers=100, executions=20, within=30)
LARGE = Crowd(subscribers=1_000, executions=100, within=240)
CROWDS = [
    pytest.param(SMALL, id="small"),
    pytest.param(LARGE, id="large", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
]


async def started(service: ExecutionService, count: int) -> list[Execution]:
    executions = await asyncio.gather(*(service.create_execution("noop") for _ in range(count)))
    manager = service.state_manager
    return await asyncio.gather(*(manager.change_state(one.id, ExecutionState.RUNNING) for one in executions))


async def live(service: ExecutionService, execution: Execution, chance: Random) -> None:
    """Some life, and its end."""
    for number in range(REPORTS):
        await asyncio.sleep(chance.random() * 0.2)
        await service.state_manager.apply(execution.id, ReportProgress(percentage=number + 1))
    await service.submit_result(execution.id, {})


async def restless(servers: Sequence[StreamServer], execution_id: UUID, chance: Random) -> list[int]:
    """The versions seen by one who breaks off at some point, and comes back to one of the servers, to the end."""
    versions: list[int] = []
    last: str | None = None
    while not versions or versions[-1] != LAST:
        path = f"/v1/executions/{execution_id}/events"
        async with event_stream(chance.choice(servers).url, path, last_event_id=last) as stream:
            if stream.status == HTTPStatus.SERVICE_UNAVAILABLE:  # too many come at once: as it says, a little later
                await asyncio.sleep(float(stream.headers["retry-after"]) * (0.5 + chance.random()))
                continue
            assert stream.status == HTTPStatus.OK
            versions += await seen_of(stream, chance.randint(1, LAST))
            last = str(versions[-1]) if versions else None
    return versions


async def seen_of(stream: EventStreamClient, count: int) -> list[int]:
    """The next versions, so many or until the stream ends."""
    versions: list[int] = []
    while len(versions) < count and (event := await stream.next()) is not None:
        assert event.id == str(event.data["version"])
        versions.append(event.data["version"])
    return versions


async def sessions(sql: AnyConnection) -> int:
    return int(await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"))


@pytest.mark.parametrize("crowd", CROWDS)
async def test_who_breaks_off_anywhere_and_goes_on_elsewhere_sees_everything_once(
    service: ExecutionService, database_url: str, chance: Random, crowd: Crowd
) -> None:
    executions = await started(service, crowd.executions)
    async with stream_server(database_url) as one, stream_server(database_url) as other, asyncio.timeout(crowd.within):
        subscribers = [
            asyncio.create_task(restless([one, other], executions[number % crowd.executions].id, chance))
            for number in range(crowd.subscribers)
        ]
        await asyncio.gather(*(live(service, execution, chance) for execution in executions))
        for versions in await asyncio.gather(*subscribers):
            assert versions == list(range(1, LAST + 1))


@pytest.mark.parametrize("crowd", CROWDS)
async def test_a_subscriber_costs_little_memory_and_no_connection(
    service: ExecutionService,
    database_url: str,
    sql: AnyConnection,
    crowd: Crowd,
) -> None:
    executions = await started(service, crowd.executions)
    paths = [f"/v1/executions/{executions[n % crowd.executions].id}/events" for n in range(crowd.subscribers)]
    async with stream_server(database_url) as server, AsyncExitStack() as stack, asyncio.timeout(crowd.within):
        for path in [paths[0], "/v1/events"] * 20:  # what a process needs once, it has afterwards
            async with event_stream(server.url, path) as stream:
                await stream.next() if path != "/v1/events" else None
        await eventually(lambda: is_left_alone(server), within=5, what="no stream")
        before, connections = await server.report(), await sessions(sql)
        streams = [await stack.enter_async_context(event_stream(server.url, path)) for path in paths[::2]]
        tenants = [await stack.enter_async_context(event_stream(server.url, "/v1/events")) for _ in paths[1::2]]
        await asyncio.gather(*(stream.some(3) for stream in streams))
        await service.report_progress(executions[0].id, 50, "to all")
        await asyncio.gather(*(stream.some(1) for stream in tenants))
        after = await server.report()
        assert after["streams"] == crowd.subscribers
        each = (after["rss"] - before["rss"]) / crowd.subscribers / KIB
        assert each <= 50, f"KiB for each of {crowd.subscribers}"
        assert await sessions(sql) <= connections + 2, "the pool may have grown, the crowd is nothing to it"


async def is_left_alone(server: StreamServer) -> bool:
    return (await server.report())["streams"] == 0


async def test_sigterm_ends_all_of_them_in_time(service: ExecutionService, database_url: str) -> None:
    (execution,) = await started(service, 1)
    async with stream_server(database_url) as server, AsyncExitStack() as stack:
        path = f"/v1/executions/{execution.id}/events"
        streams = [await stack.enter_async_context(event_stream(server.url, path)) for _ in range(50)]
        frozen = await stack.enter_async_context(event_stream(server.url, "/v1/events"))
        frozen.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.gather(*(stream.some(3) for stream in streams))
        began = asyncio.get_running_loop().time()
        ended = asyncio.create_task(server.terminated())
        assert await asyncio.gather(*(stream.all() for stream in streams)) == [[]] * 50
        assert await ended == 0
        assert asyncio.get_running_loop().time() - began < 5
