"""Watching and waiting: live, resumable anywhere; and the event bus, which says what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from events.bus import BusEvent, InProcessEventBus, Subscription
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.errors import ServiceClosedError, WaitTimeoutError
from execution.handlers import HandlerRegistry, TaskContext
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import PATIENCE, Counted, ended, short_settings, working_service
from tests.support.waiting import no_leaked_tasks

S = ExecutionState
KIND = "under.test"

IDENTITY = {"execution_id", "agent_id", "task_id", "version", "occurred_at"}
PAYLOADS = {
    "agent.execution.state_changed": IDENTITY | {"previous_state", "new_state", "reason"},
    "agent.execution.progress": IDENTITY | {"percentage", "message", "context"},
    "agent.execution.completed": IDENTITY
    | {"state", "result", "error", "started_at", "completed_at", "duration_seconds"},
}


class Steps(Counted):
    """A handler that reports, stands at its gate, and reports again."""

    async def handle(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        context.progress(50, "half", {"step": 1})
        await self.stand()
        context.progress(100, "done", {"step": 2})
        return {"answer": 42}


@pytest.fixture
def steps() -> Steps:
    return Steps.new()


@pytest.fixture
async def service(database_url: str, steps: Steps) -> AsyncIterator[ExecutionService]:
    registry = HandlerRegistry()
    registry.register(KIND, steps.handle)
    async with working_service(database_url, registry) as service:
        yield service
        steps.let_go.set()


async def watched(service: ExecutionService, execution_id: UUID, *, after: int = 0) -> list[HistoryItem]:
    """Everything until the watch ends by itself."""
    async with asyncio.timeout(PATIENCE):
        return [item async for item in service.watch(execution_id, after_version=after)]


async def watched_until(service: ExecutionService, execution_id: UUID, event_type: str) -> list[HistoryItem]:
    """Everything up to the first entry of a type; then the watch is broken off."""
    seen: list[HistoryItem] = []
    async with asyncio.timeout(PATIENCE):
        async for item in service.watch(execution_id):
            seen.append(item)
            if item.type.endswith(event_type):
                return seen
    raise AssertionError("the watch ended before")


class TestWatch:
    async def test_it_ends_with_the_completed_entry(self, service: ExecutionService, steps: Steps) -> None:
        steps.let_go.set()
        execution = await service.create_execution(KIND)
        seen = await watched(service, execution.id)
        assert [item.version for item in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].is_final
        assert seen[-1].data["result"] == {"answer": 42}
        assert await watched(service, execution.id) == seen, "the same again for one who comes late"
        assert await watched(service, execution.id, after=seen[-1].version) == []

    async def test_broken_off_here_and_gone_on_elsewhere(
        self, service: ExecutionService, steps: Steps, database_url: str
    ) -> None:
        execution = await service.create_execution(KIND)
        first = await watched_until(service, execution.id, "progress")
        async with open_service(short_settings(database_url)) as elsewhere:
            following = asyncio.create_task(watched(elsewhere, execution.id, after=first[-1].version))
            steps.let_go.set()
            rest = await following
        merged = [item.version for item in (*first, *rest)]
        assert merged == list(range(1, (await service.get_execution(execution.id)).version + 1))
        assert rest[-1].is_final

    async def test_a_retry_goes_on_where_the_first_end_was(self, service: ExecutionService, steps: Steps) -> None:
        execution = await service.create_execution(KIND)
        await steps.has_started()
        await service.submit_result(execution.id, error={"type": "Boom", "message": ""})
        first = await watched(service, execution.id)
        await service.retry_execution(execution.id)
        steps.let_go.set()
        await ended(service, execution.id)
        rest = await watched(service, execution.id, after=first[-1].version)
        assert [item.version for item in (*first, *rest)] == list(range(1, len(first) + len(rest) + 1))
        assert [item.data["state"] for item in (*first, *rest) if item.is_final] == ["FAILED", "COMPLETED"]

    async def test_many_watch_one(self, service: ExecutionService, steps: Steps) -> None:
        execution = await service.create_execution(KIND)
        watchers = [asyncio.create_task(watched(service, execution.id)) for _ in range(50)]
        await steps.has_started()
        steps.let_go.set()
        seen = await asyncio.gather(*watchers)
        assert all(one == seen[0] for one in seen)

    async def test_a_service_that_stops_tells_its_watchers(self, database_url: str) -> None:
        async with no_leaked_tasks():
            async with open_service(short_settings(database_url)) as service:
                execution = await service.create_execution("noop", start=False)
                watch = service.watch(execution.id)
                assert (await anext(watch)).version == 1
                waiting = asyncio.create_task(_next(watch))
            with pytest.raises(ServiceClosedError):
                await waiting


class TestWait:
    async def test_it_gives_the_ended_execution(self, service: ExecutionService, steps: Steps) -> None:
        execution = await service.create_execution(KIND)
        waiting = asyncio.create_task(service.wait(execution.id, PATIENCE))
        await steps.has_started()
        steps.let_go.set()
        after = await waiting
        assert (after.state, after.result) == (S.COMPLETED, {"answer": 42})
        before_a_poll = service.settings.poll_interval_seconds / 2
        assert await service.wait(execution.id, before_a_poll) == after, "what has ended is there at once"

    async def test_it_gives_up_and_the_execution_goes_on(self, service: ExecutionService, steps: Steps) -> None:
        execution = await service.create_execution(KIND)
        with pytest.raises(WaitTimeoutError, match=r"has not ended after 0.05 s; it goes on"):
            await service.wait(execution.id, 0.05)
        await steps.has_started()
        steps.let_go.set()
        assert (await ended(service, execution.id)).state is S.COMPLETED

    async def test_waiting_and_watching_leave_nothing_behind(self, service: ExecutionService) -> None:
        execution = await service.create_execution(KIND, start=False)
        async with no_leaked_tasks():
            for _ in range(5):
                with pytest.raises(WaitTimeoutError):
                    await service.wait(execution.id, 0.01)


class TestEventBus:
    async def test_it_gets_exactly_the_log_in_order(self, service: ExecutionService, steps: Steps) -> None:
        steps.let_go.set()
        async with _bus(service).subscribe() as subscription:
            executions = await asyncio.gather(*(service.create_execution(KIND, agent_id="a") for _ in range(20)))
            for execution in executions:
                await ended(service, execution.id)
            logs = {one.id: await service.history(one.id) for one in executions}
            events = await _taken(subscription, sum(map(len, logs.values())))
        for execution in executions:
            heard = [event for event in events if event.payload["execution_id"] == str(execution.id)]
            assert [event.payload["version"] for event in heard] == [item.version for item in logs[execution.id]]
            assert [event.type for event in heard] == [item.type for item in logs[execution.id]]

    async def test_payloads_have_the_agreed_keys(self, service: ExecutionService, steps: Steps) -> None:
        steps.let_go.set()
        async with _bus(service).subscribe() as subscription:
            execution = await service.create_execution(KIND, {"secret": 1}, agent_id="a", task_id="t")
            await ended(service, execution.id)
            events = await _taken(subscription, (await service.get_execution(execution.id)).version)
        assert {event.type for event in events} == PAYLOADS.keys()
        for event in events:
            assert event.payload.keys() == PAYLOADS[event.type]
            assert (event.payload["agent_id"], event.payload["task_id"]) == ("a", "t")
        after = await service.get_execution(execution.id)
        assert events[-1].payload["result"] == {"answer": 42}
        assert events[-1].payload["duration_seconds"] == after.duration_seconds

    async def test_what_was_refused_was_never_said(self, service: ExecutionService) -> None:
        execution = await service.create_execution(KIND, start=False)
        async with _bus(service).subscribe() as subscription:
            answers = await asyncio.gather(
                *(service.start_execution(execution.id) for _ in range(5)), return_exceptions=True
            )
            assert sum(isinstance(answer, Execution) for answer in answers) == 1
            await service.submit_result((await _running(service, execution.id)).id, {"by": "hand"})
            events = await _taken(subscription, 5)
        assert [event.payload["version"] for event in events] == [2, 3, 4, 5, 6]

    async def test_what_another_process_does_is_said_too(self, service: ExecutionService, database_url: str) -> None:
        async with _bus(service).subscribe() as subscription, open_service(short_settings(database_url)) as elsewhere:
            execution = await elsewhere.create_execution("noop", start=False)
            await elsewhere.cancel_execution(execution.id)
            events = await _taken(subscription, 3)
        assert [event.payload["version"] for event in events] == [1, 2, 3]

    async def test_a_second_listener_after_the_first_has_gone_hears_what_is_new(
        self, service: ExecutionService
    ) -> None:
        async with _bus(service).subscribe() as first:
            execution = await service.create_execution(KIND, start=False)
            await _taken(first, 1)
        unheard = await service.create_execution(KIND, start=False)
        async with _bus(service).subscribe() as second:
            await service.cancel_execution(execution.id)
            events = await _taken(second, 2)
        assert str(unheard.id) not in {event.payload["execution_id"] for event in events}
        assert [event.payload["version"] for event in events] == [2, 3]


async def _next(watch: AsyncIterator[Any]) -> Any:
    return await anext(watch)


async def _running(service: ExecutionService, execution_id: UUID) -> Execution:
    async with asyncio.timeout(PATIENCE):
        async for item in service.watch(execution_id):
            if item.type.endswith("progress"):
                break
    return await service.get_execution(execution_id)


def _bus(service: ExecutionService) -> InProcessEventBus:
    assert isinstance(service.event_bus, InProcessEventBus)
    return service.event_bus


async def _taken(subscription: Subscription, count: int) -> list[BusEvent]:
    async with asyncio.timeout(PATIENCE):
        return [await subscription.get() for _ in range(count)]
