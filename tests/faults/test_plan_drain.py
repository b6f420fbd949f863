"""SIGTERM in the middle of a plan: the step that runs is finished, and the next worker goes on with the next one."""

from __future__ import annotations

import json
import signal

import pytest

from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState as S
from execution.service import ExecutionService
from execution.steps import verify_bundle
from execution.steps.plan_evidence import evidence_of
from tests.support.checker import check_database
from tests.support.plan_worker_handlers import PLAN_HANDLERS, StepLedger
from tests.support.service import PATIENCE, ended, states_of
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

LONG = 60.0
"""Drain time that no test waits for."""


def gated_plan(ledger: StepLedger, *step_types: str) -> JsonObject:
    """Each step waits for a gate of its own, if it waits for any."""
    folder = ledger.file.parent
    parameters = [{"ledger": str(ledger.file), "seconds": 0, "gate": str(folder / str(at))} for at in range(9)]
    return {"steps": [{"step_type": one, "parameters": parameters[at]} for at, one in enumerate(step_types)]}


async def interrupt_at(url: str, ledger: StepLedger, job: Execution, step: int) -> None:
    """A worker that is told to stop while that step runs, and ends as soon as the step has."""
    async with worker_process(url, handlers=PLAN_HANDLERS, drain_timeout_seconds=LONG) as worker:
        await eventually(
            lambda: ledger.counts("began")[str(job.id), step], within=PATIENCE, what=f"step {step} has begun"
        )
        worker.signal(signal.SIGTERM)
        with pytest.raises(TimeoutError):
            await worker.ended(within=0.2)
        (ledger.file.parent / str(step)).touch()
        assert await worker.ended() == 0


async def test_a_plan_moves_to_another_worker_between_two_steps(
    database_url: str, client: ExecutionService, step_ledger: StepLedger
) -> None:
    plan = gated_plan(step_ledger, "once", "gated", "once", "gated.async", "once")
    job = await client.create_execution("steps", plan)
    await interrupt_at(database_url, step_ledger, job, 1)
    waiting = await client.get_execution(job.id)
    assert (waiting.state, waiting.attempt, waiting.rescues, waiting.worker_id) == (S.PENDING, 1, 0, None)
    await interrupt_at(database_url, step_ledger, job, 3)
    async with worker_process(database_url, handlers=PLAN_HANDLERS):
        job = await ended(client, job.id)
    assert (job.state, job.attempt) == (S.COMPLETED, 1), job.error
    assert step_ledger.counts("began") == step_ledger.counts("did") == {(str(job.id), step): 1 for step in range(5)}

    assert await states_of(client, job.id) == ["CREATED", *["PENDING", "RUNNING"] * 3, "COMPLETED"]
    reasons = [one.data.get("reason") for one in await client.history(job.id) if one.data.get("new_state") == "PENDING"]
    assert reasons[1:] == [f"its worker stops, and another one goes on: {done} of 5 steps are done" for done in (2, 4)]
    content = await evidence_of(client, job.id)
    assert verify_bundle(content).final_status == "COMPLETED"
    steps = json.loads(content)["steps"]
    assert [(one["step_index"], one["status"], one["attempt"]) for one in steps] == [
        (index, "COMPLETED", 1) for index in range(5)
    ]
    assert [one["executed_by"] for one in steps].count(steps[0]["executed_by"]) == 2, "each worker's steps are its own"
    await check_database(database_url)


async def test_a_step_that_outlasts_the_drain_time_is_the_only_one_cut_off(
    database_url: str, client: ExecutionService, step_ledger: StepLedger
) -> None:
    job = await client.create_execution("steps", gated_plan(step_ledger, "once", "gated.async", "once"))
    async with worker_process(database_url, handlers=PLAN_HANDLERS, drain_timeout_seconds=0.2) as worker:
        await eventually(lambda: step_ledger.counts("began")[str(job.id), 1], within=PATIENCE, what="step 1 has begun")
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    async with worker_process(database_url, handlers=PLAN_HANDLERS):
        job = await ended(client, job.id)
    assert job.error is not None
    assert (job.state, job.error["type"]) == (S.FAILED, "outcome_unknown")
    assert step_ledger.counts("did") == {(str(job.id), 0): 1}
