"""Carries out durable plans: the handler of kind `steps`, which keeps the rules of the step machine across crashes.

    read the log ─► what was cut off ends ─► step.started ─► effect ─► step.ended ─┐
                    OUTCOME_UNKNOWN              ▲   durable before the effect     │
                                                 └── next step, in one append ◄────┘

The kind is declared idempotent: whoever runs it again finds in its log where it stands, and decides for each step. A
step that completed is never executed again. One that was cut off is executed again only if its handler says that twice
does no harm, or if somebody has asked for another attempt of the job; otherwise the job ends FAILED, `outcome_unknown`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from uuid import UUID

import msgspec
import structlog

from execution.domain.documents import document_size
from execution.domain.execution import JsonObject
from execution.domain.state import ExecutionState
from execution.errors import InvalidRequestError
from execution.repository.repository import ExecutionRepository
from execution.run import RunContext
from execution.steps import ending
from execution.steps.bundle import Bounds, stored_output
from execution.steps.ending import StepEnding
from execution.steps.errors import StoredOutputError
from execution.steps.frozen import freeze_object
from execution.steps.model import (
    ExecutionContext,
    HealthObserver,
    JobStatus,
    JobStep,
    StepStatus,
    StoredOutput,
)
from execution.steps.output_store import OutputStore
from execution.steps.plan import NO_CONTRACT, Plan
from execution.steps.plan_beginnings import PlanBeginnings
from execution.steps.plan_log import ENDED, STARTED, EndedStep, PlanLog, StartedStep, ended_fact, started_fact
from execution.steps.step_call import AnyStepHandler, KnownHandler

log = structlog.get_logger(__name__)

HEALTH_LIMIT = 16_384
"""Bytes of one observation that a step keeps."""
_AROUND_OUTPUT = 32_768
"""Bytes for what stands beside an output in its fact: health, error, names."""

HandlersOf = Callable[[str], Mapping[str, AnyStepHandler]]
"""The handlers of a tenant's steps, by step type."""


class StepFailedError(Exception):
    """A step did not complete, and the job ends with it."""

    error_type = "step_failed"


class StepOutcomeUnknownError(Exception):
    """A step was cut off, and is not executed again."""

    error_type = "outcome_unknown"


@dataclass(frozen=True, kw_only=True)
class PlanSurroundings:
    """What durable plans are carried out with."""

    repository: ExecutionRepository
    handlers_of: HandlersOf
    observer: HealthObserver | None = None
    """Asked on the event loop, once before and after each step: it answers at once."""
    outputs: OutputStore | None = None
    """Where outputs go that are too large for the log."""
    document_limit: int
    progress_interval: float

    @property
    def output_limit(self) -> int:
        """Bytes of an output that the log keeps."""
        return max(self.document_limit // 2, self.document_limit - _AROUND_OUTPUT)


class PlanRunner:
    """The handler of kind `steps`."""

    def __init__(
        self,
        surroundings: PlanSurroundings,
        *,
        watched: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """`watched` keeps the observer up to date while a plan is under way."""
        self._surroundings, self._watched = surroundings, watched
        self._beginnings = PlanBeginnings(surroundings.repository)

    async def run(self, context: RunContext, parameters: Plan) -> JsonObject:
        """Carry out a plan in order, each step once, with evidence of each."""
        steps = parameters.job_steps()
        async with self._watched():
            plan_log = await self._beginnings.read(context.execution, steps)
            run = PlanRun(context, plan_log, parameters.contract_id or NO_CONTRACT, self._surroundings)
            return await run.carry_out()


class PlanRun:
    """One run of a plan: from where its log says that it stands."""

    def __init__(
        self, context: RunContext, plan_log: PlanLog, contract_id: UUID, surroundings: PlanSurroundings
    ) -> None:
        self._context, self._log, self._contract_id, self._with = context, plan_log, contract_id, surroundings
        self._handlers = surroundings.handlers_of(context.tenant_id)
        self._known_handlers: dict[str, KnownHandler | None] = {}
        self._now = surroundings.repository.db.clock.now
        self._executed_by = f"worker:{context.execution.worker_id}"
        self._weights = list(accumulate((one.weight for one in plan_log.plan), initial=0.0))
        """Of so many steps, together."""
        self._health: JsonObject | None = None
        self._health = self._observe()
        self._known_health: JsonObject | None = None
        """The observation that the log has last."""
        self._reported_at = time.monotonic()

    async def carry_out(self) -> JsonObject:
        """Execute what is left of the plan; the result says how many steps there were.

        Raises:
            StepFailedError, StepOutcomeUnknownError: a step did not complete.
            StopRequested, CancelledError: it was asked to stop.
            HandedOver: its worker stops; the next one goes on with the next step.
        """
        self._end_what_was_cut_off()
        self._check_last_end()
        for step in self._log.plan[self._log.completed :]:
            await self._context.hand_over_point(f"{self._log.completed} of {len(self._log.plan)} steps are done")
            self._context.raise_if_cancelled()
            how = await self._execute(step)
            self._end(how, await self._stored(how.output))
            self._report(step)
            self._check_last_end()
        return self._summary()

    def _end_what_was_cut_off(self) -> None:
        if self._log.open is not None:
            was_asked_again = self._log.is_asked_again
            self._end(ending.unknown("it was cut off before its end was recorded; how far it came is not known"))
            self._log.is_asked_again = was_asked_again

    def _check_last_end(self) -> None:
        """The first failure ends the job (EXEC-003), also if whoever saw it died before it could say so."""
        last = self._log.ended[-1] if self._log.ended else None
        if last is None or last.succeeded or self._log.is_asked_again:
            return
        step = last.started.step
        said = f"Step {step.step_index} ({step.step_type}) {{}}: {last.error}"
        if last.status is StepStatus.FAILED:
            raise StepFailedError(said.format("failed"))
        if last.status is StepStatus.OUTCOME_UNKNOWN and not self._may_be_repeated(step):
            raise StepOutcomeUnknownError(said.format("has an unknown outcome, and is not executed again"))

    def _may_be_repeated(self, step: JobStep) -> bool:
        handler = self._handler_of(step)
        return handler is not None and handler.identity.idempotent

    def _handler_of(self, step: JobStep) -> KnownHandler | None:
        try:
            return self._known_handlers[step.step_type]
        except KeyError:
            handler = self._handlers.get(step.step_type)
            known = self._known_handlers[step.step_type] = None if handler is None else KnownHandler(handler)
            return known

    async def _execute(self, step: JobStep) -> StepEnding:
        handler = self._handler_of(step)
        started = self._start(step, handler)
        try:
            await self._context.recorded()
            if self._context.execution.state is ExecutionState.CANCELLING:
                await asyncio.Event().wait()  # the worker has not told this run yet; it is about to
        except asyncio.CancelledError:
            self._end(ending.cancelled("it was stopped before it began"))
            raise
        if handler is None:
            return ending.without_handler(step.step_type, self._handlers)
        context = self._context_of(started)
        if handler.returns_at_once:
            return ending.ending_of(handler.caught(step, context))
        try:
            return ending.ending_of(await handler.call(step, context, lambda: self._context.cancelled))
        except asyncio.CancelledError:
            self._end(self._cut_off())
            raise

    def _start(self, step: JobStep, handler: KnownHandler | None) -> StartedStep:
        started = StartedStep(
            step=step,
            attempt=self._log.attempts(step) + 1,
            started_at=self._now(),
            executed_by=self._executed_by,
            handler=handler.identity if handler is not None else None,
            health_before=self._health,
        )
        self._context.record_own(STARTED, started_fact(started, self._known_health))
        self._known_health = started.health_before
        self._log.start(started)
        return started

    def _end(self, how: StepEnding, stored: StoredOutput | None = None) -> None:
        """Say how the step that is open has ended. It is written with what is said next: before the next one starts."""
        started = self._log.open
        assert started is not None  # a step ends once, after it was started
        completed_at, self._health = self._now(), self._observe()
        ended = EndedStep(
            started=started,
            status=how.status,
            completed_at=completed_at,
            output=None if stored else how.output,
            stored_output=stored,
            error=how.error,
            health_after=self._health,
        )
        self._log.end(self._recorded(ended))
        self._known_health = ended.health_after

    def _recorded(self, ended: EndedStep) -> EndedStep:
        try:
            self._context.record_own(ENDED, ended_fact(ended, self._known_health))
        except InvalidRequestError as refusal:
            failure = ending.failed(f"what the handler said of the step cannot be recorded: {refusal}")
            ended = msgspec.structs.replace(
                ended, status=failure.status, output=None, stored_output=None, error=failure.error
            )
            self._context.record_own(ENDED, ended_fact(ended, self._known_health))
        return ended

    async def _stored(self, output: JsonObject | None) -> StoredOutput | None:
        """Where an output is that is too large for the log; None: it is not."""
        if not output or document_size(output) <= self._with.output_limit:
            return None
        store = partial(stored_output, output)
        try:
            return await asyncio.to_thread(store, Bounds(inline_limit=0, store=self._with.outputs))
        except (StoredOutputError, asyncio.CancelledError) as error:  # the step is done: its output is measured only
            log.warning("steps.output_not_kept", execution_id=str(self._context.execution_id), error=str(error))
            return store(Bounds(inline_limit=0))

    def _cut_off(self) -> StepEnding:
        if self._context.execution.state is ExecutionState.CANCELLING:
            return ending.cancelled("it was cancelled; how far it came is not known")
        return ending.unknown("it was cut off by the stop of its worker or a time limit; how far it came is not known")

    def _observe(self) -> JsonObject | None:
        if self._with.observer is None:
            return None
        try:
            health = freeze_object(self._with.observer.observe_health(), "the observed health")
        except Exception as raised:  # noqa: BLE001 - an observer may raise anything, and the job goes on without it
            return ending.unseen(raised)
        if health is not self._health and document_size(health) > HEALTH_LIMIT:
            return ending.unseen(ValueError(f"the observation has more than {HEALTH_LIMIT:,} bytes"))
        return health

    def _context_of(self, started: StartedStep) -> ExecutionContext:
        return ExecutionContext(
            job_id=self._context.execution_id,
            contract_id=self._contract_id,
            step_index=started.step.step_index,
            step_type=started.step.step_type,
            target=started.step.target,
            executed_by=self._log.submitted_by,
            started_at=started.started_at,
            health=started.health_before,
        )

    def _report(self, step: JobStep) -> None:
        done, now = self._log.completed, time.monotonic()
        is_over = done == len(self._log.plan) or not self._log.ended[-1].succeeded
        if not is_over and now - self._reported_at < self._with.progress_interval:
            return
        self._reported_at = now
        steps = len(self._log.plan)
        percentage = 100.0 * self._weights[done] / self._weights[-1] if done < steps else 100.0
        self._context.progress(percentage, f"{done} of {steps} steps", {"step_index": step.step_index})

    def _summary(self) -> JsonObject:
        executed = len(self._log.ended)
        status, reason = ending.job_end([one.result() for one in self._log.ended[-1:]])
        assert status is JobStatus.COMPLETED
        return {
            "final_status": status.value,
            "final_reason": reason,
            "execution_summary": {
                "steps_executed": executed,
                "steps_succeeded": self._log.completed,
                "steps_failed": executed - self._log.completed,
            },
        }
