"""`ExecutionCoordinator`: what stands around a job that the step machine executes. Its records are an execution's log.

A job is an execution of kind `steps.coordinated`, which no worker claims; its id is the job's. The audit's entries are
facts in its log, before the end or in the same append with it, and go the way of everything else that is in a log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import random
from typing import TypeVar
from uuid import UUID

import structlog

from execution.domain.commands import ChangeState, Command, Create, Finish, Record
from execution.domain.execution import Execution, JsonObject
from execution.domain.facts import checked_fact
from execution.domain.outcome import Failed, Outcome, Succeeded
from execution.domain.retry import YEAR_SECONDS, RetryPolicy
from execution.domain.state import ExecutionState
from execution.errors import (
    ConflictError,
    DatabaseError,
    DuplicateExecutionError,
    ExecutionNotFoundError,
    ExecutionServiceError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    VersionConflict,
)
from execution.ids import new_id
from execution.repository.scopes import Scope, ScopeStore
from execution.service import ExecutionService
from execution.steps import job_log
from execution.steps.coordination_errors import (
    JobIdReusedError,
    JobInProgressError,
    JobNotRecordedError,
    ScopeRefusedError,
)
from execution.steps.job import Job, checked_name, is_same_job
from execution.steps.job_log import JobOutcome
from execution.steps.model import ExecutionResult, JobStatus
from execution.steps.recorded_evidence import evidence_facts
from execution.steps.retry_advice import ADVISED_POLICY, advice
from execution.steps.risk import RiskClass, RiskTable
from execution.steps.scope_gate import ScopedAction, ScopeGate

log = structlog.get_logger(__name__)
T = TypeVar("T")

KIND = "steps.coordinated"
ACTOR = "coordinator"
TIME_LIMIT_SECONDS = 3600.0
"""How long a job may be under way before it counts as failed: its process may have died."""
PATIENCE_SECONDS = 60.0
"""How long the beginning and the end of a job are tried to be written while PostgreSQL is away."""
RETRY_SECONDS = 0.5


class ExecutionCoordinator:
    """Scopes, audit, progress and advice for jobs. It never executes a step, and never retries a job."""

    def __init__(
        self,
        service: ExecutionService,
        *,
        risks: RiskTable | Mapping[str, RiskClass | str] | None = None,
        retry_policy: RetryPolicy = ADVISED_POLICY,
        time_limit_seconds: float = TIME_LIMIT_SECONDS,
        chance: Callable[[], float] = random,
    ) -> None:
        self._service = service
        if risks is None:
            risks = RiskTable.with_low(service.settings.steps_low_risk_actions)
        self.risks = risks if isinstance(risks, RiskTable) else RiskTable(risks)
        self._scopes = ScopeStore(service.repository.db)
        self._gate = ScopeGate(self._scopes, self.risks)
        self._policy, self._chance = retry_policy, chance
        self._time_limit = time_limit_seconds
        self.progress_interval = service.settings.progress_interval_seconds

    # Scopes

    async def create_scope(
        self,
        tenant_id: str,
        incident_id: str | UUID,
        action: str,
        *,
        risk: RiskClass | None = None,
        allowed_uses: int = 1,
        expires_in_seconds: float = 300.0,
        granted_by: str = "operator",
    ) -> Scope:
        """Grant a scope; `risk` is what the action has now, unless another class is named.

        Raises:
            InvalidDocumentError: a name cannot be stored, or a number is out of its range.
        """
        if isinstance(allowed_uses, bool) or not isinstance(allowed_uses, int) or not 1 <= allowed_uses <= 1_000_000:
            raise InvalidDocumentError("allowed_uses", f"it must be from 1 to 1,000,000, not {allowed_uses!r}")
        if not 1 <= expires_in_seconds <= YEAR_SECONDS:
            raise InvalidDocumentError("expires_in_seconds", f"it must be from 1 to a year, not {expires_in_seconds!r}")
        return await self._scopes.add(
            new_id(),
            tenant_id=checked_name(tenant_id, "tenant_id"),
            incident_id=checked_name(incident_id, "incident_id"),
            action=checked_name(action, "action"),
            risk=(risk or self.risks.risk_of(action)).value,
            allowed_uses=allowed_uses,
            expires_in_seconds=float(expires_in_seconds),
            granted_by=checked_name(granted_by, "granted_by"),
        )

    async def execute_with_scope(
        self, job_id: UUID, wanted: ScopedAction, execute: Callable[[], Awaitable[T]]
    ) -> tuple[T, JsonObject]:
        """Let the action of a job that is under way through the gate, execute it, and say under what it happened.

        Raises:
            ScopeRefusedError: it is refused, and the job's log says so; nothing was executed.
        """
        try:
            scope_info = await self._gate.admit(wanted)
        except ScopeRefusedError as refusal:
            await self._record(job_id, wanted.tenant_id, job_log.SCOPE_REFUSED, job_log.refused(refusal))
            raise
        await self._record(job_id, wanted.tenant_id, job_log.SCOPE_USED, scope_info)
        return await execute(), scope_info

    # The audit trail

    async def emit_audit_created(self, job: Job) -> bool:
        """Open the job and its log. True for one caller in all the world, who has to execute it.

        Raises:
            JobIdReusedError, DuplicateExecutionError: the id is that of something else.
        """
        execution = await self._new_or_existing(job)
        if execution.state is not ExecutionState.PENDING:
            return False
        begin = ChangeState(target=ExecutionState.RUNNING, reason="coordinated")
        try:
            await self._carry_out(
                job.job_id, job.tenant_id, begin, [job_log.created(job)], expected_version=execution.version
            )
        except (VersionConflict, InvalidExecutionStateError):
            return False
        return True

    async def emit_audit_completed(self, job_id: UUID, tenant_id: str, result: ExecutionResult) -> None:
        """Write how the job ended, with its evidence, and close its log: COMPLETED or FAILED, as the result is.

        Raises:
            JobNotRecordedError: it cannot be written; the error carries the result.
        """
        parts, evidence = evidence_facts(result, self._service.settings.inline_limit_bytes)
        said = job_log.summary(result, evidence)
        outcome: Outcome = Succeeded(result=said)
        if result.final_status is not JobStatus.COMPLETED:
            outcome = Failed(error={"type": "step_failed", "message": result.final_reason, "evidence": evidence})
        await self._end(job_id, tenant_id, outcome, [*parts, job_log.ended(result, evidence)], result)

    async def emit_audit_failed(self, job_id: UUID, tenant_id: str, failure: BaseException) -> None:
        """Write that something other than a step ended the job, and close its log: FAILED.

        Raises:
            JobNotRecordedError: it cannot be written.
        """
        error = job_log.error_of(failure)
        await self._end(job_id, tenant_id, Failed(error=error), [job_log.failed(error)], None)

    async def outcome(self, job: Job) -> JobOutcome:
        """What came of a job that somebody else executes or has executed.

        Raises:
            JobInProgressError: it has not ended.
        """
        execution = await self._service.for_tenant(job.tenant_id).get_execution(job.job_id)
        if not execution.is_terminal:
            raise JobInProgressError(job.job_id, execution.state)
        return await JobOutcome.read(self._service.repository, job, execution)

    # Progress and advice

    async def track_progress(
        self,
        job_id: UUID,
        percentage: float,
        stage: str | None = None,
        message: str | None = None,
        current_step: int | None = None,
        *,
        tenant_id: str | None = None,
    ) -> None:
        """Record how far a job is; of the service's own tenant unless another one is named.

        Raises:
            ExecutionNotFoundError, InvalidExecutionStateError, InvalidProgressError: as `report_progress`.
        """
        context = {"stage": stage, "current_step": current_step}
        known = {name: value for name, value in context.items() if value is not None}
        await self._view(tenant_id).report_progress(job_id, percentage, message, known or None)

    def should_retry(self, job_id: UUID, error: object, attempt_number: int) -> JsonObject:
        """`should_retry`, `delay_seconds` and `reason`. Advice: nothing is done, and nothing written."""
        return advice(error, attempt_number, self._policy, chance=self._chance)

    # How it is written

    def _view(self, tenant_id: str | None) -> ExecutionService:
        own = self._service.settings.tenant_id if tenant_id is None else tenant_id
        return self._service.for_tenant(own, actor=ACTOR)

    async def _record(self, job_id: UUID, tenant_id: str, name: str, data: JsonObject) -> None:
        await self._carry_out(job_id, tenant_id, checked_fact(name, data, self._service.settings.inline_limit_bytes))

    async def _new_or_existing(self, job: Job) -> Execution:
        parameters = job.parameters(self._service.settings.inline_limit_bytes)
        create = Create(
            id=job.job_id,
            tenant_id=job.tenant_id,
            kind=KIND,
            parameters=parameters,
            schedule_to_start=self._time_limit,
            start_to_close=self._time_limit,
        )
        try:
            return await self._service.state_manager.create(create, actor=ACTOR)
        except DuplicateExecutionError:
            try:
                existing = await self._view(job.tenant_id).get_execution(job.job_id)
            except ExecutionNotFoundError:
                existing = None
            if existing is None:
                raise
            if existing.kind != KIND or not is_same_job(existing.parameters, parameters):
                raise JobIdReusedError(job.job_id) from None
            return existing

    async def _end(
        self, job_id: UUID, tenant_id: str, outcome: Outcome, facts: Sequence[Record], result: ExecutionResult | None
    ) -> None:
        try:
            await self._carry_out(job_id, tenant_id, Finish(outcome=outcome, by_holder=False), facts)
        except (ConflictError, ExecutionNotFoundError, DatabaseError) as error:
            raise JobNotRecordedError(job_id, str(error), result) from error

    async def _carry_out(
        self,
        job_id: UUID,
        tenant_id: str,
        command: Command,
        facts: Sequence[Record] = (),
        *,
        expected_version: int | None = None,
    ) -> None:
        """Write it once, however often it has to be tried: the command's id tells whether a try has come through."""
        command_id, give_up_at = new_id(), time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                await self._service.state_manager.apply(
                    job_id,
                    command,
                    expected_version=expected_version,
                    actor=ACTOR,
                    tenant_id=tenant_id,
                    command_id=command_id,
                    facts=facts,
                )
            except ExecutionServiceError as error:
                if not isinstance(error, DatabaseError) or not error.retriable or time.monotonic() > give_up_at:
                    raise
                log.warning("job.not_yet_recorded", execution_id=str(job_id), error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return
