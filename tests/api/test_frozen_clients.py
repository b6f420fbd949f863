"""Clients that stop reading: they are cut, what is kept for them is bounded, and they hold up nobody."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI

from execution.api.server import HttpServer
from execution.domain.commands import ReportProgress
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.support.service import PATIENCE
from tests.support.sse import EventStreamClient, event_stream
from tests.support.waiting import eventually

LARGE = "x" * 100_000
"""Of one entry: some dozens of them fill every buffer of a socket."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("execution.api.protocol.STALLED_SECONDS", 1.0)


def freeze(stream: EventStreamClient) -> None:
    """It reads nothing more of its socket."""
    stream.reader._transport.pause_reading()  # type: ignore[attr-defined]


def thaw(stream: EventStreamClient) -> None:
    stream.reader._transport.resume_reading()  # type: ignore[attr-defined]


async def running(service: ExecutionService) -> Execution:
    execution = await service.create_execution("noop")
    return await service.state_manager.change_state(execution.id, ExecutionState.RUNNING)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("of_all", [False, True])
async def test_one_is_cut_the_others_go_on_and_it_can_come_back(
    service: ExecutionService, app: FastAPI, live: HttpServer, of_all: bool
) -> None:
    execution = await running(service)
    path = "/v1/events" if of_all else f"/v1/executions/{execution.id}/events?after=3"
    open_streams = app.state.door.streams
    async with event_stream(live.url, path) as frozen, event_stream(live.url, path) as reader:
        await service.report_progress(execution.id, 1)
        (first,) = await frozen.some(1)
        await reader.some(1)
        freeze(frozen)
        loop, slowest, percentage = asyncio.get_running_loop(), 0.0, 1.0
        async with asyncio.timeout(PATIENCE):
            while len(open_streams) == 2:
                percentage = min(percentage + 0.1, 99)
                sent = loop.time()
                report = ReportProgress(percentage=percentage, context={"text": LARGE, "number": percentage})
                await service.state_manager.apply(execution.id, report)
                await reader.some(1)
                slowest = max(slowest, loop.time() - sent)
        assert slowest < 1, "who reads does not notice"
        thaw(frozen)
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                await frozen.all()
    last = (await service.get_execution(execution.id)).version
    async with event_stream(live.url, path, last_event_id=first.id) as again:
        events = await again.some(last - 4)
        assert [event.data["version"] for event in events] == list(range(5, last + 1))


async def test_a_slow_one_gets_everything(service: ExecutionService, live: HttpServer) -> None:
    """It falls behind by more than is kept for it, and is not cut, because it reads on."""
    execution = await running(service)
    path = f"/v1/executions/{execution.id}/events"
    async with event_stream(live.url, path) as slow, event_stream(live.url, "/v1/events") as slow_of_all:
        for number in range(100):
            report = ReportProgress(percentage=number, context={"text": LARGE, "number": number})
            await service.state_manager.apply(execution.id, report)
        last = (await service.get_execution(execution.id)).version
        assert [event.id for event in await slow.some(last)] == [str(one) for one in range(1, last + 1)]
        assert [event.data["version"] for event in await slow_of_all.some(last - 3)] == list(range(4, last + 1))


async def test_one_who_leaves_while_it_is_frozen_is_forgotten(
    service: ExecutionService, app: FastAPI, live: HttpServer
) -> None:
    execution = await running(service)
    async with event_stream(live.url, f"/v1/executions/{execution.id}/events") as frozen:
        await frozen.some(3)
        freeze(frozen)
    await eventually(lambda: len(app.state.door.streams) == 0, within=PATIENCE, what="no stream")
