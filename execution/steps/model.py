"""What a job of steps is made of, and what carrying it out leaves behind. Everything here is frozen, inside too."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from execution.domain.execution import JsonObject
from execution.steps.errors import InvalidPlanError
from execution.steps.frozen import EMPTY, freeze_object, is_sayable


class StepStatus(StrEnum):
    """Where a step is. The synchronous machine leaves only ended ones behind."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """It was cut off from outside, and nobody knows how far it came."""


class JobStatus(StrEnum):
    """How a job ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class JobStep:
    """One step of a plan, as declared. Whatever is given as `parameters` is copied and frozen.

    Raises:
        InvalidPlanError, InvalidDocumentError: a value that no step can have.
    """

    step_index: int
    step_type: str
    """Names the handler."""
    target: str = ""
    """What the step is about, such as the capability that it enables."""
    parameters: JsonObject = EMPTY
    timeout_seconds: float | None = None
    """How long it may take. The synchronous machine cannot cut a handler off: keeping to it is the handler's part."""
    weight: float = 1.0
    """Its share of the job's progress, in proportion to the other steps' weights."""

    def __post_init__(self) -> None:
        place = f"step {self.step_index!r}"
        if not _is_index(self.step_index):
            raise InvalidPlanError(place, "step_index must be an integer from 0")
        if not _is_text(self.step_type) or not self.step_type:
            raise InvalidPlanError(place, "step_type must name a handler")
        if not _is_text(self.target):
            raise InvalidPlanError(place, f"target must be a text, not {self.target!r}")
        for name, value in (("timeout_seconds", self.timeout_seconds), ("weight", self.weight)):
            if value is not None and not _is_positive(value):
                raise InvalidPlanError(place, f"{name} must be a number above 0, not {value!r}")
        object.__setattr__(self, "parameters", freeze_object(self.parameters, f"parameters of {place}"))


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a handler says about the step it executed. Whatever is given as `output` is copied and frozen.

    Raises:
        TypeError: `success` is not a truth value, or `error` not a text.
        InvalidDocumentError: `output` is not an object that JSON can say.
    """

    success: bool
    output: JsonObject = EMPTY
    error: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.success, bool):
            raise TypeError(f"success must be True or False, not {self.success!r}")
        if self.error is not None and not isinstance(self.error, str):
            raise TypeError(f"error must be a text, not of type {type(self.error).__name__}")
        object.__setattr__(self, "output", freeze_object(self.output, "the output of a step"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionContext:
    """What a handler may know about the job. Nothing in it can change the job, its contract, or the health."""

    job_id: UUID
    contract_id: UUID
    step_index: int
    step_type: str
    target: str
    executed_by: str
    started_at: datetime
    health: JsonObject | None = None
    """The last observation before the step, read-only; None where nobody observes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandlerIdentity:
    """Which handler executed a step: its attributes `name` and `version`, if it has them."""

    name: str
    version: str
    idempotent: bool = False
    """Does it declare that executing a step twice does no harm?"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredOutput:
    """Where an output is that is too large to be kept inline, and what it must be."""

    digest: str
    """`sha256:` and 64 hexadecimal digits, of the output as canonical JSON (RFC 8785)."""
    size: int
    """Bytes as canonical JSON."""
    place: str | None
    """Its name in the store; None: it was not kept, only measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """Evidence of one executed step."""

    step: JobStep
    status: StepStatus
    started_at: datetime
    completed_at: datetime
    executed_by: str
    handler: HandlerIdentity | None
    """None: there was no handler for the step."""
    output: JsonObject | None
    """None: the step has left no usable output, or `stored_output` says where it is."""
    error: str | None = None
    stored_output: StoredOutput | None = None
    attempt: int = 1
    """Above 1 in durable plans only: the same step again, after an execution of it that did not complete."""
    health_before: JsonObject | None = None
    health_after: JsonObject | None = None

    @property
    def step_index(self) -> int:
        """The place of the step in its plan."""
        return self.step.step_index

    @property
    def succeeded(self) -> bool:
        """Was the step completed?"""
        return self.status is StepStatus.COMPLETED


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionResult:
    """How a job ended, with the evidence of each step that was executed."""

    job_id: UUID
    contract_id: UUID
    executed_by: str
    executor_version: str
    steps: tuple[JobStep, ...]
    """The plan, whole: also what was not executed."""
    step_results: tuple[StepResult, ...]
    final_status: JobStatus
    final_reason: str
    started_at: datetime
    completed_at: datetime
    health_before: JsonObject | None = None
    health_after: JsonObject | None = None

    @property
    def steps_executed(self) -> int:
        """How many times a step was begun."""
        return len(self.step_results)

    @property
    def steps_succeeded(self) -> int:
        """How many were completed."""
        return sum(one.succeeded for one in self.step_results)

    @property
    def steps_failed(self) -> int:
        """How many were begun and not completed."""
        return self.steps_executed - self.steps_succeeded

    @property
    def duration_seconds(self) -> float:
        """From the first observation of health to the last."""
        return (self.completed_at - self.started_at).total_seconds()


class HealthObserver(Protocol):
    """Observes health and never changes it."""

    def observe_health(self) -> JsonObject:
        """The health right now, as a JSON object. The caller keeps a read-only copy."""


class StepHandler(Protocol):
    """Executes the steps of one type.

    It is called once per step and never again for the same one. Whatever it raises ends the job: there is no retry.
    Optional attributes: `name` and `version` go into the evidence; `idempotent = True` declares that executing a step
    twice does no harm, so a durable plan may repeat one that was cut off; `blocks = False`, that it returns at once, so
    a durable plan need not give it a thread.
    """

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Execute the step."""


class AsyncStepHandler(Protocol):
    """Like `StepHandler`, for durable plans only: it is awaited, and can be cancelled where it awaits."""

    def execute(self, step: JobStep, context: ExecutionContext) -> Awaitable[StepOutput]:
        """Execute the step."""


def identity_of(handler: StepHandler | AsyncStepHandler) -> HandlerIdentity:
    """Who a handler says it is; without a word of its own it is its class, at version "unversioned"."""
    kind = type(handler)
    return HandlerIdentity(
        name=str(getattr(handler, "name", None) or f"{kind.__module__}.{kind.__qualname__}"),
        version=str(getattr(handler, "version", None) or "unversioned"),
        idempotent=getattr(handler, "idempotent", False) is True,
    )


def checked_plan(steps: Iterable[JobStep]) -> tuple[JobStep, ...]:
    """The steps as a plan. Their order is the order they are declared in, and their indices have to agree with it.

    Raises:
        InvalidPlanError: something that is no step, or an index that is not above the one before it.
    """
    plan = tuple(steps)
    last = -1
    for position, step in enumerate(plan):
        if not isinstance(step, JobStep):
            raise InvalidPlanError(f"position {position}", f"it holds a {type(step).__name__}, not a JobStep")
        if step.step_index <= last:
            raise InvalidPlanError(
                f"position {position}", f"step {step.step_index} is declared after step {last}; number them in order"
            )
        last = step.step_index
    return plan


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_sayable(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
