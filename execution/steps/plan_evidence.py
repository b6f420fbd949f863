"""The evidence of a job that has ended, from its log: of durable plans, and of coordinated jobs."""

from __future__ import annotations

from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from execution.steps import coordinator, ending
from execution.steps.bundle import evidence_bundle
from execution.steps.errors import EvidenceNotReadyError, NotAStepJobError
from execution.steps.job_log import evidence_in
from execution.steps.machine import EXECUTOR_VERSION
from execution.steps.model import ExecutionResult, JobStatus, StepResult, StepStatus
from execution.steps.plan import KIND, NO_CONTRACT
from execution.steps.plan_log import PlanLog, plan_in


async def evidence_of(service: ExecutionService, execution_id: UUID) -> bytes:
    """The bundle of a job of steps, however it ended.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        NotAStepJobError: it is of a kind that leaves no evidence.
        EvidenceNotReadyError: it has not ended.
    """
    execution = await service.get_execution(execution_id)
    if execution.kind not in (KIND, coordinator.KIND):
        raise NotAStepJobError(execution_id, execution.kind)
    if not execution.is_terminal:
        raise EvidenceNotReadyError(execution_id, execution.state)
    if execution.kind == coordinator.KIND and (bundle := await evidence_in(service.repository, execution_id)):
        return bundle
    plan_log = await PlanLog.read(service.repository, execution_id, plan_in(execution))
    return evidence_bundle(result_of(execution, plan_log))


def result_of(execution: Execution, plan_log: PlanLog) -> ExecutionResult:
    """How the plan of an execution ended, with the evidence of each step that was begun."""
    completed_at = execution.completed_at or execution.updated_at
    results = [*plan_log.results(), *cut_off(execution, plan_log)]
    status, reason = _end(execution, plan_log)
    contract_id = execution.parameters.get("contract_id")
    return ExecutionResult(
        job_id=execution.id,
        contract_id=UUID(contract_id) if contract_id else NO_CONTRACT,
        executed_by=plan_log.submitted_by,
        executor_version=EXECUTOR_VERSION,
        steps=plan_log.plan,
        step_results=tuple(results),
        final_status=status,
        final_reason=reason,
        started_at=plan_log.started_at or execution.created_at,
        completed_at=completed_at,
        health_before=results[0].health_before if results else None,
        health_after=results[-1].health_after if results else None,
    )


def cut_off(execution: Execution, plan_log: PlanLog) -> list[StepResult]:
    """The step that was under way when the job was ended over its head."""
    started = plan_log.open
    if started is None:
        return []
    how = ending.unknown("the job was ended before its end was recorded; how far it came is not known")
    return [
        StepResult(
            step=started.step,
            status=StepStatus(how.status),
            started_at=started.started_at,
            completed_at=execution.completed_at or execution.updated_at,
            executed_by=started.executed_by,
            handler=started.handler,
            output=None,
            error=how.error,
            attempt=started.attempt,
            health_before=started.health_before,
        )
    ]


def _end(execution: Execution, plan_log: PlanLog) -> tuple[JobStatus, str]:
    """The end of the job; one that others have called completed is so only if its steps are."""
    error = execution.error or {}
    said = f"{error.get('type')}: {error.get('message')}" if error else plan_log.reason
    if execution.state is ExecutionState.CANCELLED:
        return JobStatus.CANCELLED, said or "cancelled"
    if execution.state is ExecutionState.COMPLETED and plan_log.completed == len(plan_log.plan):
        return ending.job_end(plan_log.results())
    left = len(plan_log.plan) - plan_log.completed
    return JobStatus.FAILED, said or f"it was ended from outside as {execution.state}, with {left} steps to do"
