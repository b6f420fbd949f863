"""A service with a worker in this process, on intervals short enough for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.handlers import HandlerRegistry
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service
from execution.worker import Worker
from tests.support.waiting import eventually

PATIENCE = 15.0
"""Seconds after which something that should have happened long ago counts as not happening."""

SHORT = {
    "heartbeat_interval_seconds": 0.3,
    "worker_timeout_seconds": 1.5,
    "poll_interval_seconds": 0.5,
    "cancel_grace_seconds": 5.0,
    "drain_timeout_seconds": 3.0,
    "progress_interval_seconds": 0.05,
    "connect_timeout_seconds": 5.0,
}


def short_settings(url: str, **changes: Any) -> Settings:
    """Settings for a database of the test's own."""
    return Settings(**SHORT | {"database_url": url} | changes)


@asynccontextmanager
async def running_worker(service: ExecutionService, worker: Worker | None = None) -> AsyncIterator[Worker]:
    """A worker of the service (or the one given), registered and claiming; drained at the end."""
    worker = worker or service.create_worker()
    running = asyncio.create_task(worker.run(), name="worker under test")
    try:
        async with asyncio.timeout(PATIENCE):
            await _first(running, worker.ready)
        yield worker
    finally:
        worker.stop()
        async with asyncio.timeout(PATIENCE):
            await running


@asynccontextmanager
async def working_service(
    url: str, registry: HandlerRegistry | None = None, **changes: Any
) -> AsyncIterator[ExecutionService]:
    """A service whose executions are run by a worker in this process."""
    async with open_service(short_settings(url, **changes), registry=registry) as service, running_worker(service):
        yield service


async def ended(service: ExecutionService, execution_id: UUID, *, within: float = PATIENCE) -> Execution:
    """The execution once it has ended."""
    return await service.wait(execution_id, within)


async def reached(
    service: ExecutionService, execution_id: UUID, *states: ExecutionState, within: float = PATIENCE
) -> Execution:
    """The execution once its log tells of one of the states; as it is then."""
    async with asyncio.timeout(within):
        async for item in service.watch(execution_id):
            if item.data.get("new_state") in states:
                break
    return await service.get_execution(execution_id)


async def pause_is_requested(service: ExecutionService, execution_id: UUID) -> Execution:
    """The execution once a pause is requested of it."""

    async def requested() -> Execution | None:
        execution = await service.get_execution(execution_id)
        return execution if execution.pause_requested else None

    return await eventually(requested, within=PATIENCE, what="the pause is requested")


async def states_of(service: ExecutionService, execution_id: UUID) -> list[str]:
    """The states it went through, in order."""
    history = await service.get_state_history(execution_id, limit=1000)
    return [item.new_state.value for item in reversed(history)]


@dataclass(kw_only=True)
class Counted:
    """Where a test and its handlers meet: how often they ran, when one has started, when it may go on."""

    started: asyncio.Event
    let_go: asyncio.Event
    runs: int = 0

    @classmethod
    def new(cls) -> Self:
        return cls(started=asyncio.Event(), let_go=asyncio.Event())

    async def has_started(self) -> None:
        """Wait until a handler stands at the gate; the next one starts anew."""
        async with asyncio.timeout(PATIENCE):
            await self.started.wait()
        self.started.clear()

    async def stand(self) -> None:
        """What a handler does at the gate: say that it is there, and wait."""
        self.runs += 1
        self.started.set()
        await self.let_go.wait()


async def _first(running: asyncio.Task[None], ready: asyncio.Event) -> None:
    """Until the worker is ready; what ended it before that is raised."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        running.result()
        raise AssertionError("the worker ended before it was ready")
