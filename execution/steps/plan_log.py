"""What the log of a durable plan says: which steps were begun, how they ended, and where the plan stands.

    step.started  {step_index, step_type, attempt, handler, health_before}             before anything of it is done
    step.ended    {step_index, step_type, attempt, status, started_at, completed_at,
                   output, stored_output, error, health_after}                         before the next one is started

What is null is left out; so is an observation of the health that is the one before. Only what a worker wrote counts.
A step that was started and has not ended was cut off.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from execution.domain.events import EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.repository.repository import ExecutionRepository
from execution.steps.frozen import MAX_SAFE_INTEGER, freeze_object, thaw
from execution.steps.model import HandlerIdentity, JobStep, StepResult, StepStatus, StoredOutput

STARTED, ENDED = "step.started", "step.ended"
_PAGE = 200


class StartedStep(Struct, frozen=True, kw_only=True, gc=False):
    """A step that was begun."""

    step: JobStep
    attempt: int
    started_at: datetime
    executed_by: str
    handler: HandlerIdentity | None
    health_before: JsonObject | None


class EndedStep(Struct, frozen=True, kw_only=True, gc=False):
    """A step that was begun and has ended: what its result is made of, once somebody asks for it."""

    started: StartedStep
    status: StepStatus
    completed_at: datetime
    output: JsonObject | None = None
    stored_output: StoredOutput | None = None
    error: str | None = None
    health_after: JsonObject | None = None

    @property
    def succeeded(self) -> bool:
        """Was the step completed?"""
        return self.status is StepStatus.COMPLETED

    def result(self) -> StepResult:
        """It as evidence."""
        started = self.started
        return StepResult(
            step=started.step,
            status=self.status,
            started_at=started.started_at,
            completed_at=self.completed_at,
            executed_by=started.executed_by,
            handler=started.handler,
            output=self.output,
            error=self.error,
            stored_output=self.stored_output,
            attempt=started.attempt,
            health_before=started.health_before,
            health_after=self.health_after,
        )


class PlanLog:
    """The steps of one execution of a plan, as its log tells of them."""

    def __init__(self, plan: tuple[JobStep, ...]) -> None:
        self.plan = plan
        self.ended: list[EndedStep] = []
        """Each execution of a step that has ended, in order."""
        self.open: StartedStep | None = None
        """The step that was begun, and of whose end nothing is said."""
        self.is_asked_again = False
        """Did somebody ask for another attempt since the last step ended? Then that one may be executed again."""
        self.submitted_by = "unknown"
        self.started_at: datetime | None = None
        self.reason: str | None = None
        """Why it is in its last state."""
        self.completed = 0
        """How many steps are done: those before the next one."""
        self._health: JsonObject | None = None
        self._attempts: dict[int, int] = {}
        self._version = 0

    @classmethod
    async def read(cls, repository: ExecutionRepository, execution_id: UUID, plan: tuple[JobStep, ...]) -> PlanLog:
        """Read it."""
        log = cls(plan)
        while page := await repository.get_history(execution_id, after_version=log._version, limit=_PAGE):
            for item in page:
                log.take(item)
            if len(page) < _PAGE:
                break
        return log

    def results(self) -> list[StepResult]:
        """Each execution of a step that has ended, as evidence; made anew by each call."""
        return [one.result() for one in self.ended]

    def attempts(self, step: JobStep) -> int:
        """How often the step was begun."""
        return self._attempts.get(step.step_index, 0)

    def take(self, item: HistoryItem) -> None:
        """The next entry."""
        self._version = item.version
        if item.version == 1:
            self.submitted_by = item.actor or "unknown"
        if item.type == EventType.STATE_CHANGED:
            self._take_change(item)
        elif item.type == EventType.RECORDED and (item.actor or "").startswith("worker:"):
            if item.data["name"] == STARTED:
                self.start(self._started(item))
            elif item.data["name"] == ENDED and self.open is not None:
                self.end(self._ended(item.data["data"], self.open))

    def start(self, started: StartedStep) -> None:
        """A step begins."""
        self.open, self.is_asked_again = started, False
        self._attempts[started.step.step_index] = started.attempt

    def end(self, ended: EndedStep) -> None:
        """The step that was begun has ended."""
        self.ended.append(ended)
        self.completed += ended.succeeded
        self.open, self.is_asked_again = None, False

    def _take_change(self, item: HistoryItem) -> None:
        state = item.data["new_state"]
        self.reason = item.data.get("reason")
        if state == ExecutionState.RUNNING and self.started_at is None:
            self.started_at = item.occurred_at
        # A retry follows an end; a policy's names the error that it follows. A rescue does neither.
        ended = item.data["previous_state"] in (ExecutionState.FAILED, ExecutionState.CANCELLED)
        if state == ExecutionState.PENDING and (ended or item.data.get("error")):
            self.is_asked_again = True

    def _started(self, item: HistoryItem) -> StartedStep:
        data: JsonObject = item.data["data"]
        return StartedStep(
            step=self.plan[data["step_index"]],
            attempt=data["attempt"],
            started_at=item.occurred_at,
            executed_by=item.actor or "unknown",
            handler=HandlerIdentity(**data["handler"]) if "handler" in data else None,
            health_before=self._observed(data.get("health_before")),
        )

    def _observed(self, health: JsonObject | None) -> JsonObject | None:
        if health is not None:
            self._health = _restored(health)
        return self._health

    def _ended(self, data: JsonObject, started: StartedStep) -> EndedStep:
        stored = data.get("stored_output")
        return EndedStep(
            started=msgspec.structs.replace(started, started_at=datetime.fromisoformat(data["started_at"])),
            status=StepStatus(data["status"]),
            completed_at=datetime.fromisoformat(data["completed_at"]),
            output=_restored(data.get("output")),
            error=data.get("error"),
            stored_output=StoredOutput(**stored) if stored else None,
            health_after=self._observed(data.get("health_after")),
        )


def started_fact(started: StartedStep, known_health: JsonObject | None) -> JsonObject:
    """The data of `step.started`; `known_health` is what the log has last."""
    step, handler, health = started.step, started.handler, started.health_before
    data: JsonObject = {"step_index": step.step_index, "step_type": step.step_type, "attempt": started.attempt}
    if handler is not None:
        data["handler"] = {"name": handler.name, "version": handler.version, "idempotent": handler.idempotent}
    if health is not None and health is not known_health:
        data["health_before"] = health
    return data


def ended_fact(ended: EndedStep, known_health: JsonObject | None) -> JsonObject:
    """The data of `step.ended`; `known_health` is what the log has last."""
    started = ended.started
    data: JsonObject = {
        "step_index": started.step.step_index,
        "step_type": started.step.step_type,
        "attempt": started.attempt,
        "status": ended.status,
        "started_at": started.started_at,
        "completed_at": ended.completed_at,
    }
    if ended.output is not None:
        data["output"] = ended.output
    if ended.stored_output is not None:
        data["stored_output"] = asdict(ended.stored_output)
    if ended.error is not None:
        data["error"] = ended.error
    if ended.health_after is not None and ended.health_after is not known_health:
        data["health_after"] = ended.health_after
    return data


def plan_in(execution: Execution) -> tuple[JobStep, ...]:
    """The steps that an execution's parameters declare."""
    names = ("step_type", "target", "parameters", "timeout_seconds", "weight")
    return tuple(
        JobStep(index, **{name: one[name] for name in names if name in one})
        for index, one in enumerate(execution.parameters["steps"])
    )


def _restored(value: JsonObject | None) -> JsonObject | None:
    """A document as it was before PostgreSQL made an integer of each whole number, however large."""
    return None if value is None else freeze_object(_with_large_floats(thaw(value)), "a document of the log")


def _with_large_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_large_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_large_floats(inner) for inner in value]
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return float(value)
    return value
