"""A job of steps as clients see it: the execution, and each of its steps as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from execution.domain.execution import Execution, JsonObject
from execution.service import ExecutionService
from execution.steps.errors import NotAStepJobError
from execution.steps.frozen import thaw
from execution.steps.model import JobStep, StepResult, StepStatus
from execution.steps.plan import KIND
from execution.steps.plan_evidence import cut_off
from execution.steps.plan_log import PlanLog, StartedStep, plan_in

_NOT_BEGUN: JsonObject = {
    "status": StepStatus.PENDING.value,
    "attempt": 0,
    "handler": None,
    "started_at": None,
    "completed_at": None,
    "output": None,
    "stored_output": None,
    "error": None,
}


async def step_job(service: ExecutionService, execution_id: UUID) -> tuple[Execution, JsonObject]:
    """The execution of a durable plan, and its document.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        NotAStepJobError: it is of another kind.
    """
    execution = await service.get_execution(execution_id)
    if execution.kind != KIND:
        raise NotAStepJobError(execution_id, execution.kind)
    plan_log = await PlanLog.read(service.repository, execution_id, plan_in(execution))
    return execution, step_job_to_json(execution, plan_log)


def step_job_to_json(execution: Execution, plan_log: PlanLog | None = None) -> JsonObject:
    """The document; without a log, of a job of which nothing was begun."""
    plan_log = plan_log or PlanLog(plan_in(execution))
    place = f"/v1/step-jobs/{execution.id}"
    return {
        "id": str(execution.id),
        "state": execution.state.value,
        "version": execution.version,
        "attempt": execution.attempt,
        "contract_id": execution.parameters.get("contract_id"),
        "progress": {"percentage": execution.progress.percentage, "message": execution.progress.message},
        "error": execution.error,
        "created_at": execution.created_at.isoformat(),
        "started_at": execution.started_at.isoformat() if execution.started_at else None,
        "completed_at": execution.completed_at.isoformat() if execution.completed_at else None,
        "steps": steps_to_json(execution, plan_log),
        "links": {"self": place, "evidence": f"{place}/evidence", "execution": f"/v1/executions/{execution.id}"},
    }


def steps_to_json(execution: Execution, plan_log: PlanLog) -> list[JsonObject]:
    """Every step of the plan: as it is declared, and as it was executed last."""
    results = [*plan_log.results(), *(cut_off(execution, plan_log) if execution.is_terminal else ())]
    return [
        _declared(step, declared) | _standing(step, results, plan_log.open if not execution.is_terminal else None)
        for step, declared in zip(plan_log.plan, execution.parameters["steps"], strict=True)
    ]


def _declared(step: JobStep, declared: JsonObject) -> JsonObject:
    return {
        "step_index": step.step_index,
        "id": declared.get("id"),
        "step_type": step.step_type,
        "target": step.target,
        "weight": step.weight,
    }


def _standing(step: JobStep, results: Sequence[StepResult], under_way: StartedStep | None) -> JsonObject:
    if under_way is not None and under_way.step.step_index == step.step_index:
        return _NOT_BEGUN | {
            "status": StepStatus.RUNNING.value,
            "attempt": under_way.attempt,
            "handler": asdict(under_way.handler) if under_way.handler else None,
            "started_at": under_way.started_at.isoformat(),
        }
    last = next((one for one in reversed(results) if one.step_index == step.step_index), None)
    return _NOT_BEGUN if last is None else _ended(last)


def _ended(result: StepResult) -> JsonObject:
    return {
        "status": result.status.value,
        "attempt": result.attempt,
        "handler": asdict(result.handler) if result.handler else None,
        "started_at": result.started_at.isoformat(),
        "completed_at": result.completed_at.isoformat(),
        "output": None if result.output is None else thaw(result.output),
        "stored_output": asdict(result.stored_output) if result.stored_output else None,
        "error": result.error,
    }
