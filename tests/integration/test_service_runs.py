"""What becomes of executions that a worker runs: stopped, paused, retried, timed out, taken away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from execution.domain.execution import Execution, JsonObject
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from execution.handlers import HandlerRegistry, TaskContext
from execution.ids import new_id
from execution.repository.workers import WorkerStore
from execution.rescuer import RUNNING_SLACK_SECONDS
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.service import (
    PATIENCE,
    Counted,
    ended,
    reached,
    running_worker,
    short_settings,
    states_of,
    working_service,
)
from tests.support.waiting import eventually

S = ExecutionState
GRACE = 0.5
DETECTION = RUNNING_SLACK_SECONDS / 2
"""How long past its deadline an execution may stay what it is, on any machine: its own worker sees to it, and not the
rescuer, who leaves it to that one for twice as long."""


class Handlers:
    """One handler for each way to behave."""

    def __init__(self) -> None:
        self.registry = HandlerRegistry()
        self.gate = Counted.new()
        self.release_thread = threading.Event()
        self.failures_left = 0
        self.order: list[str] = []
        for name in ("held", "tidying", "pausing", "deaf", "flaky", "noted"):
            self.registry.register(name, getattr(self, name))
        self.registry.register("deaf.thread", self.deaf_thread)

    async def held(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        await self.gate.stand()
        return {"attempt": context.attempt}

    async def tidying(self, context: TaskContext, parameters: JsonObject) -> None:
        """Obeys a cancellation, but comes to the gate once more first."""
        try:
            await self.gate.stand()
        except asyncio.CancelledError:
            await self.gate.stand()
            raise

    async def pausing(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        await self.gate.stand()
        await context.pause_point()
        return {"attempt": context.attempt}

    async def deaf(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        """Swallows every cancellation until it is let go."""
        self.gate.runs += 1
        self.gate.started.set()
        while not self.gate.let_go.is_set():
            try:
                await self.gate.let_go.wait()
            except asyncio.CancelledError:
                continue
        return {"too": "late"}

    def deaf_thread(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        self.release_thread.wait(60)
        return {"too": "late"}

    async def flaky(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        if self.failures_left:
            self.failures_left -= 1
            raise ConnectionError("try again")
        return {"attempt": context.attempt}

    async def noted(self, context: TaskContext, parameters: JsonObject) -> None:
        self.order.append(parameters["name"])

    def release(self) -> None:
        self.gate.let_go.set()
        self.release_thread.set()


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def service(database_url: str, handlers: Handlers) -> AsyncIterator[ExecutionService]:
    async with working_service(
        database_url, handlers.registry, cancel_grace_seconds=GRACE, worker_concurrency=2
    ) as service:
        yield service
        handlers.release()
    await check_database(database_url)


async def started(service: ExecutionService, handlers: Handlers, kind: str, **fields: Any) -> Execution:
    execution = await service.create_execution(kind, **fields)
    await handlers.gate.has_started()
    return await service.get_execution(execution.id)


class TestCancel:
    async def test_while_it_waits_and_twice(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await service.create_execution("held", start=False)
        assert (await service.cancel_execution(execution.id)).state is S.CANCELLED
        assert handlers.gate.runs == 0

    async def test_while_it_runs(self, database_url: str, handlers: Handlers) -> None:
        async with working_service(database_url, handlers.registry, cancel_grace_seconds=PATIENCE) as service:
            execution = await started(service, handlers, "tidying")
            answers = await asyncio.gather(*(service.cancel_execution(execution.id) for _ in range(3)))
            assert {answer.state for answer in answers} == {S.CANCELLING}
            await handlers.gate.has_started()  # it was told
            handlers.release()
            after = await ended(service, execution.id)
            assert (after.state, after.error) == (S.CANCELLED, None)
            states = await states_of(service, execution.id)
            assert states == ["CREATED", "PENDING", "RUNNING", "CANCELLING", "CANCELLED"]
        await check_database(database_url)

    @pytest.mark.parametrize("kind", ["deaf", "deaf.thread"])
    async def test_a_handler_that_ignores_it_is_abandoned_in_time_and_its_slot_given_back(
        self, service: ExecutionService, handlers: Handlers, kind: str
    ) -> None:
        executions = [await service.create_execution(kind) for _ in range(2)]
        for execution in executions:
            await reached(service, execution.id, S.RUNNING)
        cancelling = [await service.cancel_execution(execution.id) for execution in executions]
        for before in cancelling:
            after = await ended(service, before.id)
            assert after.error is not None
            assert (after.state, after.error["type"]) == (S.CANCELLED, "abandoned")
            assert after.completed_at is not None
            assert before.deadline is not None
            assert after.completed_at - before.deadline < timedelta(seconds=DETECTION)
        both_slots = [await service.create_execution("noop") for _ in range(2)]
        for execution in both_slots:
            assert (await ended(service, execution.id)).state is S.COMPLETED

    async def test_what_an_abandoned_handler_returns_later_is_refused(
        self, service: ExecutionService, handlers: Handlers
    ) -> None:
        execution = await started(service, handlers, "deaf")
        await service.cancel_execution(execution.id)
        after = await ended(service, execution.id)
        task = service.task_runner.runs.get(execution.id)
        assert task is not None
        handlers.gate.let_go.set()
        await service.wait((await service.create_execution("noop")).id)
        assert await service.get_execution(execution.id) == after

    async def test_an_abandoned_execution_can_be_retried_at_once(
        self, service: ExecutionService, handlers: Handlers
    ) -> None:
        """By the very worker that has not got rid of the first handler yet."""
        for _ in range(5):
            execution = await started(service, handlers, "deaf")
            await service.submit_result(execution.id, error={"type": "outside", "message": ""})
            await service.retry_execution(execution.id)
            await handlers.gate.has_started()
            await service.submit_result(execution.id, {"by": "hand"})
        probe = await service.create_execution("noop")
        assert (await ended(service, probe.id)).state is S.COMPLETED


class TestPause:
    async def test_while_it_waits(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await service.create_execution("held", run_at=in_a_year())
        assert (await service.pause_execution(execution.id)).state is S.PAUSED
        assert (await service.resume_execution(execution.id)).state is S.PENDING

    async def test_at_the_pause_point(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await started(service, handlers, "pausing")
        asked = await service.pause_execution(execution.id)
        assert (asked.state, asked.pause_requested) == (S.RUNNING, True)
        await self._observed(service, execution.id)
        handlers.gate.let_go.set()
        paused = await reached(service, execution.id, S.PAUSED)
        assert (paused.is_held, paused.pause_requested) == (True, False)
        assert (await service.resume_execution(execution.id)).state is S.RUNNING
        after = await ended(service, execution.id)
        assert (after.state, after.result, handlers.gate.runs) == (S.COMPLETED, {"attempt": 1}, 1)

    async def test_withdrawn_before_it_happened(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await started(service, handlers, "pausing")
        await service.pause_execution(execution.id)
        assert (await service.resume_execution(execution.id)).pause_requested is False
        handlers.gate.let_go.set()
        await ended(service, execution.id)
        assert "PAUSED" not in await states_of(service, execution.id)

    async def test_cancelled_while_it_stands_there(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await started(service, handlers, "pausing")
        await service.pause_execution(execution.id)
        await self._observed(service, execution.id)
        handlers.gate.let_go.set()
        await reached(service, execution.id, S.PAUSED)
        assert (await service.cancel_execution(execution.id)).state is S.CANCELLING
        after = await ended(service, execution.id)
        assert (after.state, after.error) == (S.CANCELLED, None)

    async def _observed(self, service: ExecutionService, execution_id: UUID) -> None:
        """Until the worker knows of the request: from then on the next pause point is one."""
        run = service.task_runner.runs[execution_id]
        await eventually(lambda: run.execution.pause_requested, within=5, what="the worker sees the request")


class TestTakenAway:
    async def test_a_result_from_outside_fences_the_worker_off(
        self, service: ExecutionService, handlers: Handlers
    ) -> None:
        execution = await started(service, handlers, "held")
        finished = await service.submit_result(execution.id, {"by": "hand"})
        assert finished.lease_epoch == execution.lease_epoch + 1
        handlers.gate.let_go.set()
        await ended(service, (await service.create_execution("noop")).id)
        assert await service.get_execution(execution.id) == finished


class TestRetryPolicy:
    async def test_each_retry_is_a_recorded_transition(self, service: ExecutionService, handlers: Handlers) -> None:
        handlers.failures_left = 2
        policy = RetryPolicy(max_attempts=3, initial_delay=0.05, jitter=0.0)
        execution = await service.create_execution("flaky", retry=policy)
        after = await ended(service, execution.id)
        assert (after.state, after.attempt, after.result) == (S.COMPLETED, 3, {"attempt": 3})
        states = await states_of(service, execution.id)
        assert states == ["CREATED", *["PENDING", "RUNNING"] * 3, "COMPLETED"]
        reasons = [item.reason for item in await service.get_state_history(execution.id, 100) if item.reason]
        assert [reason.partition(";")[0] for reason in reversed(reasons)] == [
            "attempt 1 of 3 failed",
            "attempt 2 of 3 failed",
        ]

    async def test_without_any_delay(self, service: ExecutionService, handlers: Handlers) -> None:
        """The next attempt is claimed while the task of the last one is still being put away."""
        handlers.failures_left = 30
        policy = RetryPolicy(max_attempts=40, initial_delay=0.0)
        execution = await service.create_execution("flaky", retry=policy)
        after = await ended(service, execution.id)
        assert (after.state, after.attempt) == (S.COMPLETED, 31)

    async def test_it_ends(self, service: ExecutionService, handlers: Handlers) -> None:
        handlers.failures_left = 99
        execution = await service.create_execution("flaky", retry=RetryPolicy(max_attempts=2, initial_delay=0.01))
        after = await ended(service, execution.id)
        assert (after.state, after.attempt) == (S.FAILED, 2)
        assert after.error == {"type": "ConnectionError", "message": "try again"}

    @pytest.mark.parametrize("policy", [None, RetryPolicy(error_types=("SomethingElse",))])
    async def test_nothing_is_retried_that_was_not_asked_for(
        self, service: ExecutionService, handlers: Handlers, policy: RetryPolicy | None
    ) -> None:
        handlers.failures_left = 99
        execution = await service.create_execution("flaky", retry=policy)
        after = await ended(service, execution.id)
        assert (after.state, after.attempt) == (S.FAILED, 1)


class TestTimeLimits:
    async def test_start_to_close(self, service: ExecutionService, handlers: Handlers) -> None:
        execution = await service.create_execution("held", start_to_close=0.2)
        after = await ended(service, execution.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "start_to_close_timeout")
        assert after.duration_seconds is not None
        assert 0.2 <= after.duration_seconds < 0.2 + DETECTION

    async def test_schedule_to_start(self, service: ExecutionService, database_url: str) -> None:
        store = WorkerStore(service.repository.db)
        await store.register(new_id(), ["elsewhere"], concurrency=1, timeout_seconds=60)
        execution = await service.create_execution("elsewhere", schedule_to_start=0.2)
        after = await ended(service, execution.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "schedule_to_start_timeout")
        assert after.completed_at is not None
        assert after.completed_at - execution.created_at < timedelta(seconds=0.2 + DETECTION)
        assert await states_of(service, execution.id) == ["CREATED", "PENDING", "FAILED"]

    async def test_the_services_own_limits_where_the_client_named_none(
        self, database_url: str, handlers: Handlers
    ) -> None:
        limits = {"default_start_to_close_seconds": 0.2, "default_schedule_to_start_seconds": 60.0}
        async with working_service(database_url, handlers.registry, **limits) as service:
            execution = await service.create_execution("held")
            assert (execution.start_to_close, execution.schedule_to_start) == (0.2, 60.0)
            after = await ended(service, execution.id)
        assert after.error is not None
        assert after.error["type"] == "start_to_close_timeout"


class TestWorkersInSuccession:
    async def test_the_second_one_goes_on_where_the_first_one_stopped(
        self, database_url: str, handlers: Handlers
    ) -> None:
        async with open_service(short_settings(database_url), registry=handlers.registry) as service:
            for _ in range(2):
                async with running_worker(service):
                    execution = await service.create_execution("noop")
                    assert (await ended(service, execution.id)).state is ExecutionState.COMPLETED


class TestScheduling:
    async def test_not_before_its_time(self, service: ExecutionService) -> None:
        now = service.repository.db.clock.now()
        execution = await service.create_execution("noop", run_at=now + timedelta(seconds=0.6))
        after = await ended(service, execution.id)
        assert after.started_at is not None
        assert timedelta(0) <= after.started_at - execution.run_at < timedelta(seconds=DETECTION)

    async def test_by_priority_then_time_then_age(self, database_url: str, handlers: Handlers) -> None:
        async with working_service(database_url, handlers.registry, worker_concurrency=1) as service:
            gate = await started(service, handlers, "held")
            now = service.repository.db.clock.now()
            for name, priority, seconds in (("late", 0, -1), ("early", 0, -2), ("low", -1, -9), ("urgent", 9, 0)):
                await service.create_execution(
                    "noted", {"name": name}, priority=priority, run_at=now + timedelta(seconds=seconds)
                )
            last = await service.create_execution("noted", {"name": "last"}, priority=-2)
            handlers.gate.let_go.set()
            await ended(service, gate.id)
            await ended(service, last.id)
        # What is due already is due since it was submitted: those of one priority run in that order.
        assert handlers.order == ["urgent", "late", "early", "low", "last"]

    async def test_no_more_at_once_than_slots(self, service: ExecutionService, handlers: Handlers) -> None:
        executions = [await service.create_execution("held") for _ in range(4)]
        await handlers.gate.has_started()
        await so_many_run(service, 2)
        await eventually(lambda: handlers.gate.runs >= 2, within=5, what="their handlers have begun")
        assert handlers.gate.runs == 2
        handlers.gate.let_go.set()
        for execution in executions:
            await ended(service, execution.id)
        assert handlers.gate.runs == 4

    async def test_only_kinds_that_are_offered(self, database_url: str, handlers: Handlers) -> None:
        async with working_service(database_url, handlers.registry, worker_kinds=("noop",)) as service:
            other = await service.create_execution("noted", {"name": "x"}, priority=9)
            assert (await ended(service, (await service.create_execution("noop")).id)).state is S.COMPLETED
            assert (await service.get_execution(other.id)).state is S.PENDING
        assert handlers.order == []


def in_a_year() -> datetime:
    return datetime.now(UTC) + timedelta(days=365)


async def so_many_run(service: ExecutionService, count: int) -> None:
    """Until so many executions run."""

    async def as_many() -> bool:
        return (await service.list_executions({"state": "RUNNING"}))[1] == count

    await eventually(as_many, within=5, what=f"{count} executions run")
