"""What the log of a coordinated job says: its facts, and the outcome that is read from them for a second delivery."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from execution.domain.commands import Record
from execution.domain.events import EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.facts import checked_fact
from execution.domain.outcome import describe
from execution.repository.repository import ExecutionRepository
from execution.steps.coordination_errors import REFUSALS, ScopeRefusedError
from execution.steps.job import Job
from execution.steps.machine import EXECUTOR_VERSION
from execution.steps.model import ExecutionResult, JobStatus
from execution.steps.recorded_evidence import EVIDENCE_PART, joined, result_from_bundle

JOB_CREATED, JOB_COMPLETED, JOB_FAILED = "audit.job_created", "audit.job_completed", "audit.job_failed"
SCOPE_USED, SCOPE_REFUSED = "scope.used", "scope.refused"
_PAGE = 50


def created(job: Job) -> Record:
    """It is begun."""
    return checked_fact(
        JOB_CREATED,
        {
            "contract_id": str(job.contract_id),
            "handler": job.handler,
            "executed_by": job.executed_by,
            "steps": len(job.plan),
            "action": job.wanted.action if job.wanted else None,
            "incident_id": job.wanted.incident_id if job.wanted else None,
        },
    )


def ended(result: ExecutionResult, evidence: JsonObject) -> Record:
    """Its steps were executed, to their end or to the first that failed."""
    name = JOB_COMPLETED if result.final_status is JobStatus.COMPLETED else JOB_FAILED
    return checked_fact(name, summary(result, evidence))


def failed(error: JsonObject) -> Record:
    """It did not come to executing its steps, or nobody knows how far it came."""
    return checked_fact(JOB_FAILED, {"error": error})


def summary(result: ExecutionResult, evidence: JsonObject) -> JsonObject:
    """How it ended, without the steps: those are in the evidence."""
    return {
        "final_status": result.final_status.value,
        "final_reason": result.final_reason,
        "execution_summary": {
            "steps_executed": result.steps_executed,
            "steps_succeeded": result.steps_succeeded,
            "steps_failed": result.steps_failed,
        },
        "duration_seconds": result.duration_seconds,
        "executor_version": result.executor_version,
        "evidence": evidence,
    }


def refused(refusal: ScopeRefusedError) -> JsonObject:
    """The data of `scope.refused`."""
    return {
        "code": refusal.code,
        "message": str(refusal),
        "action": refusal.action,
        "incident_id": refusal.incident_id,
        "scope_id": str(refusal.scope_id) if refusal.scope_id else None,
    }


def error_of(failure: BaseException) -> JsonObject:
    """`error` of a job that an exception ended."""
    if isinstance(failure, ScopeRefusedError):
        return {"type": failure.code, "message": str(failure)}
    return describe(failure)


class JobOutcome:
    """What came of a job that has ended, from its log."""

    def __init__(self, job: Job, execution: Execution, facts: Sequence[tuple[str, JsonObject]]) -> None:
        self._job, self._execution, self._facts = job, execution, facts

    @classmethod
    async def read(cls, repository: ExecutionRepository, job: Job, execution: Execution) -> JobOutcome:
        """Read it: of its last attempt, if somebody has had it retried."""
        return cls(job, execution, await _facts(repository, job.job_id))

    def result(self) -> ExecutionResult:
        """Its result. A job that left no evidence has a result without steps, which says why.

        Raises:
            ScopeRefusedError: it was refused then, and is now.
        """
        for refusal in self._data(SCOPE_REFUSED):
            scope_id = UUID(refusal["scope_id"]) if refusal["scope_id"] else None
            raise REFUSALS[refusal["code"]](refusal["action"], refusal["incident_id"], scope_id)
        parts = self._data(EVIDENCE_PART)
        return result_from_bundle(joined(parts), self._job.plan) if parts else self._without_evidence()

    def scope_info(self) -> JsonObject:
        """Under what it was let through; empty if it asked for nothing."""
        return next(iter(self._data(SCOPE_USED)), {})

    def _data(self, name: str) -> list[JsonObject]:
        return [data for one, data in self._facts if one == name]

    def _without_evidence(self) -> ExecutionResult:
        execution = self._execution
        error = execution.error or {"type": execution.state.value.lower(), "message": "it left no evidence"}
        return ExecutionResult(
            job_id=self._job.job_id,
            contract_id=self._job.contract_id,
            executed_by=self._job.executed_by,
            executor_version=EXECUTOR_VERSION,
            steps=self._job.plan,
            step_results=(),
            final_status=JobStatus.CANCELLED if execution.state == "CANCELLED" else JobStatus.FAILED,
            final_reason=f"{error.get('type')}: {error.get('message')}",
            started_at=execution.started_at or execution.created_at,
            completed_at=execution.completed_at or execution.updated_at,
        )


async def evidence_in(repository: ExecutionRepository, job_id: UUID) -> bytes:
    """The bundle that a coordinated job left in its log; empty if it left none."""
    return joined(data for name, data in await _facts(repository, job_id) if name == EVIDENCE_PART)


async def _facts(repository: ExecutionRepository, job_id: UUID) -> list[tuple[str, JsonObject]]:
    facts: list[tuple[str, JsonObject]] = []
    version = 0
    while page := await repository.get_history(job_id, after_version=version, limit=_PAGE):
        facts += [(one.data["name"], one.data["data"]) for one in page if one.type == EventType.RECORDED]
        version = page[-1].version
    begun = max((place for place, (name, _) in enumerate(facts) if name == JOB_CREATED), default=0)
    return facts[begun:]
