"""The step machine: executes the steps of a plan in order, and records what happened. It decides nothing.

What holds, and by what:

    EXEC-001  steps are executed in declared order     one loop over a plan that is a tuple
    EXEC-002  each executed step leaves evidence       a StepResult is made whatever its handler does
    EXEC-003  the first failure stops the job          the loop ends there
    EXEC-004  health is observed, never modified       only frozen copies of an observation are handed on
    EXEC-005  no contract or plan is modified          steps are frozen, inside too; a contract is only an id
    EXEC-006  nothing is retried                       a handler is called in one place, once per step

An import contract keeps repository, service and bus out of reach (pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from execution.clock import DatabaseClock
from execution.domain.execution import JsonObject
from execution.domain.text import storable
from execution.steps.ending import (
    Raised,
    StepEnding,
    ending_of,
    interrupt_of,
    job_end,
    text_of,
    unseen,
    without_handler,
)
from execution.steps.frozen import freeze_object
from execution.steps.model import (
    ExecutionContext,
    ExecutionResult,
    HandlerIdentity,
    HealthObserver,
    JobStatus,
    JobStep,
    StepHandler,
    StepResult,
    checked_plan,
    identity_of,
)

EXECUTOR_VERSION = "1.0.0"


class JobExecutor:
    """Executes jobs step by step. It keeps nothing of a job, so one executor may serve several threads."""

    def __init__(
        self, handlers: Mapping[str, StepHandler] | None = None, executor_version: str = EXECUTOR_VERSION
    ) -> None:
        self._version = executor_version
        self._handlers: dict[str, _Registered] = {}
        for step_type, handler in (handlers or {}).items():
            self.register_handler(step_type, handler)

    @property
    def version(self) -> str:
        """The executor's version, as evidence names it."""
        return self._version

    def register_handler(self, step_type: str, handler: StepHandler) -> None:
        """Let the handler execute the steps of that type, from the next job on; it replaces the one before."""
        if not isinstance(step_type, str) or not step_type:
            raise TypeError(f"a step type is a text that is not empty, not {step_type!r}")
        if isinstance(handler, type) or not callable(getattr(handler, "execute", None)):
            raise TypeError(f"the handler of {step_type!r} must be an object with a method execute(step, context)")
        self._handlers[step_type] = _Registered(handler, identity_of(handler))

    def execute_job(
        self,
        job_id: UUID,
        contract_id: UUID,
        steps: Iterable[JobStep],
        health_observer: HealthObserver | None = None,
        executed_by: str = "executor",
    ) -> ExecutionResult:
        """Execute the steps until one of them fails; the result holds the evidence of each that was begun.

        A handler that raises, returns anything but a `StepOutput`, or is missing makes its step FAILED and raises
        nothing here. What is no `Exception` (KeyboardInterrupt, SystemExit) is addressed to whoever is outside of the
        job: the step it cut off becomes OUTCOME_UNKNOWN, and it goes on with the evidence (`interrupted_result`).

        Raises:
            InvalidPlanError: the steps are not in the order of their indices; none was executed.
        """
        run = _Run(
            handlers=dict(self._handlers),
            observer=health_observer,
            job_id=job_id,
            contract_id=contract_id,
            executed_by=storable(executed_by),
        )
        plan = checked_plan(steps)
        run.execute(plan)
        result = run.result(plan, self._version)
        if run.interrupt is not None:
            setattr(run.interrupt, _RESULT, result)
            raise run.interrupt
        return result


def interrupted_result(interrupt: BaseException) -> ExecutionResult | None:
    """The evidence of the job that a KeyboardInterrupt or SystemExit cut off, if it came out of `execute_job`."""
    result = getattr(interrupt, _RESULT, None)
    return result if isinstance(result, ExecutionResult) else None


_RESULT = "_execution_result"


@dataclass(frozen=True, slots=True)
class _Registered:
    handler: StepHandler
    identity: HandlerIdentity


class _Run:
    """One job being carried out."""

    def __init__(
        self,
        *,
        handlers: Mapping[str, _Registered],
        observer: HealthObserver | None,
        job_id: UUID,
        contract_id: UUID,
        executed_by: str,
    ) -> None:
        self._handlers, self._observer = handlers, observer
        self._job_id, self._contract_id, self._executed_by = job_id, contract_id, executed_by
        # By no database's answer: the machine has none. A clock of its own for each job does not jump within it.
        self._now = DatabaseClock().now
        self._started_at = self._now()
        self._results: list[StepResult] = []
        self.interrupt: BaseException | None = None
        self._health_before = self._health = self._observe()

    def execute(self, plan: Iterable[JobStep]) -> None:
        for step in plan:
            if self.interrupt is None:
                self._results.append(self._execute_step(step))
            if self.interrupt is not None or not self._results[-1].succeeded:
                break

    def result(self, plan: tuple[JobStep, ...], executor_version: str) -> ExecutionResult:
        status, reason = self._end()
        return ExecutionResult(
            job_id=self._job_id,
            contract_id=self._contract_id,
            executed_by=self._executed_by,
            executor_version=executor_version,
            steps=plan,
            step_results=tuple(self._results),
            final_status=status,
            final_reason=reason,
            started_at=self._started_at,
            completed_at=self._now(),
            health_before=self._health_before,
            health_after=self._health,
        )

    def _execute_step(self, step: JobStep) -> StepResult:
        started_at, health_before = self._now(), self._health
        registered = self._handlers.get(step.step_type)
        ending = self._end_of_step(step, registered, started_at)
        completed_at = self._now()
        self._health = self._observe()
        return StepResult(
            step=step,
            status=ending.status,
            started_at=started_at,
            completed_at=completed_at,
            executed_by=self._executed_by,
            handler=registered.identity if registered else None,
            output=ending.output,
            error=ending.error,
            health_before=health_before,
            health_after=self._health,
        )

    def _end_of_step(self, step: JobStep, registered: _Registered | None, started_at: datetime) -> StepEnding:
        if registered is None:
            return without_handler(step.step_type, self._handlers)
        context = ExecutionContext(
            job_id=self._job_id,
            contract_id=self._contract_id,
            step_index=step.step_index,
            step_type=step.step_type,
            target=step.target,
            executed_by=self._executed_by,
            started_at=started_at,
            health=self._health,
        )
        returned = _invoke(registered.handler, step, context)
        if isinstance(returned, Raised):
            self.interrupt = interrupt_of(returned.exception)
        return ending_of(returned)

    def _end(self) -> tuple[JobStatus, str]:
        status, reason = job_end(self._results)
        if status is JobStatus.COMPLETED and self.interrupt is not None:
            return JobStatus.FAILED, f"Cut off between steps by {text_of(self.interrupt)}"
        return status, reason

    def _observe(self) -> JsonObject | None:
        """What the observer sees, as a frozen copy. That it cannot see is an observation, too, and stops nothing."""
        if self._observer is None or self.interrupt is not None:
            return None
        try:
            return freeze_object(self._observer.observe_health(), "the observed health")
        except BaseException as raised:  # noqa: BLE001 - an observer may raise anything, and the job goes on without it
            self.interrupt = interrupt_of(raised)
            return unseen(raised)


def _invoke(handler: StepHandler, step: JobStep, context: ExecutionContext) -> object:
    """The only call of a handler."""
    try:
        return handler.execute(step, context)
    except BaseException as raised:  # noqa: BLE001 - whatever it is, the step ends with it and leaves evidence
        return Raised(raised)
