"""`CoordinatedJobExecutor`: the step machine with an audit trail, scopes, progress and advice around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from uuid import UUID

import structlog

from execution.domain.execution import JsonObject
from execution.errors import ExecutionServiceError
from execution.service import ExecutionService
from execution.shielded import to_its_end
from execution.steps.coordination_errors import JobNotRecordedError
from execution.steps.coordinator import ExecutionCoordinator
from execution.steps.current_service import current_service
from execution.steps.default_handlers import NoOpHandler
from execution.steps.job import Job, checked_id, checked_name
from execution.steps.machine import EXECUTOR_VERSION, JobExecutor, interrupted_result
from execution.steps.model import ExecutionResult, HealthObserver, JobStep, StepHandler
from execution.steps.scope_gate import ScopedAction
from execution.steps.step_progress import StepProgress

log = structlog.get_logger(__name__)


class CoordinatedJobExecutor(JobExecutor):
    """Executes jobs in a thread, and records them in the log of an execution whose id is the job's.

    A job is executed once: whoever delivers it again is given its first outcome. A step that runs cannot be stopped, so
    whoever is cancelled meanwhile waits for the job's end, which is recorded; long jobs belong into durable plans.
    """

    def __init__(
        self,
        coordinator: ExecutionCoordinator,
        handlers: Mapping[str, StepHandler] | None = None,
        executor_version: str = EXECUTOR_VERSION,
    ) -> None:
        self.coordinator = coordinator
        self._registered: dict[str, StepHandler] = {}
        super().__init__(handlers, executor_version)

    def register_handler(self, step_type: str, handler: StepHandler) -> None:
        """Let the handler execute the steps of that type, from the next job on; it replaces the one before."""
        super().register_handler(step_type, handler)
        self._registered[step_type] = handler

    async def execute_job_with_audit(
        self,
        job_id: UUID,
        tenant_id: str,
        contract_id: UUID,
        steps: Iterable[JobStep],
        handler: str,
        *,
        health_observer: HealthObserver | None = None,
        executed_by: str | None = None,
    ) -> ExecutionResult:
        """Execute a job with its audit trail; `handler` names who handles it. A failed step is a result, not an error.

        Raises:
            InvalidPlanError, InvalidDocumentError, DocumentTooLargeError: nothing was begun.
            JobInProgressError, JobIdReusedError: another delivery of it is under way; it is another job.
            JobNotRecordedError: it was executed, and its end is not in the log; the error has the result.
            DatabaseError: it was not begun, or nobody knows; deliver it again.
        """
        job = Job.checked(job_id, tenant_id, contract_id, steps, handler=handler, executed_by=executed_by)
        result, _ = await to_its_end(self._execute(job, health_observer))
        return result

    async def execute_scoped_job(  # noqa: PLR0917 - the order of the seed
        self,
        job_id: UUID,
        tenant_id: str,
        incident_id: str | UUID,
        action: str,
        contract_id: UUID,
        steps: Iterable[JobStep],
        *,
        scope_id: UUID | None = None,
        handler: str = "scoped_job",
        health_observer: HealthObserver | None = None,
        executed_by: str | None = None,
    ) -> tuple[ExecutionResult, JsonObject]:
        """The same of a job whose action has to pass the risk gate first; also says under which scope it passed.

        Without `scope_id`, any scope will do that was granted for this tenant, incident and action.

        Raises:
            ScopeRefusedError: one of its kinds; no step was executed, and the job's log says why.
            Others as `execute_job_with_audit`.
        """
        wanted = ScopedAction(
            tenant_id=checked_name(tenant_id, "tenant_id"),
            incident_id=checked_name(incident_id, "incident_id"),
            action=checked_name(action, "action"),
            scope_id=None if scope_id is None else checked_id(scope_id, "scope_id"),
        )
        job = Job.checked(
            job_id, tenant_id, contract_id, steps, handler=handler, executed_by=executed_by, wanted=wanted
        )
        return await to_its_end(self._execute(job, health_observer))

    def get_retry_advice(self, job_id: UUID, error: object, attempt_number: int = 1) -> JsonObject:
        """`should_retry`, `delay_seconds`, `reason` for a job that ended with an error. Advice only (EXEC-006)."""
        return self.coordinator.should_retry(job_id, error, attempt_number)

    async def track_job_progress(
        self,
        job_id: UUID,
        percentage: float,
        stage: str | None = None,
        message: str | None = None,
        current_step: int | None = None,
        *,
        tenant_id: str | None = None,
    ) -> None:
        """Record how far a job is, beside what its steps report by themselves; as `ExecutionCoordinator`."""
        await self.coordinator.track_progress(job_id, percentage, stage, message, current_step, tenant_id=tenant_id)

    async def _execute(self, job: Job, observer: HealthObserver | None) -> tuple[ExecutionResult, JsonObject]:
        if not await self.coordinator.emit_audit_created(job):
            outcome = await self.coordinator.outcome(job)
            return outcome.result(), outcome.scope_info()
        run = partial(self._run, job, observer)
        scope_info: JsonObject
        try:
            if job.wanted is None:
                result, scope_info = await run(), {}
            else:
                result, scope_info = await self.coordinator.execute_with_scope(job.job_id, job.wanted, run)
        except BaseException as failure:
            await self._record_failure(job, failure)
            raise
        await self.coordinator.emit_audit_completed(job.job_id, job.tenant_id, result)
        return result, scope_info

    async def _record_failure(self, job: Job, failure: BaseException) -> None:
        """What ended the job is what its caller is told, also if the log cannot be told."""
        try:
            await self.coordinator.emit_audit_failed(job.job_id, job.tenant_id, failure)
        except JobNotRecordedError as error:
            log.warning("job.not_recorded", execution_id=str(job.job_id), error=str(error))

    async def _run(self, job: Job, observer: HealthObserver | None) -> ExecutionResult:
        """The machine, in a thread: its handlers may block."""

        async def report(percentage: float, step: JobStep) -> None:
            try:
                await self.coordinator.track_progress(
                    job.job_id, percentage, step.step_type, current_step=step.step_index, tenant_id=job.tenant_id
                )
            except ExecutionServiceError as error:
                log.warning("job.progress_not_recorded", execution_id=str(job.job_id), error=str(error))

        progress = StepProgress(job.plan, report, self.coordinator.progress_interval)
        machine = JobExecutor(progress.watched(self._registered), self.version)
        async with progress.reported():
            return await asyncio.to_thread(_executed, machine, job, observer)


def _executed(machine: JobExecutor, job: Job, observer: HealthObserver | None) -> ExecutionResult:
    """The job's result; what asks a thread to end (SystemExit) ends the job, which has evidence of it."""
    try:
        return machine.execute_job(job.job_id, job.contract_id, job.plan, observer, job.executed_by)
    except BaseException as raised:
        result = interrupted_result(raised)
        if result is None:
            raise
        return result


def create_coordinated_executor(
    service: ExecutionService | None = None, *, coordinator: ExecutionCoordinator | None = None
) -> CoordinatedJobExecutor:
    """A coordinated executor whose handlers do nothing; those that do something are registered in their place.

    It records with `service`, or with that of `using_service`; nothing is opened or written before a job is executed.

    Raises:
        NoServiceError: there is neither.
    """
    if coordinator is None:
        coordinator = ExecutionCoordinator(current_service() if service is None else service)
    no_op = NoOpHandler()
    return CoordinatedJobExecutor(
        coordinator, dict.fromkeys(("noop", "capability_enable", "capability_disable"), no_op)
    )
