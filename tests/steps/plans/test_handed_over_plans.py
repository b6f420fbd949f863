"""A worker that stops leaves a plan to the next one between two steps, whatever was asked of it meanwhile."""

from __future__ import annotations

import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState as S
from execution.service import ExecutionService
from tests.support.plan_handlers import Stage, plan
from tests.support.service import PATIENCE, ended, pause_is_requested, reached, running_worker
from tests.support.waiting import eventually


@pytest.fixture
def changes() -> dict[str, float]:
    return {"drain_timeout_seconds": PATIENCE}


async def at_the_first_step(idle: ExecutionService, stage: Stage) -> Execution:
    execution = await idle.create_execution("steps", plan("stand.async:a", "work:b"))
    await stage.somebody_is_there()
    return execution


async def finished_by_the_next(idle: ExecutionService, execution: Execution, stage: Stage) -> None:
    async with running_worker(idle):
        execution = await ended(idle, execution.id)
    assert (execution.state, execution.attempt) == (S.COMPLETED, 1)
    assert stage.executed == ["a", "b"]


async def test_a_plan_that_stands_paused_is_not_waited_for(idle: ExecutionService, stage: Stage) -> None:
    async with running_worker(idle):
        execution = await at_the_first_step(idle, stage)
        await idle.pause_execution(execution.id)
        run = idle.task_runner.runs[execution.id]
        await eventually(lambda: run.execution.pause_requested, within=PATIENCE, what="the run knows of the request")
        stage.may_go_on.set()
        await reached(idle, execution.id, S.PAUSED)
    after = await idle.get_execution(execution.id)
    assert (after.state, after.is_held, after.attempt) == (S.PAUSED, False, 1)
    await idle.resume_execution(execution.id)
    await finished_by_the_next(idle, execution, stage)


async def test_a_pause_that_was_asked_for_before_holds_there(idle: ExecutionService, stage: Stage) -> None:
    async with running_worker(idle) as worker:
        execution = await at_the_first_step(idle, stage)
        worker.stop()
        await idle.pause_execution(execution.id)
        await pause_is_requested(idle, execution.id)
        stage.may_go_on.set()
    assert (await idle.get_execution(execution.id)).state is S.PAUSED
    await idle.resume_execution(execution.id)
    await finished_by_the_next(idle, execution, stage)


async def test_a_cancellation_that_the_worker_has_not_heard_of_counts(idle: ExecutionService, stage: Stage) -> None:
    async with running_worker(idle) as worker:
        execution = await idle.create_execution("steps", plan("stand:a", "work:b"))
        await stage.somebody_is_there()
        worker.stop()
        await idle.cancel_execution(execution.id)
        stage.thread_may_go_on.set()
    assert (await idle.get_execution(execution.id)).state is S.CANCELLED
    assert stage.executed == ["a"]


async def test_a_blocking_step_that_outlasts_the_drain_time_and_then_ends_is_not_the_last(
    idle: ExecutionService, stage: Stage
) -> None:
    async with running_worker(idle) as worker:
        execution = await idle.create_execution("steps", plan("stand:a", "work:b"))
        await stage.somebody_is_there()
        worker.stop()
        idle.task_runner.runs[execution.id].drain()
        stage.thread_may_go_on.set()
    assert (await idle.get_execution(execution.id)).state is S.PENDING
    await finished_by_the_next(idle, execution, stage)
