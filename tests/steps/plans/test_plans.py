"""Durable plans: order, evidence in the log, the first failure, progress, and what is refused when it is submitted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState as S
from execution.errors import ConflictError, InvalidDocumentError
from execution.service import ExecutionService
from execution.steps import StepOutput, verify_bundle
from execution.steps.plan_evidence import evidence_of
from tests.support.plan_handlers import Stage, plan
from tests.support.service import PATIENCE, ended, reached
from tests.support.waiting import eventually


async def carried_out(service: ExecutionService, parameters: JsonObject, **fields: Any) -> Execution:
    execution = await service.create_execution("steps", parameters, **fields)
    return await ended(service, execution.id)


async def facts_of(service: ExecutionService, execution: Execution) -> list[tuple[str, JsonObject]]:
    history = await service.history(execution.id)
    return [(one.data["name"], one.data["data"]) for one in history if one.type == "agent.execution.recorded"]


async def bundle_of(service: ExecutionService, execution: Execution) -> JsonObject:
    content = await evidence_of(service, execution.id)
    verify_bundle(content)
    document: JsonObject = json.loads(content)
    return document


def statuses(bundle: JsonObject) -> list[tuple[int, str, int]]:
    return [(one["step_index"], one["status"], one["attempt"]) for one in bundle["steps"]]


class TestCarryingOut:
    async def test_steps_are_executed_in_order_and_each_is_in_the_log(
        self, service: ExecutionService, stage: Stage
    ) -> None:
        execution = await carried_out(service, plan("work:a", "work.async:b", "noop", "work:c"))
        assert execution.state is S.COMPLETED, execution.error
        assert stage.executed == ["a", "b", "c"]
        facts = [(name, data["step_index"]) for name, data in await facts_of(service, execution)]
        assert facts == [(name, index) for index in range(4) for name in ("step.started", "step.ended")]
        assert execution.result is not None
        assert execution.result["execution_summary"] == {
            "steps_executed": 4,
            "steps_succeeded": 4,
            "steps_failed": 0,
        }
        bundle = await bundle_of(service, execution)
        assert statuses(bundle) == [(index, "COMPLETED", 1) for index in range(4)]
        assert bundle["steps"][1]["output"]["inline"] == {"target": "b"}
        assert bundle["steps"][1]["handler"] == {"name": "work.async", "version": "1", "idempotent": False}

    async def test_the_start_is_in_the_log_before_the_effect_begins_and_the_end_before_the_next_start(
        self, service: ExecutionService, stage: Stage
    ) -> None:
        execution = await service.create_execution("steps", plan("work:a", "stand.async:b", "work:c"))
        await stage.somebody_is_there()
        facts = [(name, data["step_index"]) for name, data in await facts_of(service, execution)]
        assert facts == [("step.started", 0), ("step.ended", 0), ("step.started", 1)]
        stage.may_go_on.set()
        assert (await ended(service, execution.id)).state is S.COMPLETED

    async def test_the_first_failure_ends_the_job(self, service: ExecutionService, stage: Stage) -> None:
        stage.acts["b"] = lambda *_: StepOutput(success=False, error="no such thing")
        execution = await carried_out(service, plan("work:a", "work:b", "work:c"))
        assert execution.state is S.FAILED
        assert execution.error == {"type": "step_failed", "message": "Step 1 (work) failed: no such thing"}
        assert stage.executed == ["a", "b"]
        assert execution.progress.message == "1 of 3 steps", "though the last report was a moment ago"
        bundle = await bundle_of(service, execution)
        assert statuses(bundle) == [(0, "COMPLETED", 1), (1, "FAILED", 1)]
        assert bundle["closing"]["final_status"] == "FAILED"
        assert len(bundle["plan"]) == 3

    @pytest.mark.parametrize("kind", ["work", "work.async"])
    async def test_what_a_handler_raises_fails_its_step(
        self, service: ExecutionService, stage: Stage, kind: str
    ) -> None:
        def act(*_: object) -> StepOutput:
            raise KeyError("colour")

        stage.acts["a"] = act
        execution = await carried_out(service, plan(f"{kind}:a", "work:b"))
        assert execution.error == {"type": "step_failed", "message": f"Step 0 ({kind}) failed: KeyError: 'colour'"}
        assert stage.executed == ["a"]

    async def test_progress_follows_the_weights(self, service: ExecutionService, stage: Stage) -> None:
        steps = [{"step_type": "work", "target": "a", "weight": 3}, {"step_type": "stand.async", "weight": 1}]
        execution = await service.create_execution("steps", plan(*steps))
        await stage.somebody_is_there()
        stage.may_go_on.set()
        execution = await ended(service, execution.id)
        assert execution.progress.percentage == 100.0
        assert execution.progress.message == "2 of 2 steps"

    async def test_a_step_that_runs_past_its_limit_fails(self, service: ExecutionService) -> None:
        execution = await carried_out(service, plan({"step_type": "stand.async", "timeout_seconds": 0.05}))
        assert execution.error is not None
        assert "ran past its time limit of 0.05 s" in execution.error["message"]

    async def test_a_large_output_is_kept_elsewhere(self, service: ExecutionService, stage: Stage) -> None:
        stage.acts["a"] = lambda *_: StepOutput(success=True, output={"text": "x" * 300_000})
        execution = await carried_out(service, plan("work:a"))
        assert execution.state is S.COMPLETED, execution.error
        output = (await bundle_of(service, execution))["steps"][0]["output"]
        assert output["inline"] is None
        assert output["size"] == 300_000 + len('{"text":""}')
        assert (service.settings.data_dir / "step-outputs" / output["place"]).stat().st_size == output["size"]

    async def test_an_output_that_cannot_be_stored_fails_its_step(
        self, service: ExecutionService, stage: Stage
    ) -> None:
        stage.acts["a"] = lambda *_: StepOutput(success=True, output={"text": "nul \x00"})
        execution = await carried_out(service, plan("work:a", "work:b"))
        assert execution.error is not None
        assert "cannot be recorded" in execution.error["message"]
        assert statuses(await bundle_of(service, execution)) == [(0, "FAILED", 1)]

    async def test_large_numbers_survive_the_log(self, service: ExecutionService, stage: Stage) -> None:
        numbers = {"numbers": [1e300, -0.0, 1e18, 0.1, 5e-324, 2**53 - 1]}
        stage.acts["a"] = lambda *_: StepOutput(success=True, output=numbers)
        execution = await carried_out(service, plan("work:a"))
        assert (await bundle_of(service, execution))["steps"][0]["output"]["inline"] == numbers


class TestStoppingAndHolding:
    async def test_a_cancellation_inside_an_async_step_is_honest(self, service: ExecutionService, stage: Stage) -> None:
        execution = await service.create_execution("steps", plan("work:a", "stand.async:b", "work:c"))
        await stage.somebody_is_there()
        await service.cancel_execution(execution.id, reason="enough")
        execution = await ended(service, execution.id)
        assert execution.state is S.CANCELLED
        assert stage.executed == ["a", "b"]
        bundle = await bundle_of(service, execution)
        assert statuses(bundle) == [(0, "COMPLETED", 1), (1, "CANCELLED", 1)]
        assert bundle["closing"]["final_status"] == "CANCELLED"

    async def test_a_blocking_step_is_waited_for_and_the_job_cancelled_after_it(
        self, service: ExecutionService, stage: Stage
    ) -> None:
        execution = await service.create_execution("steps", plan("stand:a", "work:b"))
        await stage.somebody_is_there()
        await service.cancel_execution(execution.id)
        await reached(service, execution.id, S.CANCELLING)
        stage.thread_may_go_on.set()
        execution = await ended(service, execution.id)
        assert execution.state is S.CANCELLED
        assert stage.executed == ["a"]
        first, *others = statuses(await bundle_of(service, execution))
        assert first == (0, "COMPLETED", 1)
        assert others in ([], [(1, "CANCELLED", 1)])  # the next one may have been announced, and was not begun

    async def test_a_pause_holds_between_steps(self, service: ExecutionService, stage: Stage) -> None:
        execution = await service.create_execution("steps", plan("stand.async:a", "work:b"))
        await stage.somebody_is_there()
        await service.pause_execution(execution.id)
        run = service.task_runner.runs[execution.id]
        await eventually(lambda: run.execution.pause_requested, within=PATIENCE, what="the run knows of the request")
        stage.may_go_on.set()
        await reached(service, execution.id, S.PAUSED)
        assert stage.executed == ["a"]
        await service.resume_execution(execution.id)
        assert (await ended(service, execution.id)).state is S.COMPLETED
        assert stage.executed == ["a", "b"]

    async def test_a_retry_goes_on_with_the_step_that_failed(self, service: ExecutionService, stage: Stage) -> None:
        stage.acts["b"] = lambda *_: StepOutput(success=False, error="not yet")
        execution = await carried_out(service, plan("work:a", "work:b", "work:c"))
        assert execution.state is S.FAILED
        del stage.acts["b"]
        await service.retry_execution(execution.id)
        execution = await ended(service, execution.id)
        assert execution.state is S.COMPLETED, execution.error
        assert stage.executed == ["a", "b", "b", "c"]
        expected = [(0, "COMPLETED", 1), (1, "FAILED", 1), (1, "COMPLETED", 2), (2, "COMPLETED", 1)]
        assert statuses(await bundle_of(service, execution)) == expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("steps", "told"),
        [
            ([], "at least 1 item"),
            ([{"step_type": "dance"}], "nobody executes 'dance'; there is: capability_disable,"),
            ([{"step_type": "noop", "id": "a"}, {"step_type": "noop", "id": "a"}], "several steps have the id 'a'"),
            ([{"step_type": "noop", "weight": 0}], "greater than 0"),
            ([{"step_type": "noop", "colour": "red"}], "steps.0.colour"),
            ([{"step_type": "noop", "parameters": {"n": 2**60}}], "2^53"),
            ([{"step_type": "noop", "parameters": {"n": 1e18}}], "2^53"),
            ([{"step_type": "noop", "parameters": {"n": float("nan")}}], "parameters: nan is not a JSON number."),
            ([{"step_type": "noop", "target": "nul \x00"}], "cannot be stored"),
        ],
    )
    async def test_a_bad_plan_is_refused_when_it_is_submitted(
        self, idle: ExecutionService, steps: list[JsonObject], told: str
    ) -> None:
        with pytest.raises(InvalidDocumentError) as refused:
            await idle.create_execution("steps", {"steps": steps})
        assert told in str(refused.value)
        assert "Value error" not in str(refused.value)
        assert ("at least" in str(refused.value)) == (not steps), "what is not wrong is not complained about"

    async def test_a_job_that_has_not_ended_has_no_evidence(self, idle: ExecutionService) -> None:
        execution = await idle.create_execution("steps", plan("noop"))
        with pytest.raises(ConflictError, match="evidence once it has ended"):
            await evidence_of(idle, execution.id)

    async def test_an_execution_of_another_kind_has_none(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        with pytest.raises(ConflictError, match="no job of steps"):
            await evidence_of(service, execution.id)


async def test_facts_of_others_do_not_count_as_steps(idle: ExecutionService) -> None:
    execution = await idle.create_execution("steps", plan("noop"))
    await idle.record(execution.id, "step.started", {"step_index": 0, "attempt": 1})
    await idle.cancel_execution(execution.id)
    execution = await idle.get_execution(execution.id)
    assert (await bundle_of(idle, execution))["steps"] == []


async def test_many_plans_at_once(service: ExecutionService, stage: Stage) -> None:
    executions = [await service.create_execution("steps", plan(*["noop"] * 5)) for _ in range(20)]
    states = await asyncio.gather(*(ended(service, one.id) for one in executions))
    assert {one.state for one in states} == {S.COMPLETED}
