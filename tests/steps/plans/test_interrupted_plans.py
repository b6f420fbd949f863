"""A worker that stops in the middle of a step: what the next one makes of it, and what people see meanwhile."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from execution.cli.plan_running import live_table
from execution.domain.state import ExecutionState as S
from execution.service import ExecutionService
from execution.steps import verify_bundle
from execution.steps.plan_evidence import evidence_of
from execution.steps.step_job import step_job
from tests.support.plan_handlers import Stage, plan
from tests.support.service import PATIENCE, ended, running_worker


@pytest.fixture
def changes() -> dict[str, float]:
    """Workers sign off by themselves: on a busy machine, none of them is taken for dead in the middle."""
    return {"drain_timeout_seconds": 0.1, "worker_timeout_seconds": 2 * PATIENCE}


async def test_a_step_that_may_be_repeated_is_and_those_before_it_are_not(idle: ExecutionService, stage: Stage) -> None:
    execution = await idle.create_execution("steps", plan("work:a", "stand.again:b", "work:c"))
    async with running_worker(idle):
        await stage.somebody_is_there()
    stage.may_go_on.set()
    async with running_worker(idle):
        assert (await ended(idle, execution.id)).state is S.COMPLETED
    assert stage.executed == ["a", "b", "b", "c"]
    content = await evidence_of(idle, execution.id)
    verify_bundle(content)
    records = [(one["step_index"], one["status"], one["attempt"]) for one in json.loads(content)["steps"]]
    assert records == [(0, "COMPLETED", 1), (1, "OUTCOME_UNKNOWN", 1), (1, "COMPLETED", 2), (2, "COMPLETED", 1)]


async def test_one_that_may_not_ends_the_job_until_somebody_asks_for_a_retry(
    idle: ExecutionService, stage: Stage
) -> None:
    execution = await idle.create_execution("steps", plan("work:a", "stand.async:b", "work:c"))
    async with running_worker(idle):
        await stage.somebody_is_there()
    stage.may_go_on.set()
    async with running_worker(idle):
        execution = await ended(idle, execution.id)
        assert execution.state is S.FAILED
        assert execution.error is not None
        assert execution.error["type"] == "outcome_unknown"
        assert stage.executed == ["a", "b"]
        assert verify_bundle(await evidence_of(idle, execution.id)).final_status == "FAILED"
        await idle.retry_execution(execution.id, reason="looked: it had not happened")
        assert (await ended(idle, execution.id)).state is S.COMPLETED
    assert stage.executed == ["a", "b", "b", "c"]
    verify_bundle(await evidence_of(idle, execution.id))


async def test_the_steps_while_one_is_under_way(idle: ExecutionService, stage: Stage) -> None:
    execution = await idle.create_execution("steps", plan("work:a", "stand.async:b", "work:c"))
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    async with running_worker(idle):
        await stage.somebody_is_there()
        _, document = await step_job(idle, execution.id)
        assert [one["status"] for one in document["steps"]] == ["COMPLETED", "RUNNING", "PENDING"]
        with live_table(execution, screen) as show:
            for item in await idle.history(execution.id):
                show(item)
        stage.may_go_on.set()
        await ended(idle, execution.id)
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert "RUNNING" in shown
    assert "COMPLETED" in shown
